// DRAFT
#include "patches.cuh"

struct ConvParams {
    PatchSource source;
    const half* weight;
    const float* bias;
    const half* add[2];
    half* out;
    uint32_t rows, n, k, stride;
    uint32_t relu, relu_in;
};

constexpr int BM = 64, BN = 64, BK = 64, THREADS = 128, STAGES = 3;

__device__ __forceinline__ uint32_t relu2(uint32_t x) {
    const half2 zero = __float2half2_rn(0.0f);
    half2 y = mutant(3) ? __hmax2(reinterpret_cast<half2&>(x), zero) : __hmax2_nan(reinterpret_cast<half2&>(x), zero);
    return reinterpret_cast<uint32_t&>(y);
}

template <bool WHOLE, bool RELU_IN>
__device__ __forceinline__ void conv(const ConvParams& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const uint32_t base = ptx::shared_address(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t first_row = blockIdx.x * BM, first_n = blockIdx.y * BN;
    PatchLoader<BM, BK, THREADS, WHOLE> a(p.source, p.rows, first_row, 0);
    const auto load_b = [&](uint32_t to, int step) {
#pragma unroll
        for (int i = 0; i < BN * 8 / THREADS; i++) {
            const int row = threadIdx.x / 8 + i * 16, chunk = threadIdx.x % 8;
            const uint32_t k = step * BK + chunk * 8;
            const bool take = first_n + row < p.n && k < p.stride;
            ptx::cp_async_16(to + Tile<BK>::offset(row, chunk), take ? p.weight + static_cast<size_t>(first_n + row) * p.stride + k : p.weight, take);
        }
    };
    const int steps = (p.k + BK - 1) / BK;
    const uint32_t stage_bytes = (BM + BN) * BK * 2;
    const auto fill = [&](int step) {
        if (step < steps) {
            const uint32_t to = base + step % STAGES * stage_bytes;
            a.copy(to);
            load_b(to + BM * BK * 2, step);
        }
        ptx::cp_async_commit();
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) fill(s);
    float acc[2][4][4] = {};
    const int wm = warp / 2 * 32, wn = warp % 2 * 32;
    for (int step = 0; step < steps; step++) {
        ptx::cp_async_wait<STAGES - 2>();
        __syncthreads();
        fill(step + STAGES - 1);
        const uint32_t at = base + step % STAGES * stage_bytes, bt = at + BM * BK * 2;
#pragma unroll
        for (int kk = 0; kk < BK / 16; kk++) {
            uint32_t fa[2][4], fb[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                ptx::ldmatrix_x4(fa[i], at + Tile<BK>::offset(wm + i * 16 + lane % 16, kk * 2 + lane / 16));
                if (RELU_IN) for (int j = 0; j < 4; j++) fa[i][j] = relu2(fa[i][j]);
            }
#pragma unroll
            for (int j = 0; j < 2; j++) ptx::ldmatrix_x4(fb[j], bt + Tile<BK>::offset(wn + j * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) ptx::mma_m16n8k16(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const uint32_t row = first_row + wm + i * 16 + lane / 4 + e / 2 * 8, n = first_n + wn + j * 8 + lane % 4 * 2 + e % 2;
                if (row >= p.rows || n >= p.n) continue;
                const size_t o = static_cast<size_t>(row) * p.n + n;
                float v = acc[i][j][e] + (p.bias ? p.bias[n] : 0.0f);
                for (int d = 0; d < 2; d++) if (p.add[d]) v += __half2float(p.add[d][o]);
                if (p.relu) v = v < 0.0f ? 0.0f : v;
                p.out[o] = __float2half_rn(v);
            }
}

#define K(name, w, r) extern "C" __global__ void __launch_bounds__(THREADS) name(const __grid_constant__ ConvParams p) { conv<w, r>(p); }
K(conv_00, false, false)
K(conv_01, false, true)
K(conv_10, true, false)
K(conv_11, true, true)
