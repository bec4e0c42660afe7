// out = softmax(scale · q·kᵀ) · v for every head, without ever writing the scores: flash attention (Dao et al., 2205.14135).
//
//   qkv   [batch, tokens, 3, heads, size]   f16   a token's queries, keys and values, as one linear layer leaves them
//   out   [batch, tokens, heads, size]      f16
//   scale                                   f32, positive; 0.125 for size 64
//
// full: every token looks at every token. causal: at itself and those before it.
// Needs: size HEAD, qkv and out aligned to 16 bytes. Tokens: any number from 1 on.
// Launch: grid (batch · ⌈tokens / QUERIES⌉, heads):
//   attention_full_128                       two teams, 128 queries a block
//   attention_full_64, attention_causal_64   one team, 64 queries a block: few blocks, short texts
//
// Both products run on tensor cores with f32 sums; scores, maxima and sums of the softmax are f32, the weights are
// rounded to f16 for the second product. In attention_full_128 two teams of four warps take 64 keys each of every 128 and
// merge their sums at the end: a warp with 32 queries loads 32 fragments of keys and values for 128 mma (16 queries would
// need as many for 64), a multiprocessor has eight warps to hide one's exponentials behind another's products, and keys and
// values are read half as often as by blocks of 64 queries.
// Cost: 4·size·heads·tokens² FLOP a batch entry (half of it causal, whole tiles charged); reads 6·size bytes a token and
// head, keys and values again for every block of queries (from L2); writes 2·size.
// A score of NaN makes its row NaN, as in PyTorch; where all are −infinity the row is 0 / 0.
//
// Mutants: 1 tokens unchecked, 2 swizzle left out, 3 swizzle left out on reading, 4 keys behind the end not masked,
// 5 maximum of half a row, 6 __syncwarp of the staging, 7 tokens unchecked on the way out, 8 waits for one copy too few,
// 9 barrier of the loop, 10 sums not scaled down to a new maximum, 11 the second team's keys are the first's, 12 barrier
// within the teams' exchange, 13 the other team's sums not scaled to the common maximum.

#include "prefetch.cuh"

constexpr int HEAD = 64;
constexpr int KEYS = 64; // of a team, in a step
constexpr int WARPS = 4; // of a team
constexpr int TEAM = 32 * WARPS;
constexpr int STAGES = 2;
using Rows = Tile<HEAD>;
constexpr int TILE_BYTES = KEYS * Rows::ROW_BYTES;
constexpr float LOG2_E = 1.4426950408889634f;

// Copies ROWS tokens from `first` on, each 64 halves `stride` apart, into a tile; zeros past the last token.
template <int ROWS, int THREADS>
__device__ __forceinline__ void load_tile(uint32_t tile, const half* from, int stride, int first, int tokens) {
    constexpr int ROW_STEP = THREADS / Rows::ROW_CHUNKS;
    static_assert(ROWS % ROW_STEP == 0, "every thread makes the same number of copies");
    const int chunk = threadIdx.x % Rows::ROW_CHUNKS;
#pragma unroll
    for (int i = 0; i < ROWS / ROW_STEP; i++) {
        const int row = threadIdx.x / Rows::ROW_CHUNKS + i * ROW_STEP;
        const bool inside = first + row < tokens || mutant(1);
        const half* source = inside ? from + static_cast<size_t>(first + row) * stride + chunk * CHUNK : from;
        const uint32_t to = mutant(2) ? Rows::plain_offset(row, chunk) : Rows::offset(row, chunk);
        ptx::cp_async_16(tile + to, source, inside);
    }
}

__device__ __forceinline__ uint32_t read_offset(int row, int chunk) {
    return mutant(2) || mutant(3) ? Rows::plain_offset(row, chunk) : Rows::offset(row, chunk);
}

// What scores are measured from: their maximum, but 0 where there is none, since −infinity from itself is NaN.
__device__ __forceinline__ float base(float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum;
}

// The state of one warp: ROW_TILES times 16 queries. Lane l holds of each 16×8 tile the elements (l / 4, 2·(l % 4)), the
// one right of it, and both again eight rows further down; a row is shared by four neighbouring lanes.
template <int ROW_TILES, bool CAUSAL>
struct Warp {
    uint32_t query[ROW_TILES][HEAD / 16][4];
    float sum[ROW_TILES][HEAD / 8][4]; // of weighted values
    float maximum[ROW_TILES][2];       // of the scores so far, in units of log 2
    float weight[ROW_TILES][2];        // this lane's part of the weights' sum

