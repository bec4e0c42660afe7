// out = (x − mean) / √(variance + epsilon) · gain + shift, over each row: LayerNorm between an f32 residual stream and f16
// products.
//
//   x            [rows, width]   f32
//   gain, shift  [width]         f32
//   out          [rows, width]   f16
//
// Needs: width a multiple of 4 and at most the kernel's (layer_norm_256, _1024, _4096); x, gain and shift aligned to 16
// bytes, out to 8. Rows: any number from 1 on.
// Launch: 128 threads, grid ⌈rows / 4⌉: a warp a row, no shared memory, no barrier.
//
// The row stays in registers, so the variance is that of the differences from the exact mean (two passes) at one read.
// Cost: about 8·rows·width FLOP; reads 4·rows·width bytes and gain and shift once, writes 2·rows·width. Bound by memory.

#include "common.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > (mutant(1) ? 1 : 0); distance /= 2)
        x += __shfl_xor_sync(0xffffffff, x, distance);
    return x;
}

// Lane l holds the float4 number l, l + 32, … of the row, VECTORS in all.
template <int VECTORS>
__device__ __forceinline__ void layer_norm(const float* x, const float* gain, const float* shift, half* out, int rows,
                                           int width, float epsilon) {
    const int lane = threadIdx.x % 32, row = blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= rows && !mutant(2)) return;
    const float4* from = reinterpret_cast<const float4*>(x + static_cast<size_t>(row) * width);
    const int vectors = width / 4;
    auto inside = [&](int i) { return lane + 32 * i < vectors; };

    float4 v[VECTORS];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        v[i] = inside(i) || mutant(3) ? from[lane + 32 * i] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        sum += v[i].x + v[i].y + (v[i].z + v[i].w);
    }
    const float mean = warp_sum(sum) / width;

    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const float4 d = make_float4(v[i].x - mean, v[i].y - mean, v[i].z - mean, v[i].w - mean);
        if (inside(i) || mutant(4)) squares += d.x * d.x + d.y * d.y + (d.z * d.z + d.w * d.w);
    }
    const float scale = rsqrtf(warp_sum(squares) / width + epsilon);

    uint2* to = reinterpret_cast<uint2*>(out + static_cast<size_t>(row) * width);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (!inside(i) && !mutant(5)) continue;
        const float4 g = reinterpret_cast<const float4*>(gain)[lane + 32 * i];
        const float4 s = reinterpret_cast<const float4*>(shift)[lane + 32 * i];
        to[lane + 32 * i] = make_uint2(
            ptx::pack_half2(fmaf((v[i].x - mean) * scale, g.x, s.x), fmaf((v[i].y - mean) * scale, g.y, s.y)),
            ptx::pack_half2(fmaf((v[i].z - mean) * scale, g.z, s.z), fmaf((v[i].w - mean) * scale, g.w, s.w)));
    }
}

extern "C" {

__global__ void __launch_bounds__(THREADS)
layer_norm_256(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ shift,
               half* __restrict__ out, int rows, int width, float epsilon) {
    layer_norm<2>(x, gain, shift, out, rows, width, epsilon);
}

__global__ void __launch_bounds__(THREADS)
layer_norm_1024(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ shift,
                half* __restrict__ out, int rows, int width, float epsilon) {
    layer_norm<8>(x, gain, shift, out, rows, width, epsilon);
}

__global__ void __launch_bounds__(THREADS)
layer_norm_4096(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ shift,
                half* __restrict__ out, int rows, int width, float epsilon) {
    layer_norm<32>(x, gain, shift, out, rows, width, epsilon);
}

}
