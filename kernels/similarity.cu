// logits = (A·f + a) / ‖(R·f + c, r)‖ for every pixel: the cosine of its embedding with every label times the logit scale
// (LSeg, 2201.03546, section 3.2), without ever forming the embedding (src/model/head.rs). A zero embedding scores 0.
//
//   x       [pixels, features]   f16
//   norm    [rank, stride]       f16, and c [rank] f32; rest = r², f32
//   labels  [labels, stride]     f16, and a [labels] f32
//   logits  [pixels, labels]     f32
//
// Needs: features a multiple of 8 and in similarity_N at most N, x aligned to 16 bytes. Strides multiples of 8, zeros behind
// features. Any number of labels from 1 on.
// Launch: grid ⌈pixels / PIXELS⌉.
// norm_is_upper: row i of R begins with i zeros, as R of a QR decomposition does; they are not multiplied.
// A warp keeps its 16 pixels' features in registers and multiplies them by the rows of R, then of A, which come past in tiles of
// 32. The squares of R·f + c are summed where they arise.
//
// Cost: 2·pixels·(rank + labels)·features FLOP, columns charged in 32s; reads 2·features bytes a pixel once, the matrices once a
// block (from L2), writes 4·labels bytes a pixel. Half an ldmatrix.x4 an mma.
//
// Mutants: 1 swizzle left out on reading, 2 rows of the matrices unchecked, 3 waits for one copy too few, 4 barrier of the loop,
// 5 pixels unchecked on the way out, 6 half of a pixel's squares, 7 the rest left out, 8 a zero embedding is not seen,
// 10 __syncwarp before features are read, 11 half of the features behind R's zeros.

#include "common.cuh"

struct Columns {
    const half* weight;
    const float* bias;
    uint32_t count, stride;
};

struct SimilarityParams {
    const half* x;
    Columns labels, norm;
    float* logits;
    uint32_t pixels, features;
    float rest;
    uint32_t norm_is_upper;
};

constexpr int WARPS = 8, THREADS = 32 * WARPS;
constexpr int WARP_PIXELS = 16, PIXELS = WARPS * WARP_PIXELS;
constexpr int COLUMNS = 32;
constexpr int STAGES = 4;

// Features on their way into mma's layout, a warp's own memory: 64 of each pixel.
using Exchange = Tile<64>;
constexpr int EXCHANGE_DEPTH = 64, EXCHANGE_STEPS = EXCHANGE_DEPTH / 16;
constexpr int EXCHANGE_BYTES = WARP_PIXELS * Exchange::ROW_BYTES;

// 32 columns' weights, DEPTH features deep: next to each other in tiles of 64.
template <int DEPTH>
struct Stage {
    static constexpr int BYTES = COLUMNS * DEPTH * 2;
    static constexpr int ROW_CHUNKS = DEPTH / CHUNK;
    static constexpr int ROW_STEP = THREADS / ROW_CHUNKS, COPIES = COLUMNS / ROW_STEP;
    static_assert(COLUMNS % ROW_STEP == 0, "every thread makes the same number of copies");

    static constexpr int TILE_STEPS = Tile<64>::ROW_CHUNKS / 2;

    // What a step's chunk differs in from that of the first step of its tile.
    static __device__ __forceinline__ uint32_t flip(int step) { return step % TILE_STEPS * 2 * CHUNK_BYTES; }

    static __device__ __forceinline__ uint32_t offset(int row, int chunk, bool plain = false) {
        const int in_tile = chunk % Tile<64>::ROW_CHUNKS;
        return chunk / Tile<64>::ROW_CHUNKS * COLUMNS * Tile<64>::ROW_BYTES
               + (plain ? Tile<64>::plain_offset(row, in_tile) : Tile<64>::offset(row, in_tile));
    }
};

// A warp's 64 features from `exchange` to mma's fragments.
__device__ __forceinline__ void read_exchange(uint32_t (*a)[4], uint32_t exchange) {
    const int lane = threadIdx.x % 32;
    if (!mutant(10)) __syncwarp();
#pragma unroll
    for (int step = 0; step < EXCHANGE_STEPS; step++)
        ptx::ldmatrix_x4(a[step], exchange + Exchange::offset(lane % 16, 2 * step + lane / 16));
    __syncwarp();
}

// Pixels' features that stay in registers, FEATURES of each, zeros behind those that there are.
template <int FEATURES>
struct Held {
    static constexpr int DEPTH = FEATURES < 128 ? FEATURES : 128; // of a stage
    static constexpr int STEPS = DEPTH / 16, STAGE_TILES = FEATURES / DEPTH;
    static constexpr int TILES = FEATURES / EXCHANGE_DEPTH;
    static_assert(FEATURES % DEPTH == 0 && DEPTH % EXCHANGE_DEPTH == 0, "whole tiles");

