// The class token's part of DPT's readout, of all of the encoder's outputs (levels) at once: vector = w · class + bias. The patches'
// part are products (gemm.cu) that add it.
//
//   tokens  [batch, 1 + patches, channels]   f32, the class token first
//   w       [channels, stride]               f16, stride a multiple of 8
//   bias    [channels]                       f32
//   vector  [batch, channels]                f32
//
// Needs: channels a multiple of 8, tokens aligned to 16 bytes. A warp an output: too little work for tiles, all of it reading w.
// Launch: grid (channels / WARPS, levels, batch).
// Cost: 2·batch·channels² FLOP a level, reads w once a batch item.
//
// Mutants: 1 half of the lanes, 2 every level is the first, 3 every batch item is.

#include "common.cuh"

struct Level {
    const float* tokens;
    const half* w;
    const float* bias;
    float* vector;
};

struct ReadoutClassParams {
    Level levels[4];
    uint64_t batch_stride; // values from batch item to batch item
    uint32_t channels, stride;
};

constexpr int WARPS = 8;

SPEC(readout_class, Spec().rows(1).columns(WARPS))
extern "C" __global__ void __launch_bounds__(32 * WARPS) readout_class(const __grid_constant__ ReadoutClassParams p) {
    begin_kernel();
    const uint32_t lane = threadIdx.x % 32, column = blockIdx.x * WARPS + threadIdx.x / 32, item = mutant(3) ? 0 : blockIdx.z;
    const Level& level = p.levels[mutant(2) ? 0 : blockIdx.y];
    const float4* x = reinterpret_cast<const float4*>(level.tokens + item * p.batch_stride);
    const uint2* w = reinterpret_cast<const uint2*>(level.w + static_cast<size_t>(column) * p.stride);
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t k = lane; k < p.channels / 4; k += 32) {
        const uint2 halves = w[k];
        const float2 low = ptx::unpack_half2(halves.x), high = ptx::unpack_half2(halves.y);
        const float4 v = x[k];
        sum += v.x * low.x + v.y * low.y + v.z * high.x + v.w * high.y;
    }
#pragma unroll
    for (int distance = mutant(1) ? 8 : 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffff, sum, distance);
    if (lane == 0) level.vector[blockIdx.z * static_cast<size_t>(p.channels) + column] = sum + level.bias[column];
}
