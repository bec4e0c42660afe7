// The label of every pixel of the photo: logits at half the network's size, upsampled ×2 (corners aligned), then resized to the
// photo (edges aligned), the largest taken. Neither map is ever stored.
//
//   logits  [batch, height, width, labels]            f32
//   mask    [batch, mask_height, mask_width]          u16
//
// The first of equal labels is taken, and NaN before all, as PyTorch does.
// Needs: at most 65536 labels.  Launch: 128 threads, grid (⌈mask_width / columns⌉, mask_height up to 65535, batch), columns at
// most 128 and such that a block's columns see at most 72 of the logits (the host's work). A block takes 32 labels at a time: the
// rows it sees, blended, to shared memory, from where every thread blends the columns of its pixel.
//
// Cost: 9 FLOP a pixel and label; reads logits about three times (from caches but once), writes 2 bytes a pixel.
//
// Mutants: 1 barrier before the line is read, 2 barrier before it is written again, 3 the last of equals, 4 NaN is not seen.

#include "bilinear.cuh"

struct ArgmaxParams {
    const float* logits;
    uint16_t* mask;
    uint32_t height, width, labels;
    uint32_t mask_height, mask_width, columns;
};

constexpr int THREADS = 128, SEEN = 72, LABELS = 32;

extern "C" __global__ void __launch_bounds__(THREADS) argmax(const __grid_constant__ ArgmaxParams p) {
    // One more than the labels, so that neighbouring pixels lie in other banks.
    __shared__ float line[SEEN][LABELS + 1];
    const float* logits = p.logits + static_cast<size_t>(blockIdx.z) * p.height * p.width * p.labels;
    const uint32_t begin = blockIdx.x * p.columns, end = min(begin + p.columns, p.mask_width);
    const uint32_t column = begin + threadIdx.x;
    const bool has_pixel = threadIdx.x < p.columns && column < p.mask_width;
    auto columns_of = [&](uint32_t i) { return Taps::through_upsample(edges(i, 2 * p.width, p.mask_width), p.width); };
    const uint32_t seen_first = columns_of(begin).first;
    const uint32_t seen = min(columns_of(end - 1).first + 3, p.width) - seen_first;
    const Taps x = columns_of(min(column, p.mask_width - 1));

    for (uint32_t row = blockIdx.y; row < p.mask_height; row += gridDim.y) {
        const Taps y = Taps::through_upsample(edges(row, 2 * p.height, p.mask_height), p.height);
        float largest = -INFINITY;
        uint32_t best = 0;
        for (uint32_t first = 0; first < p.labels; first += LABELS) {
            const uint32_t labels = min(p.labels - first, LABELS);
            for (uint32_t i = threadIdx.x; i < seen * labels; i += THREADS) {
                const uint32_t at = i / labels, label = i - at * labels;
                float blend = 0.0f;
#pragma unroll
                for (int k = 0; k < 3; k++) {
                    if (y.weight[k] == 0.0f) continue;
                    const size_t pixel = static_cast<size_t>(y.index(k)) * p.width + seen_first + at;
                    blend += y.weight[k] * logits[pixel * p.labels + first + label];
                }
                line[at][label] = blend;
            }
            if (!mutant(1)) __syncthreads();
            for (uint32_t label = 0; has_pixel && label < labels; label++) {
                float score = 0.0f;
#pragma unroll
                for (int k = 0; k < 3; k++)
                    if (x.weight[k] != 0.0f) score += x.weight[k] * line[x.index(k) - seen_first][label];
                const bool larger = mutant(3) ? score >= largest : score > largest;
                if (larger || (isnan(score) && !isnan(largest) && !mutant(4))) {
                    largest = score;
                    best = first + label;
                }
            }
            if (!mutant(2)) __syncthreads();
        }
        if (has_pixel)
            p.mask[(static_cast<size_t>(blockIdx.z) * p.mask_height + row) * p.mask_width + column] = best;
    }
}
