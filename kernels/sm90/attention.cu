// out = softmax(scale · q·kᵀ) · v for every head on the warpgroups of compute capability 9.0: attention.cu's function in kernels of
// their own, with its semantics (a score of NaN makes its row NaN; where all are −infinity the row is 0 / 0).
//
//   qkv   [batch, tokens, 3, heads, size]   f16
//   out   [batch, tokens, heads, size]      f16
//   scale                                   f32, positive
//
// full: every token looks at every token. causal: at itself and those before it.
//
// Tensor maps, both with the 128-byte swizzle: qkv {size, 3 · heads, tokens, batch} in boxes of {size, 1, KEYS, 1}, by which queries,
// keys and values of a head come alike; out {size, heads, tokens, batch} in boxes of {size, 1, 64, 1}. Tokens past the last one
// arrive as zeros and are left out on the way back.
//
// A block has QUERIES queries of a head: one warpgroup produces, a thread of it has queries copied once, and keys and values in
// a ring of stages; two consume, each has 64 of the queries. A group's scores of a tile of keys are one product of shared memory
// (wgmma), its weights stay in registers as the left factor of the next, whose right factor, the values, is read transposed.
// What keeps tensor cores and special functions both at work:
// - a group asks for the scores of the next tile and for the weighted values of this one at once, and makes weights of the
//   former while the latter are summed up;
// - the groups take turns at asking: one's softmax runs beside the other's products.
// The last tile of keys is as wide as what is left asks for: 16, 64 or all.
//
// wgmma_attention_full_polynomial makes one of eight exponentials by multiplications instead: the model of time sees no gain, for it has
// attention wait for instructions to be issued; `bench kernels --sweep` compares the two on a GPU.
//
// Needs: size HEAD, qkv and out aligned to 16 bytes. Tokens: any number from 1 on.
// Launch: grid (batch · ⌈tokens / QUERIES⌉, heads).
// Cost: 4·size·heads·tokens² FLOP a batch entry (half of it causal), blocks of whole queries and the last tile as above charged; of
// a block's exponentials, QUERIES · tokens, as many clocks as of its products: 16 and 16·256 FLOP a clock. From the L2 cache
// 4·size·tokens bytes a block (half of it causal).
//
// Mutants: 100 queries before the grid's wait, 101 waits for no empty stage, 102 parity of an empty stage, 103 half of a tile's bytes
// announced, 104 first barrier not made, 105 queries not waited for, 106 keys not waited for, 107 values not waited for, 108 parity
// of a full stage, 109 no fence before products, 110 products not committed, 111 scores not waited for, 112 sums not waited for,
// 113 stage given back while its values are read, 114 one reader too few, 115 one reader too many, 116 values of the scores' tile,
// 117 values as they lie, 118 depth of the values' step, 119 queries of another group, 120 keys behind the end not masked, 121 last
// tile too narrow, 122 maximum of half a row, 123 sums not scaled down to a new maximum, 124 weights' sum of half a row, 125 turn
// given to nobody, 126 both begin, 127 no fence before the store, 128 store before all have staged, 129 store not committed, 130
// block ends before the store has read, 131 rows of another group, 132 batch item forgotten, 133 power forgotten (polynomial).

#include "prefetch.cuh"
#include "sm90/group.cuh"

constexpr int HEAD = 64;
constexpr int GROUPS = 2;
constexpr int QUERIES = GROUP_ROWS * GROUPS;
constexpr int THREADS = GROUP_THREADS * (1 + GROUPS);
constexpr int KEYS = 128; // of a tile
constexpr int TILE_BYTES = KEYS * ROW_BYTES;
static_assert(QUERIES == KEYS && HEAD * 2 == ROW_BYTES, "queries, keys and values come in boxes of one shape");
// Two are read, keys of one and values of the other, one has come, one is under way.
constexpr int STAGES = 4;
constexpr int BARRIERS = TILE_BYTES + STAGES * 2 * TILE_BYTES;
constexpr int SHARED_BYTES = ALIGNMENT + BARRIERS + 8 * (1 + 3 * STAGES);
// Registers of a thread: what is left by the producers, who need few, goes to the consumers.
constexpr int PRODUCER_REGISTERS = 24, CONSUMER_REGISTERS = 240;
// Named barriers: the groups' own for the staging, and of their turns.
constexpr int OWN_BARRIER = 1, TURN_BARRIER = OWN_BARRIER + GROUPS;
constexpr float LOG2_E = 1.4426950408889634f;
// One of so many exponentials is a polynomial, where some are: so many that special functions are no longer at work for longer than
// tensor cores, and no more, since instructions are issued for nearly as long.
constexpr int POLYNOMIALS = 8;

