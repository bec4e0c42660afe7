// Channels of a map as one thread takes them: a chunk, eight halves next to each other, aligned to 16 bytes.
#pragma once

#include "common.cuh"

struct Halves {
    static constexpr int PAIRS = CHUNK / 2;

    half2 pair[PAIRS];

    // Through the read-only cache: of what no thread of the launch writes.
    static __device__ __forceinline__ Halves load(const half* from) {
        Halves values;
        const uint4 chunk = __ldg(reinterpret_cast<const uint4*>(from));
        const uint32_t words[PAIRS] = {chunk.x, chunk.y, chunk.z, chunk.w};
        for (int i = 0; i < PAIRS; i++) values.pair[i] = reinterpret_cast<const half2&>(words[i]);
        return values;
    }

    __device__ __forceinline__ void store(half* to) const {
        uint32_t words[PAIRS];
        for (int i = 0; i < PAIRS; i++) words[i] = reinterpret_cast<const uint32_t&>(pair[i]);
        *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    }
};