    uint32_t a[FEATURES / 16][4];

    __device__ __forceinline__ Held(const SimilarityParams& p, uint32_t first, uint32_t exchange) {
        const uint32_t lane = threadIdx.x % 32, chunk = lane % 8;
        constexpr int ROWS = WARP_PIXELS / 4;
        const half* from = p.x + static_cast<size_t>(first) * p.features;
        const uint32_t pixels = p.pixels - min(first, p.pixels);
        // Half of them under way at once: all would take the registers that they are to end in twice.
        constexpr int AT_ONCE = TILES < 2 ? TILES : 2;
#pragma unroll
        for (int begin = 0; begin < TILES; begin += AT_ONCE) {
            uint4 v[AT_ONCE][ROWS];
#pragma unroll
            for (int tile = 0; tile < AT_ONCE; tile++)
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    const uint32_t pixel = lane / 8 + 4 * i, feature = (begin + tile) * EXCHANGE_DEPTH + chunk * CHUNK;
                    v[tile][i] = pixel < pixels && feature < p.features
                                     ? *reinterpret_cast<const uint4*>(from + pixel * p.features + feature)
                                     : make_uint4(0, 0, 0, 0);
                }
#pragma unroll
            for (int tile = 0; tile < AT_ONCE; tile++) {
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    const uint32_t words[4] = {v[tile][i].x, v[tile][i].y, v[tile][i].z, v[tile][i].w};
                    ptx::store_shared_16(exchange + Exchange::offset(lane / 8 + 4 * i, chunk), words);
                }
                read_exchange(a + (begin + tile) * EXCHANGE_STEPS, exchange);
            }
        }
    }

    __device__ __forceinline__ const uint32_t (&at(int tile, int step) const)[4] { return a[tile * STEPS + step]; }
};

// A thread's share of bringing 32 columns' weights to shared memory, of those tiles of the depth number `tile`. The first `zeros`
// of each, which nobody reads, stay away.
template <typename S>
__device__ __forceinline__ void copy(const Columns& from, uint32_t first, uint32_t zeros, uint32_t tile, uint32_t stage) {
    const uint32_t row = threadIdx.x / S::ROW_CHUNKS, chunk = threadIdx.x % S::ROW_CHUNKS;
    const uint32_t feature = (tile * S::ROW_CHUNKS + chunk) * CHUNK;
#pragma unroll
    for (int i = 0; i < S::COPIES; i++) {
        const uint32_t r = row + i * S::ROW_STEP;
        const bool inside = (first + r < from.count || mutant(2)) && feature >= zeros && feature < from.stride;
        // Fewer than 2³² values: labels are numbered by 16 bits.
        const uint32_t at = (first + r) * from.stride + feature;
        ptx::cp_async_16(stage + S::offset(r, chunk), from.weight + (inside ? at : 0), inside);
    }
}

// Sums of 16 pixels and 32 columns, a warp's.
using Sums = float[COLUMNS / 8][4];

template <int FEATURES>
__device__ __forceinline__ void similarity(const SimilarityParams& p) {
    using Features = Held<FEATURES>;
    using S = Stage<Features::DEPTH>;
    extern __shared__ __align__(128) unsigned char shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t stages = ptx::shared_address(shared);
    const uint32_t first_pixel = blockIdx.x * PIXELS + warp * WARP_PIXELS;

    // The matrices' tiles are numbered: R's columns, then A's, 32 at a time, each through its depth.
    const uint32_t tiles = Features::STAGE_TILES, norm_groups = ceil_div(p.norm.count, COLUMNS);
    const uint32_t groups = norm_groups + ceil_div(p.labels.count, COLUMNS);
    // Features that begin the rows of 32 columns of R with nothing but zeros.
    auto zeros = [&](uint32_t group) { return p.norm_is_upper ? group * COLUMNS : 0; };
    // A group of copies a tile, empty behind the last, so that counting groups is counting tiles.
    auto fetch = [&](uint32_t number) {
        const uint32_t group = number / tiles, tile = number % tiles, stage = stages + number % STAGES * S::BYTES;
        if (group < norm_groups) {
            copy<S>(p.norm, group * COLUMNS, zeros(group), tile, stage);
        } else if (group < groups) {
            copy<S>(p.labels, (group - norm_groups) * COLUMNS, 0, tile, stage);
        }
        ptx::cp_async_commit();
    };
    for (uint32_t number = 0; number < STAGES - 1; number++) fetch(number);
    Features features(p, first_pixel, stages + STAGES * S::BYTES + warp * EXCHANGE_BYTES);

    // Of the weights, a step's four matrices: two depths of eight columns, then those of the next eight. Later steps' chunks differ
    // in bits that the permutation flips, and so in the same bits of the address.
    const uint32_t b_from = S::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2, mutant(1));
    // The lane's columns of eight columns j: `first` + 8·j + 2·(lane % 4) and the next.
    auto multiply = [&](Sums& sum, const Columns& by, uint32_t first, uint32_t zeros, uint32_t group) {
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint32_t column = first + 8 * j + lane % 4 * 2 + e;
                sum[j][e] = sum[j][2 + e] = column < by.count ? by.bias[column] : 0.0f;
            }