struct AttentionParams {
    TensorMap qkv, out;
    uint32_t tokens, heads;
    float scale;
    uint32_t padding;
    Prefetch next[PREFETCHES]; // what the products behind it multiply with
};

// What scores are measured from: their maximum, but 0 where there is none, since −infinity from itself is NaN.
__device__ __forceinline__ float base(float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum;
}

// Where a block's queries lie, and what they look at.
struct Place {
    uint32_t queries, barriers;
    int item, head, heads, tokens, first_query, tiles;

    __device__ __forceinline__ Place(uint32_t shared, const AttentionParams& p, bool causal) {
        queries = (shared + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        barriers = queries + BARRIERS;
        const int query_tiles = ceil_div(p.tokens, QUERIES);
        item = blockIdx.x / query_tiles;
        head = blockIdx.y;
        heads = p.heads;
        tokens = p.tokens;
        first_query = (blockIdx.x - item * query_tiles) * QUERIES;
        tiles = ceil_div(causal ? min(tokens, first_query + QUERIES) : tokens, KEYS);
    }

    __device__ __forceinline__ uint32_t keys(int tile) const { return queries + TILE_BYTES + tile % STAGES * 2 * TILE_BYTES; }
    __device__ __forceinline__ uint32_t values(int tile) const { return keys(tile) + TILE_BYTES; }
    __device__ __forceinline__ uint32_t queries_full() const { return barriers; }
    __device__ __forceinline__ uint32_t keys_full(int tile) const { return barriers + 8 + 24 * (tile % STAGES); }
    __device__ __forceinline__ uint32_t values_full(int tile) const { return keys_full(tile) + 8; }
    // Values are read last.
    __device__ __forceinline__ uint32_t empty(int tile) const { return keys_full(tile) + 16; }
    // How often its stage was used before, as a phase's parity.
    __device__ __forceinline__ uint32_t parity(int tile) const { return tile / STAGES % 2; }
};

__device__ __forceinline__ void prepare(const Place& place, const AttentionParams& p) {
    if (threadIdx.x == 0) {
        ptx::prefetch_map(p.qkv);
        ptx::prefetch_map(p.out);
        ptx::mbarrier_init(place.queries_full(), 1);
        const int readers = GROUPS - (mutant(114) ? 1 : 0) + (mutant(115) ? 1 : 0);
        for (int stage = mutant(104) ? 1 : 0; stage < STAGES; stage++) {
            ptx::mbarrier_init(place.keys_full(stage), 1);
            ptx::mbarrier_init(place.values_full(stage), 1);
            ptx::mbarrier_init(place.empty(stage), readers);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
}

struct Producer {
    const Place& place;
    const TensorMap& qkv;
    // From the kernel before, and for other blocks, too.
    uint64_t soon = ptx::evict_last();

    // `which`: 0 queries, 1 keys, 2 values.
    __device__ __forceinline__ void load(int which, int first_token, uint32_t to, uint32_t full) const {
        ptx::mbarrier_expect(full, mutant(103) ? TILE_BYTES / 2 : TILE_BYTES);
        const int item = mutant(132) ? 0 : place.item;
        ptx::load_box(to, qkv, full, 0, which * place.heads + place.head, first_token, item, soon);
    }

    // One thread.
    __device__ __forceinline__ void run() const {
        if (!mutant(100)) ptx::grid_wait();
        load(0, place.first_query, place.queries, place.queries_full());
        for (int tile = 0; tile < place.tiles; tile++) {
            if (tile >= STAGES && !mutant(101)) ptx::mbarrier_wait(place.empty(tile), place.parity(tile) ^ (mutant(102) ? 0 : 1));
            load(1, tile * KEYS, place.keys(tile), place.keys_full(tile));
            load(2, tile * KEYS, place.values(tile), place.values_full(tile));
        }
        ptx::grid_launch_dependents();
    }
};

// 2^x to 1e-4 of it, of x from −127 on and a little above 0, by multiplications: 2^n of its nearest whole number, and a polynomial
// in the rest (Cody, Waite), the least in its largest relative error. Below −127, and for −infinity, 0; NaN stays.
__device__ __forceinline__ float polynomial_ex2(float x) {
    // Adding it leaves n in a sum's lowest bits.
    constexpr float MIDDLE = 12582912.0f;
    x = ptx::max_nan(x, -127.0f);
    const float whole = x + MIDDLE, rest = x - (whole - MIDDLE);
    const float power = __uint_as_float((__float_as_uint(whole) << 23) + __float_as_uint(1.0f));
    const float p = fmaf(fmaf(fmaf(0.0551716685f, rest, 0.242611125f), rest, 0.693260968f), rest, 0.999928057f);
    return p * (mutant(133) ? 1.0f : power);
}

// A consuming group. A thread has of its 64 rows two, eight apart, and of every eight columns a pair (`pair_at`): a row is shared by
// four neighbouring lanes.
template <bool CAUSAL, bool POLYNOMIAL>
struct Consumer {
    const Place& place;
    int group;
    float scale_log2;
    float sum[HEAD / 2];            // of weighted values
    float maximum[2];               // of the scores so far, in units of log 2
    float weight[2];                // this lane's part of the weights' sum
    float rescaling[2];             // by which the sums so far become relative to the newest maximum
    uint32_t weights[KEYS / 16][4]; // of the newest tile: fragments, each 16 keys wide

    __device__ __forceinline__ Consumer(const Place& place, int group, float scale_log2)
        : place(place), group(group), scale_log2(scale_log2) {}

    __device__ __forceinline__ bool leads() const { return threadIdx.x % GROUP_THREADS == 0; }
    __device__ __forceinline__ int first_row() const { return place.first_query + group * GROUP_ROWS; }

    __device__ __forceinline__ void await_full(uint32_t full, int tile) const {
        ptx::mbarrier_wait(full, place.parity(tile) ^ (mutant(108) ? 1 : 0));
    }

    // No product of this group reads the stage any more.
    __device__ __forceinline__ void give_back(int tile) const {
        if (leads()) ptx::mbarrier_arrive(place.empty(tile));
    }

    // The groups' turns: the first begins, and after the last tile the last gives none.
    __device__ __forceinline__ void await_turn(int tile) const {
        if (group > 0 ? !mutant(126) : tile > 0) ptx::named_barrier(TURN_BARRIER + group, GROUPS * GROUP_THREADS);
    }

    __device__ __forceinline__ void pass_turn(int tile) const {
        if ((group == 0 || tile + 1 < place.tiles) && !mutant(125))
            ptx::named_arrive(TURN_BARRIER + 1 - group, GROUPS * GROUP_THREADS);
    }

    static __device__ __forceinline__ void commit() {
        if (!mutant(110)) ptx::wgmma_commit();
    }

    // Registers that are written before the products are not written behind this.
    __device__ __forceinline__ void fence() {
        ptx::pin(sum);
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) ptx::pin(weights[step]);
        if (!mutant(109)) ptx::wgmma_fence();
    }

    template <int COLUMNS>
    __device__ __forceinline__ void multiply_keys(float (&score)[COLUMNS / 2], int tile) const {
        const uint32_t rows = place.queries + (mutant(119) ? 0 : group) * GROUP_ROWS * ROW_BYTES;
        const uint64_t query = ptx::matrix_descriptor(rows), key = ptx::matrix_descriptor(place.keys(tile));
#pragma unroll
        for (int step = 0; step < HEAD / 16; step++)
            ptx::Wgmma<COLUMNS>::shared(score, ptx::deeper(query, step * 32), ptx::deeper(key, step * 32), step > 0);
        commit();
    }

    template <int COLUMNS>
    __device__ __forceinline__ void multiply_values(int tile) {
        const uint64_t value = ptx::matrix_descriptor(place.values(mutant(116) ? tile + 1 : tile));
#pragma unroll
        for (int step = 0; step < COLUMNS / 16; step++) {
            const uint64_t rows = ptx::deeper(value, step * 16 * (mutant(118) ? ROW_BYTES / 2 : ROW_BYTES));
            if (mutant(117)) {
                ptx::Wgmma<HEAD>::registers(sum, weights[step], rows, 1);
            } else {
                ptx::Wgmma<HEAD>::registers_transposed(sum, weights[step], rows, 1);
            }
        }
        commit();
    }

    // Keys that a query does not look at score −infinity.
    template <int COLUMNS>
    __device__ __forceinline__ void mask(float (&score)[COLUMNS / 2], int tile) const {
        if (mutant(120)) return;
        const int row = first_row() + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
        const int first_key = tile * KEYS + threadIdx.x % 4 * 2;
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            const int keys = (CAUSAL ? min(place.tokens, row + 8 * lower + 1) : place.tokens) - first_key;
#pragma unroll
            for (int eight = 0; eight < COLUMNS / 8; eight++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (8 * eight + e >= keys) score[pair_at(eight, lower) + e] = -INFINITY;
        }
    }

    // Scores become weights relative to the new maxima. fmaxf passes NaN by, which then is a weight of NaN.
    template <int COLUMNS>
    __device__ __forceinline__ void online_softmax(float (&score)[COLUMNS / 2]) {
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            float top = -INFINITY;
#pragma unroll
            for (int eight = 0; eight < COLUMNS / 8; eight++)
                top = fmaxf(top, fmaxf(score[pair_at(eight, lower)], score[pair_at(eight, lower) + 1]));
            top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
            if (!mutant(122)) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
            top = fmaxf(maximum[lower], top * scale_log2);
            const float from = base(top);
            rescaling[lower] = mutant(123) ? 1.0f : ptx::ex2(maximum[lower] - from);
            maximum[lower] = top;
            weight[lower] *= rescaling[lower];
#pragma unroll
            for (int eight = 0; eight < COLUMNS / 8; eight++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& of_key = score[pair_at(eight, lower) + e];
                    of_key = fmaf(of_key, scale_log2, -from);
                    of_key = POLYNOMIAL && eight % POLYNOMIALS == 0 ? polynomial_ex2(of_key) : ptx::ex2(of_key);
                    weight[lower] += of_key;
                }
        }
    }

    // Sums relative to the old maxima become sums relative to the new ones.
    __device__ __forceinline__ void rescale() {
#pragma unroll
        for (int eight = 0; eight < HEAD / 8; eight++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++)
#pragma unroll
                for (int e = 0; e < 2; e++) sum[pair_at(eight, lower) + e] *= rescaling[lower];
    }

    // Two results of eight columns side by side are one fragment of the next product.
    template <int COLUMNS>
    __device__ __forceinline__ void keep_weights(const float (&score)[COLUMNS / 2]) {
#pragma unroll
        for (int step = 0; step < COLUMNS / 16; step++)
#pragma unroll
            for (int part = 0; part < 4; part++) {
                const int pair = pair_at(2 * step + part / 2, part % 2);
                weights[step][part] = ptx::pack_half2(score[pair], score[pair + 1]);
            }
    }

    // Of the first tile.
    __device__ __forceinline__ void start() {
#pragma unroll
        for (int i = 0; i < HEAD / 2; i++) sum[i] = 0.0f;
        maximum[0] = maximum[1] = -INFINITY;
        weight[0] = weight[1] = 0.0f;
        if (!mutant(105)) ptx::mbarrier_wait(place.queries_full(), 0);
        if (!mutant(106)) await_full(place.keys_full(0), 0);
        await_turn(0);
        float score[KEYS / 2];
        if (!mutant(109)) ptx::wgmma_fence();
        multiply_keys<KEYS>(score, 0);
        pass_turn(0);
        ptx::wgmma_wait<0>();
        ptx::pin(score);
        if (place.tiles == 1) mask<KEYS>(score, 0);
        online_softmax<KEYS>(score);
        keep_weights<KEYS>(score);
    }

    // Of a tile behind the first, the first COLUMNS keys: their weights, and meanwhile the weighted values of the tile before.
    template <int COLUMNS, bool IS_LAST>
    __device__ __forceinline__ void step(int tile) {
        if (!mutant(106)) await_full(place.keys_full(tile), tile);
        if (!mutant(107)) await_full(place.values_full(tile - 1), tile - 1);
        await_turn(tile);
        float score[COLUMNS / 2];
        fence();
        multiply_keys<COLUMNS>(score, tile);
        multiply_values<KEYS>(tile - 1);
        if (mutant(113)) give_back(tile - 1);
        pass_turn(tile);
        if (!mutant(111)) ptx::wgmma_wait<1>();
        ptx::pin(score);
        if (IS_LAST) mask<COLUMNS>(score, tile);
        online_softmax<COLUMNS>(score);
        // All of it, while the values are multiplied.
        ptx::make_before_waiting(weight[0] + weight[1], place.barriers);
        if (!mutant(112)) ptx::wgmma_wait<0>();
        ptx::pin(sum);
        if (!mutant(113)) give_back(tile - 1);
        rescale();
        keep_weights<COLUMNS>(score);
    }

    // The newest weights' values.
    template <int COLUMNS>
    __device__ __forceinline__ void finish() {
        const int tile = place.tiles - 1;
        if (!mutant(107)) await_full(place.values_full(tile), tile);
        fence();
        multiply_values<COLUMNS>(tile);
        ptx::wgmma_wait<0>();
        ptx::pin(sum);
    }

    template <int COLUMNS>
    __device__ __forceinline__ void step_and_finish() {
        step<COLUMNS, true>(place.tiles - 1);
        finish<COLUMNS>();
    }

    // The group's sums.
    __device__ __forceinline__ void run() {
        start();
        const int last = place.tiles - 1;
        for (int tile = 1; tile < last; tile++) step<KEYS, false>(tile);
        // Of the last tile as much as the group's last query looks at.
        const int left = (CAUSAL ? min(place.tokens, first_row() + GROUP_ROWS) : place.tokens) - last * KEYS;
        if (last == 0) {
            finish<KEYS>();
        } else if (left <= (mutant(121) ? 64 : 16)) {
            step_and_finish<16>();
        } else if (left <= 64) {
            step_and_finish<64>();
        } else {
            step_and_finish<KEYS>();
        }
    }

    // Divides by the weights' sums; the results leave by the place of the group's queries, which only it has read.
    __device__ __forceinline__ void store(const TensorMap& out) {
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            float total = weight[lower];
            total += __shfl_xor_sync(0xffffffff, total, 1);
            if (!mutant(124)) total += __shfl_xor_sync(0xffffffff, total, 2);
            rescaling[lower] = 1.0f / total;
        }
        rescale();
        const uint32_t staging = place.queries + group * GROUP_ROWS * ROW_BYTES;
        stage_halves(sum, staging);
        if (!mutant(127)) ptx::fence_proxy_async();
        if (!mutant(128)) ptx::named_barrier(OWN_BARRIER + group, GROUP_THREADS);
        if (!leads()) return;
        ptx::store_box(out, staging, 0, place.head, mutant(131) ? place.first_query : first_row(), place.item);
        if (!mutant(129)) ptx::bulk_commit();
        // A block's shared memory is the next one's when it ends.
        if (!mutant(130)) ptx::bulk_wait_read();
    }
};

