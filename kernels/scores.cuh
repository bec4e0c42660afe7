// Scores of neighbouring pixels of a map [pixels, labels] on their way to a warp's own shared memory, where lanes that stand for
// pixels read them: no two lanes of an access meet in a bank, neither here, along labels, nor there, along pixels.
#pragma once

#include "common.cuh"

// Floats of a warp's memory.
constexpr uint32_t LINE = 1536;

// How labels are taken: `labels` at a time; `lanes` lanes (8, 16 or 32) to a pixel, and its values `stride` floats from the next's,
// an odd number. The host sees to it that the pixels of a line fit.
struct Lines {
    uint32_t labels, lanes, stride, padding;
};

// Stages `labels` labels of `pixels` pixels: of each blend(i), where i counts from the first one's first value and `all` labels
// make a pixel. That first value lies `begin` values from a place aligned to 32 bytes.
template <typename Blend>
__device__ __forceinline__ void stage_scores(float* line, const Lines& lines, uint32_t pixels, uint32_t labels, uint32_t all,
                                             uint32_t begin, Blend blend) {
    constexpr int AT_ONCE = 4;
    const uint32_t lane = threadIdx.x % 32, step = 32 / lines.lanes;
    // More labels than lanes are taken in pieces that begin aligned.
    const uint32_t unaligned = labels > 32 ? 7 : 0;
    for (uint32_t piece = 0; piece < labels + unaligned; piece += 32)
        for (uint32_t first = lane / lines.lanes; first < pixels; first += AT_ONCE * step) {
            float values[AT_ONCE];
            uint32_t label[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const uint32_t pixel = first + i * step;
                // Below 0 it is a large number.
                label[i] = piece + lane % lines.lanes - ((begin + pixel * all) & unaligned);
                if (pixel >= pixels) label[i] = labels;
                if (label[i] < labels) values[i] = blend(pixel * all + label[i]);
            }
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
                if (label[i] < labels) line[(first + i * step) * lines.stride + label[i]] = values[i];
        }
}
