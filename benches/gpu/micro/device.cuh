// The device half: what kernels for every GPU and those for sm_90a share.

#pragma once

#include "shared.h"

namespace common {

__device__ __forceinline__ uint64_t clock64_now() {
    uint64_t t;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(t) :: "memory");
    return t;
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ uint32_t sum_of(uint4 v) {
    return v.x + v.y + v.z + v.w;
}

// The sum over the block, in thread 0.
__device__ __forceinline__ uint32_t block_sum(uint32_t value) {
    __shared__ uint32_t of_warp[32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    uint32_t sum = 0;
    if (threadIdx.x == 0) {
        for (uint32_t w = 0; w < blockDim.x / 32; w++) sum += of_warp[w];
    }
    return sum;
}

// Bytes from a tile's start at which a 16-byte chunk of a row of 128 bytes lies: the 128-byte swizzle of TMA and wgmma.
__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t chunk) {
    return row * 128 + ((chunk ^ row % 8) << 4);
}

// A warp's part of a 16-row A tile and an 8-row B tile whose rows are 32 bytes of depth: 16 f16 or 32 e4m3 values. The
// registers of mma and of wgmma's A operand hold the same bytes for both types. `step`: bytes from row to row.
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const char* tile, uint32_t step) {
    const uint32_t lane = threadIdx.x % 32;
    const char* from = tile + lane / 4 * step + lane % 4 * 4;
    a[0] = *reinterpret_cast<const uint32_t*>(from);
    a[1] = *reinterpret_cast<const uint32_t*>(from + 8 * step);
    a[2] = *reinterpret_cast<const uint32_t*>(from + 16);
    a[3] = *reinterpret_cast<const uint32_t*>(from + 8 * step + 16);
}

__device__ __forceinline__ void load_b(uint32_t (&b)[2], const char* tile, uint32_t step) {
    const uint32_t lane = threadIdx.x % 32;
    const char* from = tile + lane / 4 * step + lane % 4 * 4;
    b[0] = *reinterpret_cast<const uint32_t*>(from);
    b[1] = *reinterpret_cast<const uint32_t*>(from + 16);
}

// Where element i of a warp's accumulators lies: mma m16n8 and wgmma m64nN alike.
__device__ __forceinline__ uint32_t row_of(int i) {
    return threadIdx.x % 32 / 4 + (i / 2 % 2) * 8;
}

__device__ __forceinline__ uint32_t column_of(int i) {
    return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
}

__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// bits: each warp makes 16 rows of a tile by mma.sync; a block is one tile.
template <typename Mma>
__device__ __forceinline__ void mma_tile(const char* a, const char* b, const float* c, float* d, Mma mma) {
    const uint32_t warp = threadIdx.x / 32, tile = blockIdx.x;
    uint32_t fragment_a[4], fragment_b[2];
    load_a(fragment_a, a + (tile * BIT_ROWS + warp * 16) * BIT_DEPTH_BYTES, BIT_DEPTH_BYTES);
    load_b(fragment_b, b + tile * BIT_COLUMNS * BIT_DEPTH_BYTES, BIT_DEPTH_BYTES);
    float sums[4];
    const uint32_t first = (tile * BIT_ROWS + warp * 16) * BIT_COLUMNS;
#pragma unroll
    for (int i = 0; i < 4; i++) sums[i] = c[first + row_of(i) * BIT_COLUMNS + column_of(i)];
    mma(sums, fragment_a, fragment_b);
#pragma unroll
    for (int i = 0; i < 4; i++) d[first + row_of(i) * BIT_COLUMNS + column_of(i)] = sums[i];
}

} // namespace common

using namespace common;