    __device__ __forceinline__ void start(uint32_t queries) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) {
#pragma unroll
            for (int k = 0; k < HEAD / 16; k++)
                ptx::ldmatrix_x4(query[i][k], queries + read_offset(16 * i + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
            maximum[i][0] = maximum[i][1] = -INFINITY;
            weight[i][0] = weight[i][1] = 0.0f;
        }
    }

    // `first_query`, `first_key`: the tokens of the warp's first row and the tile's first key.
    __device__ __forceinline__ void add(uint32_t keys, uint32_t values, int first_query, int first_key, int tokens,
                                        float scale_log2) {
        float score[ROW_TILES][KEYS / 8][4];
        score_keys(score, keys);
        const bool needs_mask = first_key + KEYS > tokens || (CAUSAL && first_key + KEYS > first_query);
        if (needs_mask && !mutant(4)) mask(score, first_query, first_key, tokens);
        online_softmax(score, scale_log2);
        add_weighted_values(score, values);
    }

    __device__ __forceinline__ void score_keys(float (&score)[ROW_TILES][KEYS / 8][4], uint32_t keys) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) score[i][j][e] = 0.0f;
#pragma unroll
        for (int k = 0; k < HEAD / 16; k++)
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                // Eight keys at two depths, then the next eight: the operands of two mma.
                uint32_t key[4];
                ptx::ldmatrix_x4(key, keys + read_offset(16 * j + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < ROW_TILES; i++) {
                    ptx::mma_m16n8k16(score[i][2 * j], query[i][k], key[0], key[1]);
                    ptx::mma_m16n8k16(score[i][2 * j + 1], query[i][k], key[2], key[3]);
                }
            }
    }

    // Keys that a query does not look at score −infinity.
    __device__ __forceinline__ void mask(float (&score)[ROW_TILES][KEYS / 8][4], int first_query, int first_key,
                                         int tokens) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int row = first_query + 16 * i + lane / 4 + e / 2 * 8;
                    const int key = first_key + 8 * j + lane % 4 * 2 + e % 2;
                    if (key >= tokens || (CAUSAL && key > row)) score[i][j][e] = -INFINITY;
                }
    }

    // Sums relative to an old maximum become sums relative to a new one.
    __device__ __forceinline__ void rescale(int i, int lower, float by) {
        weight[i][lower] *= by;
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++) {
            sum[i][j][2 * lower] *= by;
            sum[i][j][2 * lower + 1] *= by;
        }
    }

    // Scores become weights relative to the new maxima. fmaxf passes NaN by, which then is a weight of NaN.
    __device__ __forceinline__ void online_softmax(float (&score)[ROW_TILES][KEYS / 8][4], float scale_log2) {
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                float top = -INFINITY;
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
                    top = fmaxf(top, fmaxf(score[i][j][2 * lower], score[i][j][2 * lower + 1]));
                top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
                if (!mutant(5)) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
                top = fmaxf(maximum[i][lower], top * scale_log2);
                const float from = base(top);
                rescale(i, lower, mutant(10) ? 1.0f : ptx::ex2(maximum[i][lower] - from));
                maximum[i][lower] = top;
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 2 * lower; e < 2 * lower + 2; e++) {
                        score[i][j][e] = ptx::ex2(fmaf(score[i][j][e], scale_log2, -from));
                        weight[i][lower] += score[i][j][e];
                    }
            }
    }

    // The weights never leave their registers: two result tiles side by side are one operand of the next product.
    __device__ __forceinline__ void add_weighted_values(const float (&weights)[ROW_TILES][KEYS / 8][4], uint32_t values) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            uint32_t w[ROW_TILES][4];
#pragma unroll
            for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
                for (int part = 0; part < 4; part++) {
                    const float* pair = &weights[i][2 * k + part / 2][part % 2 * 2];
                    w[i][part] = ptx::pack_half2(pair[0], pair[1]);
                }
