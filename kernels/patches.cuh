// The patches that a convolution multiplies, as rows of a matrix that exists nowhere: row = output pixel, column =
// (ky, kx, input channel). A loader brings a tile of it to shared memory, where it is a product's first operand.
#pragma once

#include "common.cuh"

// A map f16 [batch, height, width, channels] and the convolution that walks over it: square, `kernel` up to 15.
struct PatchSource {
    const half* x;
    uint32_t height, width, channels;
    uint32_t kernel, stride, pad;
    uint32_t out_height, out_width;
};

// Taps as bits of one word: kx + 16 low, ky in the high half. A mask of these says which taps of a patch lie outside the map.
constexpr uint32_t FIRST_COLUMN = 1, FIRST_ROW = 1 << 16, LAST_ROW = 1u << 31;

// Where a column of the matrix lies in any patch.
struct Tap {
    uint32_t column_bit, row_bit, channel;
    // Values from the patch's first.
    int32_t distance;

    __device__ __forceinline__ Tap(const PatchSource& s, uint32_t column) {
        const uint32_t tap = column / s.channels, ky = tap / s.kernel, kx = tap - ky * s.kernel;
        column_bit = FIRST_COLUMN << kx;
        row_bit = ky < 15 ? FIRST_ROW << ky : LAST_ROW;
        channel = column - tap * s.channels;
        distance = (ky * s.width + kx) * s.channels + channel;
    }

    // Behind the last tap it stays outside of every patch.
    __device__ __forceinline__ void advance(const PatchSource& s, uint32_t columns) {
        channel += columns;
        distance += columns;
        while (channel >= s.channels) {
            channel -= s.channels;
            column_bit <<= 1;
            if (column_bit >> s.kernel) {
                column_bit = FIRST_COLUMN;
                row_bit = row_bit == LAST_ROW ? LAST_ROW : row_bit << 1;
                if (!mutant(2)) distance += (s.width - s.kernel) * s.channels;
            }
        }
    }

    __device__ __forceinline__ bool is_inside(uint32_t outside) const {
        return (outside & (column_bit | row_bit)) == 0;
    }
};

// ROWS × COLUMNS of the matrix at a time, by THREADS threads. Each has one chunk column of the tile and ROWS_EACH rows,
// and keeps where their patches begin: a step costs an addition and a test a row. WHOLE: the channels are a multiple
// of 8, x is aligned to 16 bytes, and a chunk is one cp.async; else chunks are gathered value by value.
template <int ROWS, int COLUMNS, int THREADS, bool WHOLE>
struct PatchLoader {
    static constexpr int CHUNKS = COLUMNS / CHUNK, ROW_STEP = THREADS / CHUNKS, ROWS_EACH = ROWS / ROW_STEP;
    static_assert(THREADS % CHUNKS == 0 && ROWS % ROW_STEP == 0, "every thread has as many chunks");

    const PatchSource& source;
    // By row of this thread: the patch's first value (outside the map at its borders), and its taps outside.
    const half* patch[ROWS_EACH];
    uint32_t outside[ROWS_EACH];
    Tap tap;

    // Taps i of 16 for which begin + i lies outside 0 .. side, and those from `kernel` on.
    static __device__ __forceinline__ uint32_t taps_outside(int begin, int side, int kernel) {
        const int low = max(-begin, 0), high = min(side - begin, kernel);
        return ~((1u << max(high, low)) - (1u << low)) & 0xffff;
    }

    // Rows from `first_row` of `rows`, columns from `first_column`.
    __device__ __forceinline__ PatchLoader(const PatchSource& s, uint32_t rows, uint32_t first_row, uint32_t first_column)
        : source(s), tap(s, first_column + threadIdx.x % CHUNKS * CHUNK) {
#pragma unroll
        for (int i = 0; i < ROWS_EACH; i++) {
            const uint32_t row = first_row + threadIdx.x / CHUNKS + i * ROW_STEP;
            const uint32_t line = row / s.out_width, item = line / s.out_height;
            const int y = (line - item * s.out_height) * s.stride - s.pad;
            const int x = (row - line * s.out_width) * s.stride - s.pad;
            const uint32_t outside_rows = mutant(1) ? 0 : taps_outside(y, s.height, s.kernel);
            outside[i] = row < rows ? taps_outside(x, s.width, s.kernel) * FIRST_COLUMN | outside_rows * FIRST_ROW : ~0u;
            patch[i] = s.x + ((static_cast<int64_t>(item) * s.height + y) * s.width + x) * s.channels;
        }
    }

    // The tile at this step to shared memory; then the next step's.
    __device__ __forceinline__ void copy(uint32_t tile) {
        const uint32_t first = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        if constexpr (WHOLE) {
#pragma unroll
            for (int i = 0; i < ROWS_EACH; i++) {
                const uint32_t to = tile + Tile<COLUMNS>::offset(first + i * ROW_STEP, chunk);
                ptx::cp_async_16(to, patch[i] + tap.distance, tap.is_inside(outside[i]));
            }
        } else {
            uint32_t words[ROWS_EACH][CHUNK / 2];
            Tap at = tap;
#pragma unroll
            for (int k = 0; k < CHUNK; k++, at.advance(source, 1)) {
#pragma unroll
                for (int i = 0; i < ROWS_EACH; i++) {
                    const half value = at.is_inside(outside[i]) ? __ldg(patch[i] + at.distance) : __ushort_as_half(0);
                    const uint32_t bits = __half_as_ushort(value);
                    words[i][k / 2] = k % 2 == 0 ? bits : words[i][k / 2] | bits << 16;
                }
            }
#pragma unroll
            for (int i = 0; i < ROWS_EACH; i++) {
                ptx::store_shared_16(tile + Tile<COLUMNS>::offset(first + i * ROW_STEP, chunk), words[i]);
            }
        }
        tap.advance(source, COLUMNS);
    }
};
