// Spatial regularisation of the logits (LSeg, 2201.03546, section 3.3): one 3×3 kernel and bias that all labels share, pad 1; plus
// the largest label of the input at each pixel ("bottleneck"); then an activation.
//
//   x, out   [batch, height, width, labels]   f32
//   weights  [10]                             f32, nine taps and the bias
//
// Needs: nothing.  Launch: grid ⌈strips / (THREADS / lanes)⌉; a strip is STRIP neighbouring pixels of a row, ⌈width / STRIP⌉ of
// them a row. `lanes` neighbouring threads, a power of two up to 32, take one and go through its labels.
// Cost: 18 FLOP a value; reads x about four times (from caches but once), writes 4 bytes a value.
//
// Mutants: 1 the map's left border is unseen, 2 the largest of half the lanes, 3 NaN is not the largest, 4 pixels behind the row
// unchecked, 5 the map's lower border is unseen.

#include "common.cuh"

enum Activation : uint32_t { NONE, RELU, LRELU, TANH };

struct RegulariseParams {
    const float* x;
    const float* weights;
    float* out;
    uint32_t strips, height, width, labels, lanes;
    uint32_t bottleneck, activation, padding;
};

constexpr int THREADS = 256, STRIP = 8;

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

SPEC(regularise, Spec().step(STRIP))
extern "C" __global__ void __launch_bounds__(THREADS) regularise(const __grid_constant__ RegulariseParams p) {
    begin_kernel();
    const uint32_t lane = threadIdx.x % p.lanes, across = ceil_div(p.width, STRIP);
    const uint32_t wanted = blockIdx.x * (THREADS / p.lanes) + threadIdx.x / p.lanes;
    // Threads behind the last strip help with it: all of a warp must meet in the shuffles.
    const uint32_t strip = min(wanted, p.strips - 1);
    const uint32_t line = strip / across, row = line % p.height, begin = strip % across * STRIP;
    const size_t line_step = static_cast<size_t>(p.width) * p.labels;
    const size_t from = line * line_step + static_cast<size_t>(begin) * p.labels;
    const float* x = p.x + from;
    // Of the strip's pixel `i`, the one before it (−1) or behind it.
    auto inside = [&](int i) { return begin + i < p.width || (mutant(1) && i < 0 && line > 0); };

    float base[STRIP];
#pragma unroll
    for (int i = 0; i < STRIP; i++) base[i] = p.bottleneck ? -INFINITY : 0.0f;
    if (p.bottleneck) {
        for (uint32_t label = lane; label < p.labels; label += p.lanes)
#pragma unroll
            for (int i = 0; i < STRIP; i++)
                if (inside(i)) base[i] = larger(base[i], x[i * p.labels + label]);
#pragma unroll
        for (int i = 0; i < STRIP; i++)
            for (uint32_t distance = p.lanes / 2; distance > (mutant(2) ? 1 : 0); distance /= 2)
                base[i] = larger(base[i], __shfl_xor_sync(0xffffffff, base[i], distance));
    }
    if (wanted >= p.strips) return;

    const bool has_upper = row > 0, has_lower = row + 1 < p.height || (mutant(5) && line > 0);
    const ptrdiff_t up = line_step;
    float weights[10];
#pragma unroll
    for (int tap = 0; tap < 10; tap++) weights[tap] = p.weights[tap];
    for (uint32_t label = lane; label < p.labels; label += p.lanes) {
        // The three rows at a column of the strip, zeros outside the map.
        auto column = [&](int i, float(&v)[3]) {
            const float* at = x + static_cast<int32_t>(i * p.labels + label);
            v[0] = inside(i) && has_upper ? at[-up] : 0.0f;
            v[1] = inside(i) ? at[0] : 0.0f;
            v[2] = inside(i) && has_lower ? at[up] : 0.0f;
        };
        float v[STRIP + 2][3];
#pragma unroll
        for (int i = 0; i < STRIP + 2; i++) column(i - 1, v[i]);
#pragma unroll
        for (int i = 0; i < STRIP; i++) {
            float sum = weights[9] + base[i];
#pragma unroll
            for (int tap = 0; tap < 9; tap++) sum += weights[tap] * v[i + tap % 3][tap / 3];
            if (inside(i) || mutant(4)) p.out[from + i * p.labels + label] = activate(p.activation, sum);
        }
    }
}
