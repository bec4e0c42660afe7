// out = (x − mean) / √(variance + epsilon) of each row: sums by shuffles within a warp, by shared memory between warps.
//
//   x [rows, width] f32    out [rows, width] f16
//
// Needs: width a multiple of 4 and at most 2048. Launch: 128 threads, a block a row.

#include "mutants.cuh"

constexpr int THREADS = 128, WARPS = THREADS / 32, VECTORS = 2048 / 4 / THREADS;

__device__ __forceinline__ float block_sum(float x, float* partial) {
    for (int distance = 16; distance > (mutant(1) ? 1 : 0); distance /= 2)
        x += __shfl_xor_sync(0xffffffff, x, distance);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    if (!mutant(2)) __syncthreads();
    x = 0;
    for (int warp = 0; warp < WARPS; warp++) x += partial[warp];
    // The next sum takes the same place.
    if (!mutant(3)) __syncthreads();
    return x;
}

extern "C" __global__ void __launch_bounds__(THREADS)
standardise(const float* x, half* out, int width, float epsilon) {
    __shared__ float partial[WARPS];
    const float4* from = reinterpret_cast<const float4*>(x + static_cast<size_t>(blockIdx.x) * width);
    uint2* to = reinterpret_cast<uint2*>(out + static_cast<size_t>(blockIdx.x) * width);
    auto inside = [&](int i) { return threadIdx.x + THREADS * i < width / 4; };

    float4 v[VECTORS];
    float sum = 0, squares = 0;
    for (int i = 0; i < VECTORS; i++) {
        v[i] = inside(i) || mutant(4) ? from[threadIdx.x + THREADS * i] : make_float4(0, 0, 0, 0);
        sum += v[i].x + v[i].y + (v[i].z + v[i].w);
    }
    const float mean = block_sum(sum, partial) / width;
    for (int i = 0; i < VECTORS; i++) {
        v[i] = make_float4(v[i].x - mean, v[i].y - mean, v[i].z - mean, v[i].w - mean);
        if (inside(i) || mutant(5)) squares += v[i].x * v[i].x + v[i].y * v[i].y + (v[i].z * v[i].z + v[i].w * v[i].w);
    }
    const float scale = rsqrtf(block_sum(squares, partial) / width + epsilon);
    for (int i = 0; i < VECTORS; i++)
        if (inside(i) || mutant(6))
            to[threadIdx.x + THREADS * i] = make_uint2(ptx::pack_halves(v[i].x * scale, v[i].y * scale),
                                                       ptx::pack_halves(v[i].z * scale, v[i].w * scale));
}
