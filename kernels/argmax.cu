// The label of every pixel of the photo: logits at half the network's size, upsampled ×2 (corners aligned), then resized to the
// photo (edges aligned), the largest taken. Neither map is ever stored. Where they are not `resized` the mask has the logits' size.
//
//   logits  [batch, height, width, labels]            f32
//   mask    [batch, mask_height, mask_width]          u8, or u16 (`is_u16`) for more than 256 labels
//   best    [batch, mask_height, mask_width]          f32, its score; may be none
//   not_finite                                        u32, the pixels whose score is no finite number; argmax_clear before makes it 0
//
// argmax_confident takes the winner's softmax p among all labels' scores besides, by a running maximum and sum:
//
//   confidence  [batch, mask_height, mask_width]      u8, 255 · p to the nearest; may be none
//   threshold                                         f32, where p is less the mask has `unlabelled` in the place of a label
//
// The first of equal labels is taken, and NaN before all, as PyTorch does.
// Needs: at most 65536 labels.  Launch: grid (⌈mask_width / columns⌉ · ⌈mask_height / WARPS⌉, batch). A warp takes `columns` (at
// most COLUMNS) neighbouring pixels of a row, a lane a pixel; it blends the rows of the logits that they see, as many labels at a
// time as its memory holds, and every lane blends the columns of its pixel.
//
// Cost: 9 FLOP a pixel and label; reads logits about three times (from caches but once), writes 1 or 2 bytes a pixel, 4 more with
// its score. With p an exponential and 3 FLOP more a pixel and label, and a byte a pixel.
//
// Mutants: 1 __syncwarp before the line is read, 2 __syncwarp before it is written again, 3 the last of equals, 4 NaN is not seen,
// 5 columns behind the row unchecked, 6 the third column that a pixel sees, 7 every item's scores are the first's,
// 8 infinite scores are not counted, 9 lanes behind the row are counted, 10 the last pass's count stays, 11 the sum keeps its old
// scale, 12 each piece of labels begins the sum anew, 13 no pixel is unlabelled, 14 a confidence is cut, 15 every item's
// confidences are the first's, 16 the confidence of what is no number, 17 logits are resized that are
// not to be.

#include "bilinear.cuh"
#include "scores.cuh"

struct ArgmaxParams {
    const float* logits;
    void* mask;
    float* best;
    uint32_t* not_finite;
    uint32_t height, width, labels;
    uint32_t mask_height, mask_width, columns;
    uint32_t is_u16, resized;
    Lines lines;
};

struct ArgmaxConfidentParams {
    ArgmaxParams argmax;
    uint8_t* confidence;
    float threshold;
    uint32_t unlabelled;
};

struct ArgmaxClearParams {
    uint32_t* not_finite;
};

constexpr int WARPS = 4, COLUMNS = 32;

