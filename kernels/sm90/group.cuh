// What all warpgroups' kernels have: a group of four warps, its 64 rows of sums, and how they are staged on their way out.
//
// Mutants: 57 swizzle left out (f16), 58 banks collide (f32).
#pragma once

#include "sm90/ptx.cuh"

// Tiles of shared memory that are swizzled begin at multiples of it.
constexpr int ALIGNMENT = 1024;
constexpr int GROUP_THREADS = 128;
constexpr int GROUP_ROWS = 64;
// A row of the swizzle.
constexpr int ROW_BYTES = 128;

// Sums of a thread: eight columns of two rows after the other. Where the j-th eight columns' pair of a row is.
__device__ __forceinline__ constexpr int pair_at(int eight, int lower) {
    return 4 * eight + 2 * lower;
}

// A thread's sums of the group's 64 rows and 64 columns, as halves.
__device__ __forceinline__ void stage_halves(const float (&v)[32], uint32_t to) {
    const int row = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 16;
#pragma unroll
    for (int eight = 0; eight < 8; eight += 2) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = pair_at(eight + i / 2, i % 2);
            packed[i] = ptx::pack_half2(v[at], v[at + 1]);
        }
        const int chunk = eight + threadIdx.x % 32 / 16;
        const uint32_t at = mutant(57) ? row * ROW_BYTES + chunk * CHUNK_BYTES : swizzled(row, chunk);
        ptx::stmatrix_x4(to + at, packed[0], packed[1], packed[2], packed[3]);
    }
}

// A thread's first row and column of eight, in the group's.
__device__ __forceinline__ int thread_row() {
    return threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
}

__device__ __forceinline__ int thread_column() {
    return threadIdx.x % 4 * 2;
}

// The same of 32 columns, as floats. Lanes of odd rows write the box's other half first, so that the eight bytes of each of four rows
// lie in different banks.
__device__ __forceinline__ void stage_floats(const float (&v)[16], uint32_t to) {
    const bool odd = thread_row() % 2 != 0 && !mutant(58);
#pragma unroll
    for (int eight = 0; eight < 4; eight++)
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            const int here = pair_at(eight, lower), other = pair_at(eight ^ 2, lower);
            const float x = odd ? v[other] : v[here], y = odd ? v[other + 1] : v[here + 1];
            const int chunk = 2 * (odd ? eight ^ 2 : eight) + threadIdx.x % 4 / 2;
            ptx::store_shared_8(to + swizzled(thread_row() + 8 * lower, chunk) + threadIdx.x % 2 * 8, __float_as_uint(x),
                                __float_as_uint(y));
        }
}
