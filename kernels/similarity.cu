// logits = (A·f + a) / ‖(R·f + c, r)‖ for every pixel: the cosine of its embedding with every label times the logit scale
// (LSeg, 2201.03546, section 3.2), without ever forming the embedding (src/model/head.rs). A zero embedding scores 0.
//
//   x       [pixels, features]   f16
//   labels  [labels, stride]     f16, and a [labels] f32
//   norm    [rank, stride]       f16, and c [rank] f32; rest = r², f32
//   logits  [pixels, labels]     f32
//
// Needs: similarity: features a multiple of 8, x aligned to 16 bytes. similarity_any: nothing. Any number of labels from 1 on.
// Launch: 128 threads, grid ⌈pixels / 128⌉, dynamic shared memory 36864 bytes. A block takes its pixels through the norm's
// columns, 64 at a time, whose squares stay in registers, and then through the labels'.
//
// Cost: 2·pixels·(rank + labels)·features FLOP, columns charged in 64s; reads 2·features bytes a pixel (from L2 again for every
// 64 columns), writes 4·labels.
//
// Mutants: those of product.cuh (1–7) and 11 the rest is left out, 12 squares of half the columns, 13 pixels unchecked on the way
// out, 14 a zero embedding is not seen.

#include "product.cuh"

struct Columns {
    const half* weight;
    const float* bias;
    uint32_t count, stride;
};

struct SimilarityParams {
    const half* x;
    Columns labels, norm;
    float* logits;
    uint64_t pixels;
    uint32_t features;
    float rest;
};
static_assert(sizeof(SimilarityParams) == 80, "as the host lays it out");

using S = Shape<128, 64, 32, 32, 3>;
static_assert(S::THREADS == 128 && S::SHARED_BYTES == 36864 && S::WARPS_N == 1, "as the header says");

// The sums of 64 columns; `row` is the block's first pixel.
template <typename A>
__device__ __forceinline__ void columns(Sums<S>& sum, const SimilarityParams& p, const Columns& of, uint32_t first,
                                        uint32_t stages) {
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * S::BLOCK_M;
    const int rows = min(p.pixels - row, static_cast<uint64_t>(S::BLOCK_M));
    A load_x(p.x + row * p.features, 0, rows, p.features, p.features, 0);
    RowLoader<S, S::BLOCK_N> load_columns(of.weight, first, of.count, of.stride, of.stride, 0);
    product<S>(sum, load_x, load_columns, ceil_div(p.features, S::BLOCK_K), stages, Unchanged());
}

template <typename A>
__device__ __forceinline__ void similarity(const SimilarityParams& p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t stages = ptx::shared_address(shared);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Sums<S> sum;

    float inverse[S::TILES_M][2] = {};
    for (uint32_t first = 0; first < p.norm.count; first += S::BLOCK_N) {
        columns<A>(sum, p, p.norm, first, stages);
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint32_t column = first + 8 * j + lane % 4 * 2 + e;
                if (column >= p.norm.count || (mutant(12) && e == 1)) continue;
                const float c = p.norm.bias[column];
#pragma unroll
                for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
                    for (int lower = 0; lower < 2; lower++) {
                        const float v = sum[i][j][2 * lower + e] + c;
                        inverse[i][lower] += v * v;
                    }
            }
    }
    // Four lanes share a row.
#pragma unroll
    for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            float& squares = inverse[i][lower];
            squares += __shfl_xor_sync(0xffffffff, squares, 1);
            squares += __shfl_xor_sync(0xffffffff, squares, 2);
            squares += mutant(11) ? 0.0f : p.rest;
            squares = squares == 0.0f && !mutant(14) ? 0.0f : 1.0f / sqrtf(squares);
        }

    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * S::BLOCK_M + warp * S::WARP_M + lane / 4;
    for (uint32_t first = 0; first < p.labels.count; first += S::BLOCK_N) {
        columns<A>(sum, p, p.labels, first, stages);
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint32_t column = first + 8 * j + lane % 4 * 2 + e;
                if (column >= p.labels.count) continue;
                const float a = p.labels.bias[column];
#pragma unroll
                for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
                    for (int lower = 0; lower < 2; lower++) {
                        const uint64_t pixel = row + 16 * i + 8 * lower;
                        if (pixel < p.pixels || mutant(13))
                            p.logits[pixel * p.labels.count + column] = (sum[i][j][2 * lower + e] + a) * inverse[i][lower];
                    }
            }
    }
}

extern "C" {

__global__ void __launch_bounds__(S::THREADS, 2) similarity(const __grid_constant__ SimilarityParams p) {
    similarity<RowLoader<S, S::BLOCK_M>>(p);
}

__global__ void __launch_bounds__(S::THREADS, 2) similarity_any(const __grid_constant__ SimilarityParams p) {
    similarity<ValueLoader<S, S::BLOCK_M, half>>(p);
}

}
