// The patches that a convolution multiplies, as rows of a matrix that exists nowhere: row = output pixel, column =
// (ky, kx, input channel). PatchLoader brings it to a product as its first operand.
//
// Mutants: 21 rows of the map unchecked, 22 columns unchecked, 23 pixels unchecked, 24 the step to the next row of taps.
#pragma once

#include <type_traits>

#include "gemm_mainloop.cuh"

// Of a kernel's side: a tap is kept in 16 bits, the last of which is for no tap.
constexpr uint32_t LARGEST_KERNEL = 15;

// A map f16 [batch, height, width, channels] and the convolution that walks over it, of sides up to LARGEST_KERNEL.
struct PatchSource {
    const half* x;
    uint32_t height, width, channels;
    uint32_t kernel_rows, kernel_columns, stride, pad_rows, pad_columns;
    uint32_t out_height, out_width;
};

// A tap (ky, kx) as two bits of a word, kx in its low half and ky in its high half: a mask of these bits says which rows and
// columns of a patch lie outside the map. No kernel has a row LARGEST_KERNEL.
constexpr uint32_t FIRST_COLUMN = 1, FIRST_ROW = 1 << 16, NO_ROW = 1u << 31;

// Taps i of 16 for which begin + i lies outside 0 .. side, and those from `kernel` on.
__device__ __forceinline__ uint32_t taps_outside(int begin, int side, int kernel) {
    const int low = max(-begin, 0), high = max(min(side - begin, kernel), low);
    return ~((1u << high) - (1u << low)) & 0xffff;
}

// Where a column of the matrix lies in any patch: UNIT columns are counted as one, which no tap's channels end within.
template <int UNIT>
struct Tap {
    // Of the tap.
    uint32_t bits;
    uint32_t channel;
    // From the patch's first value.
    int32_t distance;

    __device__ __forceinline__ Tap(const PatchSource& s, uint32_t column) {
        const uint32_t channels = s.channels / UNIT, tap = column / channels, ky = tap / s.kernel_columns, kx = tap - ky * s.kernel_columns;
        bits = FIRST_COLUMN << kx | (ky < LARGEST_KERNEL ? FIRST_ROW << ky : NO_ROW);
        channel = column - tap * channels;
        distance = (ky * s.width + kx) * channels + channel;
    }

    // Behind the last tap it stays outside of every patch.
    __device__ __forceinline__ void advance(const PatchSource& s, uint32_t columns) {
        const uint32_t channels = s.channels / UNIT;
        channel += columns;
        distance += columns;
        while (channel >= channels) {
            channel -= channels;
            const uint32_t row = bits & ~0xffffu, column = (bits & 0xffff) << 1;
            bits = row | column;
            if (column >> s.kernel_columns) {
                bits = (row == NO_ROW ? NO_ROW : row << 1) | FIRST_COLUMN;
                if (!mutant(24)) distance += (s.width - s.kernel_columns) * channels;
            }
        }
    }

    __device__ __forceinline__ bool is_inside(uint32_t outside) const {
        return (outside & bits) == 0;
    }
};

// A thread's share of copying tiles of ROWS rows of the matrix, of which it keeps where their patches begin, so that a copy
// costs an addition and a test. WHOLE: the channels are a multiple of 8, x is aligned to 16 bytes, and a chunk is one cp.async;
// else chunks are gathered value by value.
template <typename S, int ROWS, bool WHOLE>
struct PatchLoader {
    using Part = Share<S, ROWS, CHUNK>;
    // Distances are counted in chunks where everything is aligned to them: 32 bits are then enough.
    static constexpr int UNIT = WHOLE ? CHUNK : 1;
    using Distance = std::conditional_t<WHOLE, int32_t, int64_t>;

    const PatchSource& source;
    Tap<UNIT> tap;
    // By row: where the patch begins in x (at a border, outside of it), and its taps outside.
    Distance patch[Part::COPIES];
    uint32_t outside[Part::COPIES];

    __device__ __forceinline__ PatchLoader(const PatchSource& s, uint32_t first_row, uint32_t rows, int first_tile)
        : source(s), tap(s, (first_tile * S::BLOCK_K + Part::column()) / UNIT) {
#pragma unroll
        for (int i = 0; i < Part::COPIES; i++) {
            const uint32_t pixel = first_row + Part::row() + i * Part::ROW_STEP;
            const uint32_t line = pixel / s.out_width, item = line / s.out_height;
            const int y = (line - item * s.out_height) * s.stride - s.pad_rows;
            const int x = (pixel - line * s.out_width) * s.stride - s.pad_columns;
            const uint32_t outside_rows = mutant(21) ? 0 : taps_outside(y, s.height, s.kernel_rows) * FIRST_ROW;
            const uint32_t outside_columns = mutant(22) ? 0 : taps_outside(x, s.width, s.kernel_columns) * FIRST_COLUMN;
            outside[i] = pixel < rows || mutant(23) ? outside_rows | outside_columns : ~0u;
            patch[i] = ((static_cast<Distance>(item) * s.height + y) * s.width + x) * (s.channels / UNIT);
        }
    }

    __device__ __forceinline__ void copy(uint32_t tile) {
        if constexpr (WHOLE) {
#pragma unroll
            for (int i = 0; i < Part::COPIES; i++) {
                ptx::cp_async_16(Part::at(tile, i), from(i, tap), tap.is_inside(outside[i]));
            }
        } else {
            uint32_t words[Part::COPIES][CHUNK / 2];
            Tap<UNIT> each = tap;
#pragma unroll
            for (int k = 0; k < CHUNK; k++, each.advance(source, 1)) {
#pragma unroll
                for (int i = 0; i < Part::COPIES; i++) {
                    const half value = each.is_inside(outside[i]) ? __ldg(from(i, each)) : __ushort_as_half(0);
                    const uint32_t bits = __half_as_ushort(value);
                    words[i][k / 2] = k % 2 == 0 ? bits : words[i][k / 2] | bits << 16;
                }
            }
#pragma unroll
            for (int i = 0; i < Part::COPIES; i++) ptx::store_shared_16(Part::at(tile, i), words[i]);
        }
        tap.advance(source, S::BLOCK_K / UNIT);
    }

    __device__ __forceinline__ const half* from(int i, const Tap<UNIT>& t) const {
        return source.x + static_cast<int64_t>(patch[i] + t.distance) * UNIT;
    }
};
