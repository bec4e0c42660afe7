// out = the largest of 3×3 values, stride 2, pad 1 (the ResNet stem's pooling); a NaN among them wins, as in PyTorch.
//
//   x    [batch, height, width, channels]              f16
//   out  [batch, ⌈height / 2⌉, ⌈width / 2⌉, channels]  f16
//
// A thread makes CHUNK channels of a pixel. What lies outside is replaced by a neighbour inside: the output's centre is
// always inside, so the neighbour is one of the nine already.
//
// Needs: channels a multiple of CHUNK, both maps aligned to 16 bytes.
// Launch: grid (⌈out width · channels / CHUNK / THREADS⌉, out height, batch).
// Cost: 9 comparisons a value; reads x (2.25 times, the rest from caches), writes out.
// Mutants: 1 no limit below, 2 no limit to the right, 3 NaN loses.

#include "halves.cuh"

struct MaxPoolParams {
    const half* x;
    half* out;
    uint32_t height, width, channels;
    uint32_t padding;
};

constexpr int THREADS = 256;

__device__ __forceinline__ void larger(Halves& best, const Halves& other) {
    for (int i = 0; i < Halves::PAIRS; i++) {
        best.pair[i] = mutant(3) ? __hmax2(best.pair[i], other.pair[i]) : __hmax2_nan(best.pair[i], other.pair[i]);
    }
}

// Where the three inputs of output i lie among `side`.
struct Window {
    uint32_t at[3];

    __device__ __forceinline__ Window(uint32_t i, uint32_t side, bool limited) {
        at[0] = i == 0 ? 0 : 2 * i - 1;
        at[1] = 2 * i;
        at[2] = limited ? min(2 * i + 1, side - 1) : 2 * i + 1;
    }
};

SPEC(max_pool_8, Spec().step(CHUNK))
extern "C" __global__ void __launch_bounds__(THREADS) max_pool_8(const __grid_constant__ MaxPoolParams p) {
    begin_kernel();
    const uint32_t groups = p.channels / CHUNK, out_width = (p.width + 1) / 2;
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x, column = at / groups, y = blockIdx.y, item = blockIdx.z;
    if (column >= out_width) return;
    const uint32_t channel = (at - column * groups) * CHUNK;
    const Window rows(y, p.height, !mutant(1)), columns(column, p.width, !mutant(2));
    const half* x = p.x + static_cast<size_t>(item) * p.height * p.width * p.channels + channel;
    Halves best;
    for (int i = 0; i < 9; i++) {
        const size_t pixel = static_cast<size_t>(rows.at[i / 3]) * p.width + columns.at[i % 3];
        const Halves value = Halves::load(x + pixel * p.channels);
        if (i == 0) best = value;
        else larger(best, value);
    }
    const size_t out_pixel = (static_cast<size_t>(item) * gridDim.y + y) * out_width + column;
    best.store(p.out + out_pixel * p.channels + channel);
}