#pragma unroll
            for (int j = 0; j < HEAD / 16; j++) {
                uint32_t value[4];
                ptx::ldmatrix_x4_trans(value, values + read_offset(16 * k + lane % 16, 2 * j + lane / 16));
#pragma unroll
                for (int i = 0; i < ROW_TILES; i++) {
                    ptx::mma_m16n8k16(sum[i][2 * j], w[i], value[0], value[1]);
                    ptx::mma_m16n8k16(sum[i][2 * j + 1], w[i], value[2], value[3]);
                }
            }
        }
    }

    // What one team hands to the other: floats of a thread, TEAM apart, so that lanes lie side by side.
    static constexpr int FLOATS = ROW_TILES * (2 + 2 + HEAD / 8 * 4);
    static __device__ __forceinline__ int maximum_at(int i, int lower) { return (2 * i + lower) * TEAM; }
    static __device__ __forceinline__ int weight_at(int i, int lower) { return (2 * (ROW_TILES + i) + lower) * TEAM; }
    static __device__ __forceinline__ int sum_at(int i, int j, int e) {
        return (4 * ROW_TILES + 4 * (HEAD / 8 * i + j) + e) * TEAM;
    }

    __device__ __forceinline__ void store_partial(float* exchange) const {
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) {
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                exchange[maximum_at(i, lower)] = maximum[i][lower];
                exchange[weight_at(i, lower)] = weight[i][lower];
            }
#pragma unroll
            for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) exchange[sum_at(i, j, e)] = sum[i][j][e];
        }
    }

    // Adds what the same rows came to over other keys.
    __device__ __forceinline__ void merge_partial(const float* exchange) {
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                const float other = exchange[maximum_at(i, lower)], from = base(fmaxf(maximum[i][lower], other));
                const float by = mutant(13) ? 1.0f : ptx::ex2(other - from);
                rescale(i, lower, ptx::ex2(maximum[i][lower] - from));
                weight[i][lower] += by * exchange[weight_at(i, lower)];
#pragma unroll
                for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
                    for (int e = 2 * lower; e < 2 * lower + 2; e++) sum[i][j][e] += by * exchange[sum_at(i, j, e)];
            }
    }

    // Divides by the weights' sums and writes, by way of `staging` (the warp's own), so that lanes store neighbouring bytes.
    __device__ __forceinline__ void store(unsigned char* staging, half* out, int stride, int first_query, int tokens) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                float total = weight[i][lower];
                total += __shfl_xor_sync(0xffffffff, total, 1);
                total += __shfl_xor_sync(0xffffffff, total, 2);
                const float inverse = 1.0f / total;
#pragma unroll
                for (int j = 0; j < HEAD / 8; j++) {
                    const uint32_t at = Rows::offset(16 * i + 8 * lower + lane / 4, j) + lane % 4 * 4;
                    *reinterpret_cast<uint32_t*>(staging + at) =
                        ptx::pack_half2(sum[i][j][2 * lower] * inverse, sum[i][j][2 * lower + 1] * inverse);
                }
            }
        if (!mutant(6)) __syncwarp();
        const int chunk = lane % Rows::ROW_CHUNKS;
#pragma unroll
        for (int i = 0; i < 4 * ROW_TILES; i++) {
            const int row = lane / Rows::ROW_CHUNKS + 4 * i;
            if (first_query + row < tokens || mutant(7))
                *reinterpret_cast<uint4*>(out + static_cast<size_t>(first_query + row) * stride + chunk * CHUNK) =
                    *reinterpret_cast<const uint4*>(staging + Rows::offset(row, chunk));
        }
    }
};

struct AttentionParams {
    const half* qkv;
    half* out;
    uint32_t tokens, heads;
    float scale;
    uint32_t padding;
    Prefetch next[PREFETCHES]; // what the products behind it multiply with
};

// A block of so many warps of 16 · ROW_TILES queries.
template <int ROW_TILES, int TEAMS>
struct Block {
    static constexpr int WARP_QUERIES = 16 * ROW_TILES, QUERIES = WARPS * WARP_QUERIES, THREADS = TEAMS * TEAM;
    static constexpr int STEP = TEAMS * KEYS, STAGE_BYTES = 2 * TEAMS * TILE_BYTES; // all teams' keys, then their values
    static constexpr int SHARED_BYTES = QUERIES * Rows::ROW_BYTES + STAGES * STAGE_BYTES;

    static constexpr Spec declared() { return Spec().shared(SHARED_BYTES).rows(QUERIES).columns(HEAD).step(STEP); }
};

