// What happens to the sums of product.cuh on their way out: parts of the depth become one, then out = func(sum + bias + Σ add),
// by way of shared memory and TMA.
//
// Mutants: 50 parts joined before all have multiplied, 51 parts read before they have come, 52 part forgotten, 53 another's
// columns, 54 columns unchecked (bias), 55 rows unchecked (add), 56 add of one row alone, 59 no fence before the store, 60 store
// before all have staged, 61 store not committed, 62 block ends before the store has read, 63 rows of another group, 64 staged over
// what is read, 65 adds of the box before (conv), 66 adds of another lane (conv), 69 staged while another group multiplies.
#pragma once

#include "sm90/product.cuh"

// What is added to a thread's two neighbouring sums. `own`: the row's bias, or null.
struct Addends {
    const Epilogue& epilogue;
    int item;

    __device__ __forceinline__ float2 bias(const float* own, uint32_t column) const {
        const bool inside = column < epilogue.columns || mutant(54);
        return own && inside ? *reinterpret_cast<const float2*>(own + column) : make_float2(0.0f, 0.0f);
    }

    // All of it, for a thread's pair of eight columns and of the eight behind them.
    __device__ __forceinline__ void at(float2 (&sum)[2], const float* own, uint32_t row, uint32_t column) const {
        const uint32_t lane = threadIdx.x % 4;
        const bool row_inside = row < epilogue.rows || mutant(55);
#pragma unroll
        for (int eight = 0; eight < 2; eight++) sum[eight] = bias(own, column + 8 * eight + 2 * lane);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const Residual& add = epilogue.add[i];
            if (!add.rows) continue;
            const size_t from = item * add.batch_stride + static_cast<size_t>(mutant(56) ? 0 : row) * add.row_stride;
            float2 more[2] = {make_float2(0.0f, 0.0f), make_float2(0.0f, 0.0f)};
            if (add.is_float) {
#pragma unroll
                for (int eight = 0; eight < 2; eight++) {
                    const uint32_t pair = column + 8 * eight + 2 * lane;
                    const float* values = static_cast<const float*>(add.rows) + from + pair;
                    if (row_inside && pair < epilogue.columns) more[eight] = *reinterpret_cast<const float2*>(values);
                }
            } else {
                // A row's four lanes read all of its 32 bytes, each two pairs: one of its own and one of its neighbour's.
                const bool is_odd = lane % 2 != 0;
                const uint32_t pairs = column + 8 * (lane % 2) + 4 * (lane / 2);
                const half* values = static_cast<const half*>(add.rows) + from + pairs;
                uint2 read = make_uint2(0, 0);
                if (row_inside && pairs < epilogue.columns) read = *reinterpret_cast<const uint2*>(values);
                const uint32_t other = __shfl_xor_sync(0xffffffff, is_odd ? read.x : read.y, mutant(66) ? 2 : 1);
                more[0] = ptx::unpack_half2(is_odd ? other : read.x), more[1] = ptx::unpack_half2(is_odd ? read.y : other);
            }
#pragma unroll
            for (int eight = 0; eight < 2; eight++)
                sum[eight] = make_float2(sum[eight].x + more[eight].x, sum[eight].y + more[eight].y);
        }
    }
};

