// out = (x − mean) / √(variance + eps) · weight + bias over the channels of every row: LayerNorm (Ba et al., 1607.06450)
// between the f32 residual stream and f16 products.
//
//   x             [rows, channels]   f32
//   weight, bias  [channels]         f32
//   out           [rows, channels]   f16
//
// Needs: channels a multiple of 4 and in layer_norm_N at most N; all aligned to 16 bytes.
// Launch: a warp a row, grid ⌈rows / WARPS⌉; no shared memory, no barrier.
//
// The row stays in registers, so the variance is that of the differences from the mean, at one read.
// Cost: about 8·rows·channels FLOP; reads 4·rows·channels bytes, weight and bias once, writes 2·rows·channels. Bound by memory.
//
// Mutants: 1 half a warp's sum, 2 rows unchecked, 3 channels unchecked, 4 what lies behind the row in the variance.

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

constexpr int WARPS = 4;
constexpr int FLOATS = 4; // of a vector

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > (mutant(1) ? 1 : 0); distance /= 2) x += __shfl_xor_sync(0xffffffff, x, distance);
    return x;
}

// Lane l holds the float4 number l, l + 32, … of the row, VECTORS in all.
template <int VECTORS>
__device__ __forceinline__ void layer_norm(const LayerNormParams& p) {
    const uint32_t lane = threadIdx.x % 32, row = blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= p.rows && !mutant(2)) return;
    const float4* from = reinterpret_cast<const float4*>(p.x + static_cast<size_t>(row) * p.channels);
    const uint32_t vectors = p.channels / FLOATS;
    auto inside = [&](int i) { return lane + 32 * i < vectors; };

    float4 v[VECTORS];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        v[i] = inside(i) || mutant(3) ? from[lane + 32 * i] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        sum += v[i].x + v[i].y + (v[i].z + v[i].w);
    }
    // On their way while the sums are made.
    float4 weight[VECTORS], bias[VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (!inside(i)) continue;
        weight[i] = reinterpret_cast<const float4*>(p.weight)[lane + 32 * i];
        bias[i] = reinterpret_cast<const float4*>(p.bias)[lane + 32 * i];
    }
    const float mean = warp_sum(sum) / p.channels;

    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const float4 d = make_float4(v[i].x - mean, v[i].y - mean, v[i].z - mean, v[i].w - mean);
        if (inside(i) || mutant(4)) squares += d.x * d.x + d.y * d.y + (d.z * d.z + d.w * d.w);
    }
    const float scale = inverse_root(warp_sum(squares) / p.channels + p.eps);

    uint2* to = reinterpret_cast<uint2*>(p.out + static_cast<size_t>(row) * p.channels);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (!inside(i)) continue;
        const float4 w = weight[i], b = bias[i];
        to[lane + 32 * i] = make_uint2(
            ptx::pack_half2((v[i].x - mean) * scale * w.x + b.x, (v[i].y - mean) * scale * w.y + b.y),
            ptx::pack_half2((v[i].z - mean) * scale * w.z + b.z, (v[i].w - mean) * scale * w.w + b.w));
    }
}

template <int VECTORS>
constexpr Spec declared() {
    return Spec().rows(WARPS).step(FLOATS).most(32 * FLOATS * VECTORS);
}

extern "C" {

SPEC(layer_norm_256, declared<2>())
__global__ void __launch_bounds__(32 * WARPS) layer_norm_256(const __grid_constant__ LayerNormParams p) {
    begin_kernel();
    layer_norm<2>(p);
}

SPEC(layer_norm_1024, declared<8>())
__global__ void __launch_bounds__(32 * WARPS) layer_norm_1024(const __grid_constant__ LayerNormParams p) {
    begin_kernel();
    layer_norm<8>(p);
}

}