template <int ROW_TILES, int TEAMS, bool CAUSAL>
__device__ __forceinline__ void attention(const AttentionParams& p) {
    using B = Block<ROW_TILES, TEAMS>;
    constexpr int WARP_QUERIES = B::WARP_QUERIES, QUERIES = B::QUERIES, THREADS = B::THREADS;
    constexpr int STEP = B::STEP, STAGE_BYTES = B::STAGE_BYTES;
    using State = Warp<ROW_TILES, CAUSAL>;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t queries = ptx::shared_address(shared), stages = queries + QUERIES * Rows::ROW_BYTES;

    const int tokens = p.tokens, query_tiles = ceil_div(tokens, QUERIES), batch = blockIdx.x / query_tiles;
    const int team = threadIdx.x / TEAM, warp = threadIdx.x % TEAM / 32;
    const int width = p.heads * HEAD, stride = 3 * width;
    const half* q = p.qkv + static_cast<size_t>(batch) * tokens * stride + blockIdx.y * HEAD;
    const half* k = q + width;
    const half* v = k + width;
    half* to = p.out + static_cast<size_t>(batch) * tokens * width + blockIdx.y * HEAD;

    const int block_query = (blockIdx.x - batch * query_tiles) * QUERIES, first_query = block_query + warp * WARP_QUERIES;
    const int attended = CAUSAL ? min(tokens, block_query + QUERIES) : tokens;
    // Warps behind the last query only help with the copies.
    const int attended_by_warp = first_query >= tokens ? 0 : CAUSAL ? min(tokens, first_query + WARP_QUERIES) : tokens;
    const int steps = ceil_div(attended, STEP);
    auto fetch = [&](int step) {
        const uint32_t stage = stages + step % STAGES * STAGE_BYTES;
        load_tile<STEP, THREADS>(stage, k, stride, step * STEP, tokens);
        load_tile<STEP, THREADS>(stage + TEAMS * TILE_BYTES, v, stride, step * STEP, tokens);
        ptx::cp_async_commit();
    };

    load_tile<QUERIES, THREADS>(queries, q, stride, block_query, tokens);
    fetch(0);
    const float scale_log2 = p.scale * LOG2_E;
    // Every thread's part of the next stage is there, and the other stage has been read by all.
    auto await = [] {
        ptx::cp_async_wait<mutant(8) ? 1 : 0>();
        if (!mutant(9)) __syncthreads();
    };
    await();
    State state;
    state.start(queries + warp * WARP_QUERIES * Rows::ROW_BYTES);
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) fetch(step + 1);
        const int first_key = step * STEP + team * KEYS;
        const uint32_t stage = stages + step % STAGES * STAGE_BYTES + (mutant(11) ? 0 : team * TILE_BYTES);
        if (first_key < attended_by_warp)
            state.add(stage, stage + TEAMS * TILE_BYTES, first_query, first_key, tokens, scale_log2);
        await();
    }
    if (TEAMS == 2) {
        static_assert(TEAMS <= 2 && (TEAMS == 1 || State::FLOATS * TEAM * 4 <= STAGES * STAGE_BYTES), "it takes the stages' place");
        float* exchange = reinterpret_cast<float*>(shared + QUERIES * Rows::ROW_BYTES) + threadIdx.x % TEAM;
        // All have read the stages at the loop's last barrier.
        if (team == 1) state.store_partial(exchange);
        if (!mutant(12)) __syncthreads();
        if (team == 1) return;
        state.merge_partial(exchange);
    }
    // Only this warp, and its like of the other team at the start, read these queries; the results leave by their place.
    state.store(shared + warp * WARP_QUERIES * Rows::ROW_BYTES, to, width, first_query, tokens);
}

extern "C" {

SPEC(attention_full_128, Block<2, 2>::declared())
__global__ void __launch_bounds__(Block<2, 2>::THREADS, 1) attention_full_128(const __grid_constant__ AttentionParams p) {
    prefetch(p.next);
    begin_kernel();
    attention<2, 2, false>(p);
}

SPEC(attention_full_64, Block<1, 1>::declared())
__global__ void __launch_bounds__(Block<1, 1>::THREADS, 3) attention_full_64(const __grid_constant__ AttentionParams p) {
    prefetch(p.next);
    begin_kernel();
    attention<1, 1, false>(p);
}

SPEC(attention_causal_64, Block<1, 1>::declared().variant(variant::CAUSAL))
__global__ void __launch_bounds__(Block<1, 1>::THREADS, 3) attention_causal_64(const __grid_constant__ AttentionParams p) {
    prefetch(p.next);
    begin_kernel();
    attention<1, 1, true>(p);
}

}