// `confident` is read where CONFIDENT.
template <bool CONFIDENT>
__device__ __forceinline__ void largest_of(const ArgmaxParams& p, const ArgmaxConfidentParams* confident) {
    __shared__ float shared[WARPS][LINE];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t across = ceil_div(p.mask_width, p.columns);
    const uint32_t row = blockIdx.x / across * WARPS + warp, begin = blockIdx.x % across * p.columns;
    if (row >= p.mask_height) return;

    auto taps_of = [&](uint32_t i, uint32_t from, uint32_t to) {
        return p.resized || mutant(17) ? Taps::through_upsample(edges(i, 2 * from, to), from) : Taps{i, {1.0f}};
    };
    const Taps y = taps_of(row, p.height, p.mask_height);
    // Lanes behind the last pixel help with it.
    const uint32_t last = min(begin + p.columns, p.mask_width) - 1, column = begin + lane;
    const Taps x = taps_of(min(column, last), p.width, p.mask_width);
    const uint32_t seen_first = __shfl_sync(0xffffffff, x.first, 0);
    const uint32_t seen = min(__shfl_sync(0xffffffff, x.first, 31) + 3, p.width) - seen_first;

    const size_t map = static_cast<size_t>(blockIdx.y) * p.height * p.width * p.labels;
    const size_t line_step = static_cast<size_t>(p.width) * p.labels;
    const size_t from = map + y.first * line_step + static_cast<size_t>(seen_first) * p.labels;
    float* line = shared[warp];
    // What has no weight is not read: the first input is instead, for nothing.
    const float* taps[3];
#pragma unroll
    for (int k = 0; k < 3; k++)
        taps[k] = line + (x.first + (x.weight[k] != 0.0f && !(mutant(6) && k == 2) ? k : 0) - seen_first) * p.lines.stride;

    float largest = -INFINITY, sum = 0.0f;
    uint32_t winner = 0;
    for (uint32_t first = 0; first < p.labels; first += p.lines.labels) {
        const uint32_t labels = min(p.labels - first, p.lines.labels);
        const float* top = p.logits + from + first;
        const float* middle = top + (y.weight[1] != 0.0f ? line_step : 0);
        auto two = [&](uint32_t i) { return y.weight[0] * top[i] + y.weight[1] * middle[i]; };
        auto three = [&](uint32_t i) { return two(i) + y.weight[2] * top[2 * line_step + i]; };
        if (y.weight[2] == 0.0f) {
            stage_scores(line, p.lines, seen, labels, p.labels, (from + first) % 8, two);
        } else {
            stage_scores(line, p.lines, seen, labels, p.labels, (from + first) % 8, three);
        }
        if (!mutant(1)) __syncwarp();
        if (mutant(12)) sum = 0.0f;
#pragma unroll 4
        for (uint32_t label = 0; label < labels; label++) {
            const float score = x.weight[0] * taps[0][label] + x.weight[1] * taps[1][label] + x.weight[2] * taps[2][label];
            // Larger, or the first NaN.
            bool larger = !(score <= largest) && !isnan(largest);
            if (mutant(3)) larger = score >= largest;
            if (mutant(4)) larger = score > largest;
            if constexpr (CONFIDENT) {
                // Equal ones may be infinite.
                const float part = score == largest ? 1.0f : expf(larger ? largest - score : score - largest);
                sum = larger ? (mutant(11) ? sum : sum * part) + 1.0f : sum + part;
            }
            largest = larger ? score : largest;
            winner = larger ? first + label : winner;
        }
        if (!mutant(2)) __syncwarp();
    }
    if (column <= last || mutant(5)) {
        const size_t pixel = (static_cast<size_t>(blockIdx.y) * p.mask_height + row) * p.mask_width + column;
        if constexpr (CONFIDENT) {
            const float share = isfinite(largest) || mutant(16) ? 1.0f / sum : NAN;
            if (share < confident->threshold && !mutant(13)) winner = confident->unlabelled;
            if (confident->confidence) {
                const size_t at = mutant(15) ? pixel % (p.mask_height * p.mask_width) : pixel;
                // A NaN becomes 0.
                confident->confidence[at] = mutant(14) ? __float2uint_rz(255.0f * share) : __float2uint_rn(255.0f * share);
            }
        }
        if (p.is_u16) {
            static_cast<uint16_t*>(p.mask)[pixel] = winner;
        } else {
            static_cast<uint8_t*>(p.mask)[pixel] = winner;
        }
        if (p.best) p.best[mutant(7) ? pixel % (p.mask_height * p.mask_width) : pixel] = largest;
    }
    const bool is_finite = mutant(8) ? !isnan(largest) : isfinite(largest);
    const uint32_t lanes = __ballot_sync(0xffffffff, !is_finite && (column <= last || mutant(9)));
    if (lanes != 0 && lane == 0) atomicAdd(p.not_finite, __popc(lanes));
}

SPEC(argmax, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) argmax(const __grid_constant__ ArgmaxParams p) {
    begin_kernel();
    largest_of<false>(p, nullptr);
}

SPEC(argmax_confident, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) argmax_confident(const __grid_constant__ ArgmaxConfidentParams p) {
    begin_kernel();
    largest_of<true>(p.argmax, &p);
}

// The next launch counts in it, which waits for this one, as this one does for the pass before.
SPEC(argmax_clear, Spec())
extern "C" __global__ void __launch_bounds__(32) argmax_clear(const __grid_constant__ ArgmaxClearParams p) {
    begin_kernel();
    if (threadIdx.x == 0 && !mutant(10)) *p.not_finite = 0;
}
