// A map's values at another size: ×2 (corners aligned), then resized (edges aligned). A warp takes up to 32 neighbouring pixels of an
// output row, a lane a pixel; it blends the rows of the map that they see, as many channels at a time as its memory holds, read
// along channels, and every lane blends the columns of its pixel.
//
// Mutants: 31 __syncwarp before the line is read, 32 __syncwarp before it is written again, 33 the third column that a pixel sees,
// 34 the third row.
#pragma once

#include "bilinear.cuh"
#include "scores.cuh"

// The map and the output's size.
struct Resizing {
    uint32_t height, width, channels;
    uint32_t to_height, to_width;
    // Pixels of a warp.
    uint32_t columns;
    Lines lines;
};

constexpr int WARPS = 4, COLUMNS = 32;

// What a warp of the launch makes: grid ⌈to_width / columns⌉ · ⌈to_height / WARPS⌉.
struct Strip {
    uint32_t row, column, last;

    __device__ __forceinline__ explicit Strip(const Resizing& r) {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, across = ceil_div(r.to_width, r.columns);
        const uint32_t begin = blockIdx.x % across * r.columns;
        row = blockIdx.x / across * WARPS + warp;
        column = begin + lane;
        last = min(begin + r.columns, r.to_width) - 1;
    }

    __device__ __forceinline__ bool is_outside(const Resizing& r) const { return row >= r.to_height; }

    // Whether this lane has a pixel of its own; those behind the last help with it.
    __device__ __forceinline__ bool has_pixel() const { return column <= last; }

    __device__ __forceinline__ size_t pixel(const Resizing& r) const { return static_cast<size_t>(row) * r.to_width + column; }
};

// What output i of `to` sees of `from` inputs.
__device__ __forceinline__ Taps resized(uint32_t i, uint32_t from, uint32_t to) {
    return Taps::through_upsample(edges(i, 2 * from, to), from);
}

// take(k, value) for the channels first, first + 1, …, `count` of them, in their order, at the lane's pixel, which sees the rows y and
// the columns x. `line` is the warp's own, LINE floats.
template <typename Take>
__device__ __forceinline__ void blend(const float* map, const Resizing& r, const Taps& y, const Taps& x, uint32_t first, uint32_t count,
                                      float* line, Take take) {
    const uint32_t seen_first = __shfl_sync(0xffffffff, x.first, 0);
    const uint32_t seen = min(__shfl_sync(0xffffffff, x.first, 31) + 3, r.width) - seen_first;
    const size_t line_step = static_cast<size_t>(r.width) * r.channels;
    const size_t from = y.first * line_step + static_cast<size_t>(seen_first) * r.channels + first;
    // What has no weight is not read: the first input is instead, for nothing.
    const float* taps[3];
#pragma unroll
    for (int k = 0; k < 3; k++)
        taps[k] = line + (x.first + (x.weight[k] != 0.0f && !(mutant(33) && k == 2) ? k : 0) - seen_first) * r.lines.stride;

    for (uint32_t begin = 0; begin < count; begin += r.lines.labels) {
        const uint32_t channels = min(count - begin, r.lines.labels);
        const float* top = map + from + begin;
        const float* middle = top + (y.weight[1] != 0.0f ? line_step : 0);
        auto two = [&](uint32_t i) { return y.weight[0] * top[i] + y.weight[1] * middle[i]; };
        auto three = [&](uint32_t i) { return two(i) + y.weight[2] * top[2 * line_step + i]; };
        if (y.weight[2] == 0.0f || mutant(34)) {
            stage_scores(line, r.lines, seen, channels, r.channels, (from + begin) % 8, two);
        } else {
            stage_scores(line, r.lines, seen, channels, r.channels, (from + begin) % 8, three);
        }
        if (!mutant(31)) __syncwarp();
#pragma unroll 4
        for (uint32_t k = 0; k < channels; k++)
            take(begin + k, x.weight[0] * taps[0][k] + x.weight[1] * taps[1][k] + x.weight[2] * taps[2][k]);
        if (!mutant(32)) __syncwarp();
    }
}

// The same of the resized map's pixels.
template <typename Take>
__device__ __forceinline__ void resize(const float* map, const Resizing& r, const Strip& strip, uint32_t first, uint32_t count,
                                       float* line, Take take) {
    const Taps y = resized(strip.row, r.height, r.to_height);
    const Taps x = resized(min(strip.column, strip.last), r.width, r.to_width);
    blend(map, r, y, x, first, count, line, take);
}
