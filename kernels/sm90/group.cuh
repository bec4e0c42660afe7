// What all warpgroups' kernels have: a group of four warps, its 64 rows of sums, and how they are staged on their way out.
//
// Mutants: 57 swizzle left out (f16).
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
