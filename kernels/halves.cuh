// Channels of a map as one thread takes them: eight halves, or four floats, next to each other, aligned to 16 bytes.
#pragma once

#include "common.cuh"

struct Halves {
    using Value = half;
    static constexpr int SIZE = CHUNK, PAIRS = SIZE / 2;

    half2 pair[PAIRS];

    // Through the read-only cache: of what no thread of the launch writes.
    static __device__ __forceinline__ Halves load(const half* from) {
        Halves values;
        const uint4 chunk = __ldg(reinterpret_cast<const uint4*>(from));
        const uint32_t words[PAIRS] = {chunk.x, chunk.y, chunk.z, chunk.w};
        for (int i = 0; i < PAIRS; i++) values.pair[i] = reinterpret_cast<const half2&>(words[i]);
        return values;
    }

    __device__ __forceinline__ float2 get(int i) const { return __half22float2(pair[i]); }
    __device__ __forceinline__ void set(int i, float2 v) { pair[i] = __float22half2_rn(v); }

    __device__ __forceinline__ void store(half* to) const {
        uint32_t words[PAIRS];
        for (int i = 0; i < PAIRS; i++) words[i] = reinterpret_cast<const uint32_t&>(pair[i]);
        *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    }
};

struct Floats {
    using Value = float;
    static constexpr int SIZE = 4, PAIRS = SIZE / 2;

    float2 pair[PAIRS];

    static __device__ __forceinline__ Floats load(const float* from) {
        const float4 v = __ldg(reinterpret_cast<const float4*>(from));
        return {{{v.x, v.y}, {v.z, v.w}}};
    }

    __device__ __forceinline__ float2 get(int i) const { return pair[i]; }
    __device__ __forceinline__ void set(int i, float2 v) { pair[i] = v; }

    __device__ __forceinline__ void store(float* to) const {
        *reinterpret_cast<float4*>(to) = make_float4(pair[0].x, pair[0].y, pair[1].x, pair[1].y);
    }
};
