// Neighbouring pixels of a photo's row in shared memory, brought there in whole words wherever they begin.
//
// Needs: the photo aligned to 4 bytes, its memory up to the next multiple of 4.
//
// Mutants: 41 a word too few.
#pragma once

#include "common.cuh"

constexpr int THREADS = 256;
constexpr int LINE_BYTES = 4096;

// Bytes of a photo that follow each other.
struct Line {
    uint32_t words[LINE_BYTES / 4];

    // Brings `count` bytes from `from` on; returns where the first of them is.
    __device__ __forceinline__ uint32_t load(const uint8_t* from, uint32_t count) {
        const uint32_t skew = reinterpret_cast<uintptr_t>(from) % 4;
        const uint32_t* source = reinterpret_cast<const uint32_t*>(from - skew);
        const uint32_t end = skew + count;
        for (uint32_t i = threadIdx.x; i < (end + (mutant(41) ? 0 : 3)) / 4; i += THREADS) {
            if (4 * i + 4 <= end) {
                words[i] = source[i];
            } else {
                // What lies behind the photo's last byte is nobody's.
                for (uint32_t byte = 4 * i; byte < end; byte++)
                    reinterpret_cast<uint8_t*>(words)[byte] = (from - skew)[byte];
            }
        }
        return skew;
    }

    __device__ __forceinline__ float at(uint32_t byte) const {
        return static_cast<float>(reinterpret_cast<const uint8_t*>(words)[byte]);
    }
};

// Of three, without an index into registers.
template <typename T>
__device__ __forceinline__ T of_colour(const T (&values)[3], uint32_t c) {
    return c == 0 ? values[0] : c == 1 ? values[1] : values[2];
}
