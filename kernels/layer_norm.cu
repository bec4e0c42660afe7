// out = (x − mean) / √(variance + eps) · weight + bias over the channels of every row: LayerNorm (Ba et al., 1607.06450)
// between the f32 residual stream and f16 products.
//
//   x             [rows, channels]   f32
//   weight, bias  [channels]         f32
//   out           [rows, channels]   f16
//
// Needs: nothing beyond natural alignment.  Launch: 128 threads, a warp a row, grid ⌈rows / 4⌉; no shared memory.
// Cost: about 8·rows·channels FLOP; reads x twice (the second time from L1), writes 2 bytes a value.

#include "common.cuh"

struct LayerNormParams {
    const float* x;
    const float* weight;
    const float* bias;
    half* out;
    uint32_t rows, channels;
    float eps;
    uint32_t padding;
};

extern "C" __global__ void __launch_bounds__(128) layer_norm(const __grid_constant__ LayerNormParams p) {
    const uint32_t lane = threadIdx.x % 32, row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= p.rows) return;
    const float* x = p.x + static_cast<size_t>(row) * p.channels;
    float sum = 0.0f;
    for (uint32_t c = lane; c < p.channels; c += 32) sum += x[c];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffff, sum, distance);
    const float mean = sum / p.channels;
    float squares = 0.0f;
    for (uint32_t c = lane; c < p.channels; c += 32) squares += (x[c] - mean) * (x[c] - mean);
    for (int distance = 16; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffff, squares, distance);
    const float scale = rsqrtf(squares / p.channels + p.eps);
    half* out = p.out + static_cast<size_t>(row) * p.channels;
    for (uint32_t c = lane; c < p.channels; c += 32) out[c] = __float2half_rn((x[c] - mean) * scale * p.weight[c] + p.bias[c]);
}