// Parts of the depth become one: each owner takes an equal share of the columns, from every part in the parts' order, so that the
// result does not depend on who was first. `own`: its share. Every thread of the cluster's blocks comes here or to `join_idle`.
template <typename S>
__device__ __forceinline__ void join(const Place<S>& place, const float (&sum)[S::SUMS], float (&own)[S::OWN_SUMS], int group) {
    if constexpr (S::PARTS == 1) {
#pragma unroll
        for (int i = 0; i < S::SUMS; i++) own[i] = sum[i];
    } else {
        constexpr int VECTORS = S::OWN_SUMS / 4, CONSUMERS = GROUP_THREADS * S::GROUPS;
        constexpr int SLOT_BYTES = VECTORS * CONSUMERS * 16, RECEIVED = (S::PARTS - 1) * SLOT_BYTES;
        // Behind the stages whose first tiles the results leave through.
        constexpr int AT = S::BARRIERS - RECEIVED;
        static_assert(AT >= S::OWN_COLUMNS / 32 * S::STAGE_BYTES, "what comes does not lie where results are staged");
        const uint32_t thread = group * GROUP_THREADS + threadIdx.x % GROUP_THREADS;
        auto slot = [&](int from, int to) { return place.stages + AT + (from < to ? from : from - 1) * SLOT_BYTES + thread * 16; };

        // The peers' stages are memory again when they have multiplied all of them.
        if (!mutant(50)) {
            ptx::cluster_arrive();
            ptx::cluster_wait();
        }
#pragma unroll
        for (int to = 0; to < S::OWNERS; to++) {
            if (to == place.part) continue;
            const int block = place.rank - place.part + to;
            const uint32_t mapped = ptx::map_to_rank(slot(place.part, to), block);
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                const float* s = sum + to * S::OWN_SUMS + 4 * v;
                ptx::store_cluster_16(mapped + v * CONSUMERS * 16, make_float4(s[0], s[1], s[2], s[3]));
            }
        }
        ptx::cluster_arrive();
        if (!mutant(51)) ptx::cluster_wait();
        if (!place.owns()) return;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            float4 mine;
#pragma unroll
            for (int of = 0; of < S::OWNERS; of++) {
                const float* s = sum + (mutant(53) ? S::OWNERS - 1 - of : of) * S::OWN_SUMS + 4 * v;
                if (of == place.part) mine = make_float4(s[0], s[1], s[2], s[3]);
            }
            float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
            for (int from = 0; from < S::PARTS - (mutant(52) ? 1 : 0); from++) {
                uint32_t taken[4];
                if (from != place.part) ptx::load_shared_16(taken, slot(from, place.part) + v * CONSUMERS * 16);
                const float4 add = from == place.part ? mine
                                                      : make_float4(__uint_as_float(taken[0]), __uint_as_float(taken[1]),
                                                                    __uint_as_float(taken[2]), __uint_as_float(taken[3]));
                total = make_float4(total.x + add.x, total.y + add.y, total.z + add.z, total.w + add.w);
            }
            own[4 * v] = total.x, own[4 * v + 1] = total.y, own[4 * v + 2] = total.z, own[4 * v + 3] = total.w;
        }
        if (mutant(51)) ptx::cluster_wait();
    }
}

// The part in it of threads without sums.
template <typename S>
__device__ __forceinline__ void join_idle() {
    if constexpr (S::PARTS > 1) {
        for (int barrier = mutant(50) ? 1 : 0; barrier < 2; barrier++) {
            ptx::cluster_arrive();
            ptx::cluster_wait();
        }
    }
}

template <int N>
__device__ __forceinline__ void apply_all(uint32_t func, float (&v)[N]) {
    switch (func) {
    case RELU:
#pragma unroll
        for (float& x : v) x = apply(RELU, x);
        break;
    case GELU:
#pragma unroll
        for (float& x : v) x = gelu(x);
        break;
    case QUICK_GELU:
#pragma unroll
        for (float& x : v) x = apply(QUICK_GELU, x);
        break;
    default: break;
    }
}

// The group's rows of the block's own columns, one box of 128 bytes a row after the other. `Rows` says where they lie: `row` which row
// of the item one of a group is (none of its rows where it is outside), `bias` which bias it has, `store` copies a box out. ADDS:
// larger tiles, too, take what is added; FLOATS: results may be f32.
template <typename S, typename Rows>
struct Store {
    static constexpr bool LATE = !S::EARLY && Rows::ADDS;

    const Place<S>& place;
    const Rows& rows;
    const Epilogue& epilogue;
    int group;

    // The group's rows of x in the stages: nobody else reads or writes there when all tiles have come and been multiplied.
    __device__ __forceinline__ uint32_t staging(int box) const {
        return place.stages + box % S::STAGES * S::STAGE_BYTES + group * GROUP_ROWS * ROW_BYTES + (mutant(69) ? S::X_BYTES : 0);
    }

