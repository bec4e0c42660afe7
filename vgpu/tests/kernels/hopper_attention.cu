// out = softmax(q·kᵀ / 8)·v for compute capability 9.0, heads of 64: one bulk tensor copy of the queries, a ring of tiles of keys
// and values, both products by warpgroups, the weights in registers between them.
//
//   q, k, v, out   [tokens, heads, 64] f16
//
// Tensor maps {64, heads, tokens} with the 128-byte swizzle: q in boxes of 64×1×128, k and v of 64×1×64, out of 64×1×64. Launch:
// 384 threads, DYNAMIC bytes of shared memory, grid (⌈queries / 128⌉, heads).

#include "hopper.cuh"

constexpr int QUERIES = 128, KEYS = 64, STAGES = 2, GROUPS = 2, THREADS = 128 * (1 + GROUPS);
constexpr uint32_t Q_BYTES = QUERIES * 128, TILE_BYTES = KEYS * 128;
// Swizzled tiles begin at multiples of 1024.
constexpr uint32_t DYNAMIC = 1024 + Q_BYTES + 2 * STAGES * TILE_BYTES;
static_assert(DYNAMIC <= 227 * 1024);

struct Barriers {
    uint64_t queries, keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
};

// Where this block's parts lie in shared memory.
struct Places {
    unsigned char* shared;
    uint32_t queries, keys, values;
    Barriers* barriers;
};

__device__ __forceinline__ uint32_t at(const uint64_t& barrier) {
    return ptx::shared_address(&barrier);
}

// One thread. `empty`: given back by all groups.
__device__ void produce(const Places& places, const TensorMap& q_map, const TensorMap& k_map, const TensorMap& v_map, int keys) {
    const int query = blockIdx.x * QUERIES, head = blockIdx.y;
    Barriers& barriers = *places.barriers;
    ptx::mbarrier_expect(at(barriers.queries), Q_BYTES);
    ptx::load_box(places.queries, q_map, at(barriers.queries), 0, mutant(23) ? query : head, mutant(23) ? head : query);
    for (int tile = 0; tile * KEYS < keys; tile++) {
        const int stage = tile % STAGES;
        const uint32_t to = stage * TILE_BYTES, parity = tile / STAGES % 2 ^ 1;
        if (!mutant(5)) ptx::mbarrier_wait(at(barriers.keys_empty[stage]), parity);
        ptx::mbarrier_expect(at(barriers.keys_full[stage]), TILE_BYTES);
        ptx::load_box(places.keys + to, k_map, at(barriers.keys_full[stage]), 0, head, tile * KEYS);
        ptx::mbarrier_wait(at(barriers.values_empty[stage]), parity);
        ptx::mbarrier_expect(at(barriers.values_full[stage]), TILE_BYTES);
        ptx::load_box(places.values + to, v_map, at(barriers.values_full[stage]), 0, head, tile * KEYS);
    }
}

// The group's queries divided by 8 by ordinary loads and stores.
__device__ void scale_queries(unsigned char* queries) {
    for (int i = threadIdx.x % 128; i < 64 * 64 / 2; i += 128) {
        half2& pair = reinterpret_cast<half2*>(queries)[i];
        pair = __hmul2(pair, __float2half2_rn(0.125f));
    }
}

// Over the four lanes that share a row.
template <typename Combine>
__device__ __forceinline__ float over_row(float x, Combine combine, int steps = 2) {
    for (int step = 1; step < 1 << steps; step *= 2) x = combine(x, __shfl_xor_sync(0xffffffff, x, step));
    return x;
}

// What a thread knows of its two rows: 16·warp + lane / 4, and 8 below.
struct Rows {
    float top[2], total[2];
};

// Scores → weights 2^((score − top)·log2 e), in pairs of f16 as wgmma takes them. The factor by which what was summed before shrinks.
__device__ void weigh(float (&scores)[32], uint32_t (&weights)[4][4], float (&shrink)[2], Rows& rows, int first_key, int keys) {
    constexpr float LOG2_E = 1.44269504f;
    const int lane = threadIdx.x % 32;
    for (int half = 0; half < 2; half++) {
        float top = rows.top[half];
        for (int i = 0; i < 16; i++) {
            float& score = scores[i / 2 * 4 + half * 2 + i % 2];
            if (first_key + i / 2 * 8 + lane % 4 * 2 + i % 2 >= keys && !mutant(1)) score = -INFINITY;
            top = fmaxf(top, score);
        }
        top = over_row(top, [](float a, float b) { return fmaxf(a, b); }, mutant(3) ? 1 : 2);
        shrink[half] = ptx::ex2((rows.top[half] - top) * LOG2_E);
        rows.top[half] = top;
        float total = 0;
        for (int i = 0; i < 16; i++) {
            float& score = scores[i / 2 * 4 + half * 2 + i % 2];
            score = ptx::ex2((score - top) * LOG2_E);
            total += score;
        }
        rows.total[half] = rows.total[half] * (mutant(22) ? 1 : shrink[half]) + total;
    }
    for (int step = 0; step < 4; step++)
        for (int i = 0; i < 4; i++) weights[step][i] = ptx::pack_halves(scores[step * 8 + i * 2], scores[step * 8 + i * 2 + 1]);
}

