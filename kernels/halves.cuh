// Channels of a map as one thread takes them: WIDTH halves next to each other, 8 (a chunk, aligned to 16 bytes) where
// the channels are a multiple of 8, else 1.
#pragma once

#include "common.cuh"

template <int WIDTH>
struct Halves {
    static_assert(WIDTH == CHUNK || WIDTH == 1, "whole chunks, or single values where rows are not aligned to chunks");
    static constexpr int PAIRS = (WIDTH + 1) / 2;

    // A single value fills both places of its pair.
    half2 pair[PAIRS];

    // Through the read-only cache: of what no thread of the launch writes.
    static __device__ __forceinline__ Halves load(const half* from) {
        Halves values;
        if constexpr (WIDTH == 1) {
            values.pair[0] = __half2half2(__ldg(from));
        } else {
            const uint4 chunk = __ldg(reinterpret_cast<const uint4*>(from));
            const uint32_t words[PAIRS] = {chunk.x, chunk.y, chunk.z, chunk.w};
            for (int i = 0; i < PAIRS; i++) values.pair[i] = reinterpret_cast<const half2&>(words[i]);
        }
        return values;
    }

    __device__ __forceinline__ void store(half* to) const {
        if constexpr (WIDTH == 1) {
            *to = __low2half(pair[0]);
        } else {
            uint32_t words[PAIRS];
            for (int i = 0; i < PAIRS; i++) words[i] = reinterpret_cast<const uint32_t&>(pair[i]);
            *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
};