    __device__ __forceinline__ bool leads() const { return threadIdx.x % GROUP_THREADS == 0; }
    __device__ __forceinline__ void barrier() const { ptx::named_barrier(1 + group, GROUP_THREADS); }
    __device__ __forceinline__ int own_group() const { return mutant(63) ? S::GROUPS - 1 - group : group; }
    __device__ __forceinline__ int first_column() const { return place.column + place.part * S::OWN_COLUMNS; }

    // What is added to the sums of COLUMNS columns.
    template <int COLUMNS>
    __device__ __forceinline__ void load(const Addends& addends, int first, float (&v)[COLUMNS / 2]) const {
#pragma unroll
        for (int eight = 0; eight < COLUMNS / 8; eight += 2)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                const int row = thread_row() + 8 * lower;
                float2 sum[2];
                addends.at(sum, rows.bias(own_group(), row), rows.row(own_group(), row), first + 8 * eight);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int to = pair_at(eight + i, lower);
                    v[to] = sum[i].x, v[to + 1] = sum[i].y;
                }
            }
    }

    // Before the products, so that nobody waits for it afterwards.
    __device__ __forceinline__ void load_early(const Addends& addends, float (&added)[S::ADDED]) const {
        if constexpr (S::EARLY) load<S::OWN_COLUMNS>(addends, first_column(), added);
    }

    // Of larger tiles the first box's, beside the last products.
    __device__ __forceinline__ void load_late(const Addends& addends, float (&added)[S::ADDED]) const {
        if constexpr (LATE) load<64>(addends, first_column(), added);
    }

    // BOX columns at a time: 64 of f16, 32 of f32.
    template <int BOX>
    __device__ __forceinline__ void run_as(const Addends& addends, float (&own)[S::OWN_SUMS], float (&added)[S::ADDED]) const {
        static_assert(!LATE || BOX == 64, "a box's are loaded at a time");
#pragma unroll
        for (int box = 0; box < S::OWN_COLUMNS / BOX; box++) {
            const int column = first_column() + box * BOX;
            float v[BOX / 2];
#pragma unroll
            for (int eight = 0; eight < BOX / 8; eight++) {
                float2 bias = make_float2(0.0f, 0.0f);
                if constexpr (!S::EARLY && !LATE) bias = addends.bias(epilogue.bias, column + 8 * eight + thread_column());
#pragma unroll
                for (int lower = 0; lower < 2; lower++) {
                    const int to = pair_at(eight, lower), at = box * BOX / 2 + to;
                    const int of = S::EARLY ? at : to;
                    const float2 add = S::EARLY || LATE ? make_float2(added[of], added[of + 1]) : bias;
                    v[to] = own[at] + add.x, v[to + 1] = own[at + 1] + add.y;
                }
            }
            // The next box's come while this one leaves.
            if constexpr (LATE) {
                if (box + 1 < S::OWN_COLUMNS / BOX) load<BOX>(addends, column + (mutant(65) ? 0 : BOX), added);
            }
            apply_all(epilogue.func, v);
            if (box >= S::STAGES) {
                if (leads() && !mutant(64)) ptx::bulk_wait_read();
                barrier();
            }
            if constexpr (BOX == 64) {
                stage_halves(v, staging(box));
            } else {
                stage_floats(v, staging(box));
            }
            if (!mutant(59)) ptx::fence_proxy_async();
            if (!mutant(60)) barrier();
            if (leads()) {
                if (column < static_cast<int>(epilogue.columns)) rows.store(own_group(), staging(box), column);
                if (!mutant(61)) ptx::bulk_commit();
            }
        }
        // A block's shared memory is the next one's when it ends.
        if (leads() && !mutant(62)) ptx::bulk_wait_read();
    }

    __device__ __forceinline__ void run(const Addends& addends, float (&own)[S::OWN_SUMS], float (&added)[S::ADDED]) const {
        if constexpr (Rows::FLOATS) {
            if (epilogue.out_is_float) return run_as<32>(addends, own, added);
        }
        run_as<64>(addends, own, added);
    }
};
