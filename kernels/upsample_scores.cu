// Scores at the network's size: logits upsampled ×2 (bilinear, corners aligned), labels first.
//
//   logits  [batch, height, width, labels]            f32
//   out     [batch, labels, 2·height, 2·width]        f32
//
// Needs: nothing.  Launch: 256 threads, grid (⌈2·width / 32⌉, 2·height up to 65535, batch · ⌈labels / 32⌉). A block makes 32
// columns of up to 32 labels and turns them in shared memory: it reads along labels and writes along columns.
// Cost: 8 FLOP an output; reads logits about once (neighbours from caches), writes 4 bytes an output.
//
// Mutants: 1 barrier before reading, 2 barrier before writing again, 3 columns unchecked.

#include "bilinear.cuh"

struct UpsampleScoresParams {
    const float* logits;
    float* out;
    uint32_t height, width, labels, label_groups;
};

constexpr int THREADS = 256, COLUMNS = 32, LABELS = 32;

extern "C" __global__ void __launch_bounds__(THREADS) upsample_scores(const __grid_constant__ UpsampleScoresParams p) {
    __shared__ float tile[LABELS][COLUMNS + 1];
    const uint32_t item = blockIdx.z / p.label_groups, first = blockIdx.z % p.label_groups * LABELS;
    const uint32_t labels = min(p.labels - first, LABELS), begin = blockIdx.x * COLUMNS;
    const uint32_t columns = min(2 * p.width - begin, COLUMNS);
    const float* logits = p.logits + static_cast<size_t>(item) * p.height * p.width * p.labels + first;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (uint32_t row = blockIdx.y; row < 2 * p.height; row += gridDim.y) {
        const Pair y = corners(row, p.height, 2 * p.height);
        const float* top = logits + static_cast<size_t>(y.low) * p.width * p.labels;
        const float* bottom = logits + static_cast<size_t>(y.high) * p.width * p.labels;
        for (uint32_t i = threadIdx.x; i < columns * labels; i += THREADS) {
            const uint32_t column = i / labels, label = i - column * labels;
            const Pair x = corners(begin + column, p.width, 2 * p.width);
            const size_t a = static_cast<size_t>(x.low) * p.labels + label, b = static_cast<size_t>(x.high) * p.labels + label;
            tile[label][column] = y.between(x.between(top[a], top[b]), x.between(bottom[a], bottom[b]));
        }
        if (!mutant(1)) __syncthreads();
        for (uint32_t label = warp; label < labels; label += THREADS / 32) {
            float* out = p.out + ((static_cast<size_t>(item) * p.labels + first + label) * 2 * p.height + row) * 2 * p.width;
            if (lane < columns || mutant(3)) out[begin + lane] = tile[label][lane];
        }
        if (!mutant(2)) __syncthreads();
    }
}
