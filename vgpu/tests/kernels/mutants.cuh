// How the tests break a kernel on purpose: -DMUTANT=n makes its n-th planned mistake; 0, or nothing: the kernel as it is.
#pragma once

#include "instructions.cuh"

#ifndef MUTANT
#define MUTANT 0
#endif

__host__ __device__ constexpr bool mutant(int n) {
    return MUTANT == n;
}

// Byte at which a chunk (16 bytes) of a tile with rows of CHUNKS chunks lies. Permuted, any eight rows have one column of
// chunks in eight different groups of banks, which ldmatrix then reads in one pass.
template <int CHUNKS>
__device__ __forceinline__ uint32_t place(int row, int chunk, bool permuted = true) {
    const int flip = permuted ? row / (8 / CHUNKS) % CHUNKS : 0;
    return (row * CHUNKS + (chunk ^ flip)) * 16;
}
