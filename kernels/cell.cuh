// The cells of an upsampling to twice the size, bilinear, corners aligned (PyTorch's align_corners=True): output i of 2·side lies at
// i·(side − 1) / (2·side − 1) among the inputs.
//
// Outputs 2m − 1 and 2m both lie between inputs m − 1 and m, with weights of the second of (side − m) / d and (2·side − 1 − m) / d
// where d = 2·side − 1. So the outputs of cell m, from 0 to side along both axes, are made of the same four inputs; cells at the
// borders have fewer.
//
// Mutants: 1 the cell before the first reads itself as its second, 2 weights as in the middle at the first output, 3 the second
// output is not left out at the end of a row, 4 no limit to the right.
#pragma once

#include "common.cuh"

// Along one axis of `side` inputs: the two inputs of cell m, and of each of its two outputs whether there is one, and the weight of
// the second input.
struct Cell {
    uint32_t low, high;
    bool is[2];
    float t[2];

    __device__ __forceinline__ Cell(uint32_t m, uint32_t side, bool in_line) {
        low = m == 0 ? 0 : m - 1;
        high = mutant(1) && m == 0 ? 0 : mutant(4) && in_line ? low + 1 : min(low + 1, side - 1);
        is[0] = m > 0;
        is[1] = m < side || mutant(3);
        const float part = 1.0f / (2 * side - 1);
        t[0] = (side - m) * part;
        t[1] = m == 0 && !mutant(2) ? 0.0f : (2 * side - 1 - m) * part;
    }

    // The cell's i-th output.
    static __device__ __forceinline__ uint32_t output(uint32_t m, int i) { return 2 * m + i - 1; }
};