__device__ void consume(const Places& places, const TensorMap& out_map, int keys, int group) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const bool leads = threadIdx.x % 128 == 0;
    Barriers& barriers = *places.barriers;
    const uint32_t queries = places.queries + group * 64 * 128;
    const int threads = mutant(15) ? 160 : 128;

    if (!mutant(4)) ptx::mbarrier_wait(at(barriers.queries), 0);
    scale_queries(places.shared + group * 64 * 128);
    if (!mutant(10)) ptx::fence_proxy_async();
    if (!mutant(11)) ptx::named_barrier(1 + group, threads);

    float sum[32] = {}, scores[32], shrink[2];
    uint32_t weights[4][4];
    Rows rows = {{-INFINITY, -INFINITY}, {0, 0}};
    auto score = [&](int tile) {
        const int stage = tile % STAGES;
        if (!mutant(21) || warp != 2) ptx::mbarrier_wait(at(barriers.keys_full[stage]), tile / STAGES % 2);
        ptx::wgmma_fence();
        for (int step = 0; step < 4; step++) {
            const uint32_t k = places.keys + (mutant(17) ? tile : stage) * TILE_BYTES + step * 32;
            ptx::wgmma(scores, ptx::descriptor(queries + step * 32), ptx::descriptor(k), step > 0 || mutant(14));
        }
        ptx::wgmma_commit();
        if (leads && mutant(20)) ptx::mbarrier_arrive(at(barriers.keys_empty[stage]));
    };
    auto add_values = [&](int tile) {
        const int stage = tile % STAGES;
        ptx::mbarrier_wait(at(mutant(12) ? barriers.keys_full[stage] : barriers.values_full[stage]), tile / STAGES % 2);
        if (!mutant(8)) ptx::wgmma_fence();
        for (int step = 0; step < 4; step++) {
            const uint32_t v = places.values + stage * TILE_BYTES + step * 16 * 128;
            ptx::wgmma_registers<mutant(9) ? 0 : 1>(sum, weights[step], ptx::descriptor(v, mutant(16) ? 2048 : 1024));
        }
        ptx::wgmma_commit();
        if (leads && mutant(6)) ptx::mbarrier_arrive(at(barriers.values_empty[stage]));
    };
    // The scores of a tile are done, and the values of the tile before are added.
    auto use_scores = [&](int tile) {
        if (leads && !mutant(20)) ptx::mbarrier_arrive(at(barriers.keys_empty[tile % STAGES]));
        if (leads && tile > 0 && !mutant(6)) ptx::mbarrier_arrive(at(barriers.values_empty[(tile - 1) % STAGES]));
        weigh(scores, weights, shrink, rows, tile * KEYS, keys);
        for (int i = 0; i < 32; i++)
            if (!mutant(2)) sum[i] *= shrink[i / 2 % 2];
        add_values(tile);
    };
    score(0);
    ptx::wgmma_wait<0>();
    const int last = (keys - 1) / KEYS;
    for (int tile = 0; tile < last; tile++) {
        use_scores(tile);
        score(tile + 1);
        ptx::wgmma_wait<mutant(7) ? 1 : 0>();
    }
    use_scores(last);
    if (!mutant(18)) ptx::wgmma_wait<0>();

    // The results take the place of the group's queries.
    for (int half = 0; half < 2; half++) {
        const float total = over_row(rows.total[half], [](float a, float b) { return a + b; }, mutant(19) ? 1 : 2);
        for (int i = 0; i < 16; i++) sum[i / 2 * 4 + half * 2 + i % 2] /= total;
    }
    for (int j = 0; j < 8; j += 2) {
        uint32_t packed[4];
        for (int i = 0; i < 4; i++) packed[i] = ptx::pack_halves(sum[j * 4 + i * 2], sum[j * 4 + i * 2 + 1]);
        ptx::stmatrix(queries + swizzled(16 * warp + lane % 16, j + lane / 16), packed[0], packed[1], packed[2], packed[3]);
    }
    if (!mutant(13)) ptx::fence_proxy_async();
    ptx::named_barrier(1 + group, 128);
    if (leads) {
        ptx::store_box(out_map, queries, 0, blockIdx.y, blockIdx.x * QUERIES + group * 64);
        ptx::bulk_commit();
        ptx::bulk_wait_read();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
hopper_attention(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
                 const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap out_map, int keys) {
    extern __shared__ __align__(1024) unsigned char shared[];
    __shared__ Barriers barriers;
    const uint32_t aligned = (ptx::shared_address(shared) + 1023) / 1024 * 1024;
    const Places places = {shared + (aligned - ptx::shared_address(shared)), aligned, aligned + Q_BYTES, aligned + Q_BYTES + STAGES * TILE_BYTES, &barriers};
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(at(barriers.queries), 1);
        for (int stage = 0; stage < STAGES; stage++) {
            ptx::mbarrier_init(at(barriers.keys_full[stage]), 1);
            ptx::mbarrier_init(at(barriers.values_full[stage]), 1);
            ptx::mbarrier_init(at(barriers.keys_empty[stage]), GROUPS);
            ptx::mbarrier_init(at(barriers.values_empty[stage]), GROUPS);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    const int group = threadIdx.x / 128;
    if (group == 0) {
        ptx::fewer_registers<24>();
        if (threadIdx.x == 0) produce(places, q_map, k_map, v_map, keys);
    } else {
        ptx::more_registers<240>();
        consume(places, out_map, keys, group - 1);
    }
}
