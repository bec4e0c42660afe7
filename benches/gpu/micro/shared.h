// What both halves know. `inline`: not every build uses all of it.

#pragma once

#include <cstdint>
#include <cuda.h>

// Contents of test memory: word i of a buffer is hash_word(i & mask). Public-domain mixing constants ("lowbias32").
#ifdef __CUDACC__
#define BOTH __host__ __device__ __forceinline__
#else
#define BOTH inline
#endif

BOTH uint32_t hash_word(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

inline constexpr int LINE_BYTES = 128;         // one step of the pointer chase
inline constexpr int BLOCK_WORDS16 = 4096;     // l2: 16-byte words that a CTA reads with ld in one turn
inline constexpr int ASYNC_THREADS = 256;      // l2: threads of the cp.async kernel
inline constexpr int ASYNC_STAGE_BYTES = 16384;
inline constexpr int ASYNC_STAGES = 8;
inline constexpr int BOX_COLUMNS = 64;         // l2: f16 values in a row of a TMA box, 128 bytes
inline constexpr int SET_COLUMNS = 1024;       // l2: f16 values in a row of the matrix that TMA reads
inline constexpr int TMA_SLOT_BYTES = 196608;  // l2: shared memory for boxes
inline constexpr int TMA_CONSUMER_WARPS = 4;
inline constexpr int ALIGNMENT = 1024;         // of tiles with the 128-byte swizzle
inline constexpr int PEAK_STAGES = 4;          // peak: tiles of 128 bytes of depth that lie in shared memory
inline constexpr int MMA_STEPS = 32;           // peak, mma.sync: times its depth of 32 before sums begin anew
inline constexpr int BIT_ROWS = 64, BIT_COLUMNS = 8, BIT_DEPTH_BYTES = 32; // bits: one instruction's tile
inline constexpr int BIT_TILES_PER_CTA = 4;
