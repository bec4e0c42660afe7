// Bilinear resizing along one axis: the two inputs of an output and the weight of the second, in exact arithmetic.
#pragma once

#include "common.cuh"

struct Pair {
    uint32_t low, high;
    float t;

    // The values of two neighbours.
    __device__ __forceinline__ float between(float a, float b) const { return a + t * (b - a); }
};

// numerator / denominator among `from` inputs.
__device__ __forceinline__ Pair pair_at(uint64_t numerator, uint32_t denominator, uint32_t from) {
    uint32_t low, rest;
    if (numerator >> 32 == 0) {
        low = static_cast<uint32_t>(numerator) / denominator, rest = static_cast<uint32_t>(numerator) % denominator;
    } else {
        low = numerator / denominator, rest = numerator % denominator;
    }
    return {low, min(low + 1, from - 1), static_cast<float>(rest) / static_cast<float>(denominator)};
}

// Output i of `to` among `from` inputs, edges aligned (PyTorch's align_corners=False): at (i + ½)·from/to − ½, not below 0.
__device__ __forceinline__ Pair edges(uint32_t i, uint32_t from, uint32_t to) {
    const uint64_t place = (2 * static_cast<uint64_t>(i) + 1) * from;
    return pair_at(place > to ? place - to : 0, 2 * to, from);
}

// Output i of `to`, corners aligned (align_corners=True): at i·(from − 1)/(to − 1).
__device__ __forceinline__ Pair corners(uint32_t i, uint32_t from, uint32_t to) {
    if (from <= 1 || to <= 1) return {0, 0, 0.0f};
    return pair_at(static_cast<uint64_t>(i) * (from - 1), to - 1, from);
}
