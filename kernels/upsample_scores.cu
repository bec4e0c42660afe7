// Scores at the network's size: logits upsampled ×2 (bilinear, corners aligned), labels first.
//
//   logits  [batch, height, width, labels]            f32
//   out     [batch, labels, 2·height, 2·width]        f32
//
// Needs: nothing.  Launch: grid (⌈2·width / COLUMNS⌉ · ⌈2·height / WARPS⌉, batch). A warp makes 32 columns of an output row: it
// blends the two rows that they see, as many labels at a time as its memory holds, read along labels; then its lanes, each a
// column, blend and write label by label.
// Cost: 6 FLOP an output; reads logits about four times (from caches but once), writes 4 bytes an output.
//
// Mutants: 1 __syncwarp before the line is read, 2 __syncwarp before it is written again, 3 columns behind the row unchecked.

#include "bilinear.cuh"
#include "scores.cuh"

struct UpsampleScoresParams {
    const float* logits;
    float* out;
    uint32_t height, width, labels, padding;
    Lines lines;
};

constexpr int WARPS = 4, COLUMNS = 32;

SPEC(upsample_scores, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) upsample_scores(const __grid_constant__ UpsampleScoresParams p) {
    begin_kernel();
    __shared__ float shared[WARPS][LINE];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t out_height = 2 * p.height, out_width = 2 * p.width, across = ceil_div(out_width, COLUMNS);
    const uint32_t row = blockIdx.x / across * WARPS + warp, column = blockIdx.x % across * COLUMNS + lane;
    if (row >= out_height) return;

    const Pair y = corners(row, p.height, out_height), x = corners(min(column, out_width - 1), p.width, out_width);
    const uint32_t seen_first = __shfl_sync(0xffffffff, x.low, 0), seen = __shfl_sync(0xffffffff, x.high, 31) + 1 - seen_first;
    const size_t map = static_cast<size_t>(blockIdx.y) * p.height * p.width * p.labels;
    const size_t line_step = static_cast<size_t>(p.width) * p.labels;
    const size_t from = map + y.low * line_step + static_cast<size_t>(seen_first) * p.labels;
    const size_t down = (y.high - y.low) * line_step;
    float* line = shared[warp];
    const float* left = line + (x.low - seen_first) * p.lines.stride;
    const float* right = line + (x.high - seen_first) * p.lines.stride;

    for (uint32_t first = 0; first < p.labels; first += p.lines.labels) {
        const uint32_t labels = min(p.labels - first, p.lines.labels);
        const float* top = p.logits + from + first;
        stage_scores(line, p.lines, seen, labels, p.labels, (from + first) % 8,
              [&](uint32_t i) { return y.between(top[i], top[down + i]); });
        if (!mutant(1)) __syncwarp();
        const size_t channel = static_cast<size_t>(out_height) * out_width;
        float* out = p.out + (static_cast<size_t>(blockIdx.y) * p.labels + first) * channel + static_cast<size_t>(row) * out_width + column;
        if (column < out_width || mutant(3)) {
#pragma unroll 4
            for (uint32_t label = 0; label < labels; label++) out[label * channel] = x.between(left[label], right[label]);
        }
        if (!mutant(2)) __syncwarp();
    }
}
