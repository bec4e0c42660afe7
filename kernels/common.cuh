// What every kernel file includes: what kernels declare (spec.cuh), planned mistakes for the tests, small helpers, tiles in shared
// memory.
#pragma once

#include "ptx.cuh"
#include "spec.cuh"

// Tests compile a kernel with -DMUTANT=n to make its n-th planned mistake; each must be caught. 0: the kernel as it is.
#ifndef MUTANT
#define MUTANT 0
#endif

__host__ __device__ constexpr bool mutant(int n) {
    return MUTANT == n;
}

// How every kernel begins, before it touches global memory, so that it may be launched while the one before it in the stream runs
// (`Stream::launch` of src/device/cuda/driver/function.rs). When it is past this all earlier ones have ended, since the one before
// began like this, too. What follows may then be brought to the multiprocessors that are free, and waits there. Mutant 90 of every
// kernel: it does not wait.
__device__ __forceinline__ void begin_kernel() {
    if (!mutant(90)) ptx::grid_wait();
    ptx::grid_launch_dependents();
}

__host__ __device__ constexpr int ceil_div(int a, int b) {
    return (a + b - 1) / b;
}

// 1/√x; NaN, not 0, where x is infinite: a sum of squares that overflowed must not end as a number.
__device__ __forceinline__ float inverse_root(float x) {
    return x == INFINITY ? NAN : rsqrtf(x);
}

// A chunk is 16 bytes, eight halves: what one lane copies with cp.async and what one row of an ldmatrix matrix takes.
constexpr int CHUNK = 8;
constexpr int CHUNK_BYTES = 16;

// A tile in shared memory: rows of COLUMNS halves without padding. The chunks of a row are permuted so that any eight
// consecutive rows hold one chunk column in eight different bank groups, and ldmatrix reads them in one pass.
template <int COLUMNS>
struct Tile {
    static constexpr int ROW_CHUNKS = COLUMNS / CHUNK;
    static constexpr int ROW_BYTES = COLUMNS * 2;
    static_assert(ROW_CHUNKS == 2 || ROW_CHUNKS == 4 || ROW_CHUNKS == 8,
                  "the permutation below spreads rows of 32, 64 or 128 bytes over the 128 bytes of all banks");
    // Rows that share 128 bytes differ in their banks already.
    static constexpr int ROWS_PER_PASS = 8 / ROW_CHUNKS;

    // Bytes from the tile's start.
    static __device__ __forceinline__ uint32_t offset(int row, int chunk) {
        return row * ROW_BYTES + (chunk ^ (row / ROWS_PER_PASS) % ROW_CHUNKS) * CHUNK_BYTES;
    }

    // The same without the permutation: right, but eight rows collide.
    static __device__ __forceinline__ uint32_t plain_offset(int row, int chunk) {
        return row * ROW_BYTES + chunk * CHUNK_BYTES;
    }
};
