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

// Up to three neighbouring inputs `first`, `first` + 1, `first` + 2 and their weights: two bilinear steps after each other. Inputs
// without weight are not read (a NaN there is nobody's), and may lie outside.
struct Taps {
    uint32_t first;
    float weight[3];

    __device__ __forceinline__ uint32_t index(int k) const { return first + k; }

    __device__ __forceinline__ void add(uint32_t index, float w) {
#pragma unroll
        for (int k = 0; k < 3; k++) weight[k] += index == first + k ? w : 0.0f;
    }

    // Output i of the ×2 upsampling (corners aligned) of `half` inputs.
    static __device__ __forceinline__ Taps upsample(uint32_t i, uint32_t half) {
        const Pair p = corners(i, half, 2 * half);
        Taps taps = {p.low, {}};
        taps.add(p.low, 1.0f - p.t);
        taps.add(p.high, p.t);
        return taps;
    }

    // The mean of outputs of that upsampling, (1 − t) of the low one and t of the high one: they are neighbours, less than half an
    // input apart, so that together they see three inputs.
    static __device__ __forceinline__ Taps through_upsample(const Pair& outer, uint32_t half) {
        const Pair a = corners(outer.low, half, 2 * half), b = corners(outer.high, half, 2 * half);
        Taps taps = {a.low, {}};
        taps.add(a.low, (1.0f - outer.t) * (1.0f - a.t));
        taps.add(a.high, (1.0f - outer.t) * a.t);
        taps.add(b.low, outer.t * (1.0f - b.t));
        taps.add(b.high, outer.t * b.t);
        return taps;
    }
};
