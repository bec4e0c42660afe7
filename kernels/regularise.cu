// Spatial regularisation of the logits (LSeg, 2201.03546, section 3.3): one 3×3 kernel and bias that all labels share, pad 1; plus
// the largest label of the input at each pixel ("bottleneck"); then an activation.
//
//   x, out   [batch, height, width, labels]   f32
//   weights  [10]                             f32, nine taps and the bias
//
// Needs: nothing.  Launch: 256 threads, grid ⌈pixels / (256 / lanes)⌉; `lanes` neighbouring threads, a power of two up to 32, take a
// pixel and go through its labels.
// Cost: 18 FLOP a value; reads x nine times (eight from caches), writes 4 bytes a value.
//
// Mutants: 1 the map's left border is unseen, 2 the largest of half the lanes, 3 NaN is not the largest.

#include "common.cuh"

enum Activation : uint32_t { NONE, RELU, LRELU, TANH };

struct RegulariseParams {
    const float* x;
    const float* weights;
    float* out;
    uint64_t pixels;
    uint32_t height, width, labels, lanes;
    uint32_t bottleneck, activation;
};

// NaN is larger than all.
__device__ __forceinline__ float larger(float a, float b) {
    return b > a || (isnan(b) && !mutant(3)) ? b : a;
}

__device__ __forceinline__ float activate(uint32_t activation, float v) {
    switch (activation) {
    case RELU: return v < 0.0f ? 0.0f : v;
    case LRELU: return v < 0.0f ? 0.01f * v : v;
    case TANH: return tanhf(v);
    default: return v;
    }
}

extern "C" __global__ void __launch_bounds__(256) regularise(const __grid_constant__ RegulariseParams p) {
    const uint32_t lane = threadIdx.x % p.lanes;
    const uint64_t wanted = blockIdx.x * static_cast<uint64_t>(256 / p.lanes) + threadIdx.x / p.lanes;
    // Threads behind the last pixel help with it: all of a warp must meet in the shuffles.
    const uint64_t pixel = min(wanted, p.pixels - 1);
    const uint32_t column = pixel % p.width, row = pixel / p.width % p.height;
    const float* x = p.x + pixel * p.labels;

    float strongest = 0.0f;
    if (p.bottleneck) {
        strongest = -INFINITY;
        for (uint32_t label = lane; label < p.labels; label += p.lanes) strongest = larger(strongest, x[label]);
        for (uint32_t distance = p.lanes / 2; distance > (mutant(2) ? 1 : 0); distance /= 2)
            strongest = larger(strongest, __shfl_xor_sync(0xffffffff, strongest, distance));
    }
    if (wanted >= p.pixels) return;
    const float bias = p.weights[9] + strongest;
    const int64_t line = static_cast<int64_t>(p.width) * p.labels;
    for (uint32_t label = lane; label < p.labels; label += p.lanes) {
        float sum = bias;
#pragma unroll
        for (int tap = 0; tap < 9; tap++) {
            const int dy = tap / 3 - 1, dx = tap % 3 - 1;
            const bool inside = row + dy < p.height && (column + dx < p.width || (mutant(1) && dx < 0 && row > 0));
            if (inside) sum += p.weights[tap] * x[dy * line + dx * static_cast<int64_t>(p.labels) + label];
        }
        p.out[pixel * p.labels + label] = activate(p.activation, sum);
    }
}