#pragma unroll
        for (uint32_t tile = 0; tile < tiles; tile++) {
            const uint32_t number = group * tiles + tile;
            ptx::cp_async_wait<STAGES - (mutant(3) ? 1 : 2)>();
            if (!mutant(4)) __syncthreads();
            // Into the stage of the tile before this one, which all had read at the barrier.
            fetch(number + STAGES - 1);
            const uint32_t from = stages + number % STAGES * S::BYTES + b_from;
#pragma unroll
            for (int step = 0; step < Features::STEPS; step++) {
                if (tile * Features::DEPTH + step * 16 < zeros) continue;
                const uint32_t(&a)[4] = features.at(tile, step);
#pragma unroll
                for (int j = 0; j < COLUMNS / 16; j++) {
                    uint32_t b[4];
                    ptx::ldmatrix_x4(b, (from ^ S::flip(step)) + S::offset(16 * j, step / S::TILE_STEPS * Tile<64>::ROW_CHUNKS));
                    ptx::mma_m16n8k16(sum[2 * j], a, b[0], b[1]);
                    ptx::mma_m16n8k16(sum[2 * j + 1], a, b[2], b[3]);
                }
            }
        }
    };

    // Of the pixels lane / 4 and lane / 4 + 8.
    float inverse[2] = {};
    for (uint32_t group = 0; group < norm_groups; group++) {
        Sums sum;
        multiply(sum, p.norm, group * COLUMNS, zeros(group) + (mutant(11) ? 16 : 0), group);
        // What lies behind the last column is zero.
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) inverse[e / 2] += sum[j][e] * sum[j][e];
    }
#pragma unroll
    for (int lower = 0; lower < 2; lower++) {
        // Four lanes share a pixel.
        float squares = inverse[lower];
        squares += __shfl_xor_sync(0xffffffff, squares, 1);
        if (!mutant(6)) squares += __shfl_xor_sync(0xffffffff, squares, 2);
        squares += mutant(7) ? 0.0f : p.rest;
        inverse[lower] = squares == 0.0f && !mutant(8) ? 0.0f : inverse_root(squares);
    }

    // Two neighbouring logits are aligned where all rows begin at an even one.
    const bool pairs = p.labels.count % 2 == 0;
    for (uint32_t group = norm_groups; group < groups; group++) {
        const uint32_t first = (group - norm_groups) * COLUMNS;
        Sums sum;
        multiply(sum, p.labels, first, 0, group);
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            const uint32_t pixel = first_pixel + lane / 4 + 8 * lower;
            if (pixel >= p.pixels && !mutant(5)) continue;
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; j++) {
                const uint32_t column = first + 8 * j + lane % 4 * 2;
                if (column >= p.labels.count) continue;
                float* to = p.logits + static_cast<size_t>(pixel) * p.labels.count + column;
                const float low = sum[j][2 * lower] * inverse[lower], high = sum[j][2 * lower + 1] * inverse[lower];
                if (pairs) {
                    *reinterpret_cast<float2*>(to) = make_float2(low, high);
                } else {
                    to[0] = low;
                    if (column + 1 < p.labels.count) to[1] = high;
                }
            }
        }
    }
}

template <int FEATURES>
constexpr Spec declared() {
    constexpr int DEPTH = Held<FEATURES>::DEPTH, SHARED_BYTES = STAGES * Stage<DEPTH>::BYTES + WARPS * EXCHANGE_BYTES;
    return Spec().shared(SHARED_BYTES).rows(PIXELS).columns(COLUMNS).step(DEPTH).most(FEATURES);
}

extern "C" {

SPEC(similarity_256, declared<256>())
__global__ void __launch_bounds__(THREADS, 2) similarity_256(const __grid_constant__ SimilarityParams p) {
    begin_kernel();
    similarity<256>(p);
}

SPEC(similarity_64, declared<64>())
__global__ void __launch_bounds__(THREADS, 2) similarity_64(const __grid_constant__ SimilarityParams p) {
    begin_kernel();
    similarity<64>(p);
}

}