template <bool CAUSAL, bool POLYNOMIAL>
__device__ __forceinline__ void attention(const AttentionParams& p) {
    extern __shared__ unsigned char shared[];
    const Place place(ptx::shared_address(shared), p, CAUSAL);
    prefetch(p.next);
    prepare(place, p);
    if (threadIdx.x < GROUP_THREADS) {
        ptx::fewer_registers<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) Producer{place, p.qkv}.run();
    } else {
        ptx::more_registers<CONSUMER_REGISTERS>();
        Consumer<CAUSAL, POLYNOMIAL> consumer(place, threadIdx.x / GROUP_THREADS - 1, p.scale * LOG2_E);
        consumer.run();
        consumer.store(p.out);
    }
}

constexpr Spec declared() {
    return Spec().shared(SHARED_BYTES).rows(QUERIES).columns(HEAD).step(KEYS).group(GROUP_ROWS);
}

extern "C" {

SPEC(wgmma_attention_full, declared())
__global__ void __launch_bounds__(THREADS, 1) wgmma_attention_full(const __grid_constant__ AttentionParams p) {
    attention<false, false>(p);
}

SPEC(wgmma_attention_full_polynomial, declared().variant(variant::POLYNOMIAL))
__global__ void __launch_bounds__(THREADS, 1) wgmma_attention_full_polynomial(const __grid_constant__ AttentionParams p) {
    attention<false, true>(p);
}

SPEC(wgmma_attention_causal, declared().variant(variant::CAUSAL))
__global__ void __launch_bounds__(THREADS, 1) wgmma_attention_causal(const __grid_constant__ AttentionParams p) {
    attention<true, false>(p);
}

}
