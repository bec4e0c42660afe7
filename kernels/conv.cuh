// What convolutions have, whatever computes their products: a bias by the map's border, and the ReLU on the way in.
//
// Mutants: 16 NaN lost in the ReLU, 17 bias of the last row's border, 18 of the first column's.
#pragma once

#include "common.cuh"

// Which row of the bias a pixel has: 1, where its patch's first row lies outside of the map; 2, its last; 4, its first column; 8,
// its last. Which row and column of the output a last one is outside for depends on the stride; for none of them it is none of these.
struct Border {
    uint32_t width, height; // of the output; 0: all pixels have the same
    uint32_t last_row, last_column;

    __device__ __forceinline__ uint32_t of(uint32_t x, uint32_t y) const {
        const uint32_t first_column = x == 0 && !mutant(18) ? 4 : 0;
        return (y == 0 ? 1 : 0) + (y == last_row && !mutant(17) ? 2 : 0) + first_column + (x == last_column ? 8 : 0);
    }

    // A pixel of all items.
    __device__ __forceinline__ uint32_t of(uint32_t pixel) const {
        const uint32_t line = pixel / width;
        return of(pixel - line * width, line % height);
    }
};

// Of two halves. ReLU(NaN) is NaN.
__device__ __forceinline__ uint32_t relu(uint32_t pair) {
    const half2 x = reinterpret_cast<const half2&>(pair), zero = __float2half2_rn(0.0f);
    const half2 y = mutant(16) ? __hmax2(x, zero) : __hmax2_nan(x, zero);
    return reinterpret_cast<const uint32_t&>(y);
}
