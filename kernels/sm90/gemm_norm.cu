// The residual stream behind a product, and its LayerNorm, in one kernel for the warpgroups of compute capability 9.0:
//
//   out     = x · wᵀ + bias + add
//   normed  = (out − mean) / √(variance + eps) · weight + norm_bias, each row by itself (LayerNorm, Ba et al., 1607.06450)
//
//   x          [rows, depth]      f16
//   w          [columns, depth]   f16
//   bias       [columns]          f32, or none
//   add        [rows, columns]    f32
//   weight, norm_bias [columns]   f32
//   out        [rows, columns]    f32; sums in f32
//   normed     [rows, columns]    f16
//
// The blocks of a cluster have 64 rows and, side by side, all columns of them: each row's sums never leave the registers on their way
// to the norm. A block's mean and its squares around it go to all blocks of the cluster, which make of them those of the row (Chan,
// Golub & LeVeque, 1979): nothing cancels, and every block has the same.
//
// The blocks share x: each has eight rows at a time copied to all (TMA multicast), since the blocks of other rows read w again.
//
// Tensor maps, all with the 128-byte swizzle: x {depth, rows} in boxes of 64 × 8; w {depth, columns} in boxes of 64 × COLUMNS; out
// {columns, rows} in boxes of 32 × 64; normed {columns, rows} in boxes of 64 × 64.
//
// Needs: COLUMNS · CLUSTER columns, a depth that is a multiple of 8; every address and distance of rows a multiple of 16 bytes. Rows:
// any number from 1 on.
// Launch: clusters of CLUSTER blocks along x, grid ⌈rows / 64⌉ · CLUSTER. Two blocks to a multiprocessor.
//
// Cost: 2·rows·columns·depth FLOP and about 8·rows·columns, whole tiles charged. From the L2 cache (64 / CLUSTER + COLUMNS)·depth
// values a block; reads add, writes 6 bytes a value of the output.
//
// Mutants: 140 add before the grid's wait, 141 x before it, 142 rows of x to this block alone, 143 rows of x at another's place, 144
// statistics read before they have come, 145 a peer's statistics forgotten, 146 means' distances forgotten, 147 half of a row's
// statistics, 148 no fence before the stores, 149 stores before all have staged, 150 stores not committed, 151 block ends before the
// stores have read, 152 weights of another block's columns, 153 statistics of another row, 154
// mean over one part too few.

#include "sm90/store.cuh"

struct GemmNormParams {
    TensorMap x, w, out, normed;
    Epilogue epilogue;
    const float* weight;
    const float* norm_bias;
    uint32_t depth;
    float eps;
};

template <int CLUSTER_>
struct Normed : Shape<1, 128, CLUSTER_> {
    using Base = Shape<1, 128, CLUSTER_>;
    // Rows of x that are copied at once: an atom of the swizzle.
    static constexpr int ATOM_ROWS = 8, ATOMS = GROUP_ROWS / ATOM_ROWS, ATOM_BYTES = ATOM_ROWS * ROW_BYTES;
    // Mean and squares of a block's part of each row, of every block.
    static constexpr int STATISTICS = Base::BARRIERS + 2 * 8 * Base::STAGES, STATISTICS_BYTES = CLUSTER_ * GROUP_ROWS * 8;
    static constexpr int SHARED_BYTES = ALIGNMENT + STATISTICS + STATISTICS_BYTES;
    // Of the registers of two blocks of a multiprocessor.
    static constexpr int PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 216;
    // Boxes of f32 and of f16 in which a block's rows leave.
    static constexpr int FLOAT_BOXES = Base::COLUMNS / 32, HALF_BOXES = Base::COLUMNS / 64;
    static_assert(ATOMS % CLUSTER_ == 0, "every block has as many rows of x copied");
    static_assert(FLOAT_BOXES <= Base::STAGES, "all boxes are staged at once");
    static_assert(SHARED_BYTES <= MOST_SHARED / 2 - ALIGNMENT, "two blocks to a multiprocessor");
};

template <typename S>
struct NormProducer {
    const Place<S>& place;
    const TensorMap &x, &w;
    // Weights are used once a pass, activations come from the kernel before.
    uint64_t once = ptx::evict_first(), soon = ptx::evict_last();

    __device__ __forceinline__ void announce_and_load_w(int tile) const {
        const uint32_t full = place.full(tile);
        ptx::mbarrier_expect(full, S::STAGE_BYTES);
        ptx::load_box(place.stage(tile) + S::X_BYTES, w, full, tile * DEPTH, place.column, once);
    }

    // To all blocks of the cluster.
    __device__ __forceinline__ void load_x(int tile) const {
        constexpr uint16_t ALL = (1 << S::CLUSTER) - 1;
        const uint16_t blocks = mutant(142) ? 1 << place.rank : ALL;
#pragma unroll
        for (int i = 0; i < S::ATOMS / S::CLUSTER; i++) {
            const int atom = place.rank + i * S::CLUSTER;
            const uint32_t to = place.stage(tile) + (mutant(143) ? S::ATOMS - 1 - atom : atom) * S::ATOM_BYTES;
            ptx::load_box_for(blocks, to, x, place.full(tile), tile * DEPTH, place.row_tile * GROUP_ROWS + atom * S::ATOM_ROWS, soon);
        }
    }

    // One thread.
    __device__ __forceinline__ void run() const {
        const int begun = min(place.tiles, S::STAGES);
        for (int tile = 0; tile < begun; tile++) announce_and_load_w(tile);
        if (!mutant(141)) ptx::grid_wait();
        for (int tile = 0; tile < begun; tile++) load_x(tile);
        for (int tile = begun; tile < place.tiles; tile++) {
            // All blocks' groups have read the stage: it is written in all of them.
            ptx::mbarrier_wait(place.empty(tile), place.parity(tile) ^ 1);
            announce_and_load_w(tile);
            load_x(tile);
        }
        ptx::grid_launch_dependents();
    }
};

// Where a row of the block lies, and its bias.
template <typename S>
struct StreamRows {
    static constexpr bool ADDS = true, FLOATS = true;

    const Place<S>& place;
    const GemmNormParams& p;

    __device__ __forceinline__ int row(int, int of_group) const { return place.row_tile * GROUP_ROWS + of_group; }
    __device__ __forceinline__ const float* bias(int, int) const { return p.epilogue.bias; }
};

// Of part of a row: its mean, and the sum of the squares of the differences from it.
struct Statistics {
    float mean, squares;
};

// Over the four lanes that have a row.
__device__ __forceinline__ float row_sum(float x) {
    if (!mutant(147)) x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// A thread's share of the group's rows: columns 8·eight + 2·(lane % 4) and the next of row thread_row and of that eight further down.
template <typename S>
struct Rows {
    const Place<S>& place;
    const GemmNormParams& p;

    // Of the block's columns.
    __device__ __forceinline__ Statistics own(const float (&sum)[S::SUMS], int lower) const {
        float total = 0.0f, squares = 0.0f;
#pragma unroll
        for (int eight = 0; eight < S::COLUMNS / 8; eight++)
            total += sum[pair_at(eight, lower)] + sum[pair_at(eight, lower) + 1];
        const float mean = row_sum(total) / S::COLUMNS;
#pragma unroll
        for (int eight = 0; eight < S::COLUMNS / 8; eight++) {
            const float x = sum[pair_at(eight, lower)] - mean, y = sum[pair_at(eight, lower) + 1] - mean;
            squares += x * x + y * y;
        }
        return {mean, row_sum(squares)};
    }

    __device__ __forceinline__ uint32_t slot(int rank, int lower) const {
        const int row = (thread_row() + 8 * lower) ^ (mutant(153) ? 1 : 0);
        return place.stages + S::STATISTICS + (rank * GROUP_ROWS + row) * 8;
    }

    // To all blocks: a row's four lanes each send to some.
    __device__ __forceinline__ void send(const float (&sum)[S::SUMS]) const {
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            const Statistics own = this->own(sum, lower);
            const uint32_t to = place.stages + S::STATISTICS + (place.rank * GROUP_ROWS + thread_row() + 8 * lower) * 8;
            for (int block = threadIdx.x % 4; block < S::CLUSTER; block += 4)
                ptx::store_cluster_8(ptx::map_to_rank(to, block), own.mean, own.squares);
        }
    }

    // The row's mean, and the factor that brings it to variance 1.
    __device__ __forceinline__ Statistics of_row(int lower) const {
        constexpr int ALL = S::CLUSTER - (mutant(145) ? 1 : 0);
        Statistics part[S::CLUSTER];
        float mean = 0.0f, squares = 0.0f;
#pragma unroll
        for (int i = 0; i < ALL; i++) {
            const float2 read = ptx::load_shared_float2(slot(i, lower));
            part[i] = {read.x, read.y};
            mean += part[i].mean;
        }
        mean /= mutant(154) ? S::CLUSTER - 1 : S::CLUSTER;
#pragma unroll
        for (int i = 0; i < ALL; i++) {
            const float off = mutant(146) ? 0.0f : part[i].mean - mean;
            squares += part[i].squares + S::COLUMNS * off * off;
        }
        return {mean, inverse_root(squares / (S::COLUMNS * S::CLUSTER) + p.eps)};
    }

    // Of the norm, for every eight columns.
    __device__ __forceinline__ void load(const float* from, float2 (&to)[S::COLUMNS / 8]) const {
        const int column = mutant(152) ? (place.column + S::COLUMNS) % (S::COLUMNS * S::CLUSTER) : place.column;
#pragma unroll
        for (int eight = 0; eight < S::COLUMNS / 8; eight++)
            to[eight] = *reinterpret_cast<const float2*>(from + column + 8 * eight + thread_column());
    }
};

// The group's rows leave through the stages, which nobody else reads or writes when all tiles have been multiplied.
template <typename S>
struct Boxes {
    const Place<S>& place;

    __device__ __forceinline__ uint32_t floats(int box) const { return place.stages + box * S::STAGE_BYTES; }
    __device__ __forceinline__ uint32_t halves(int box) const { return floats(box) + S::X_BYTES; }

    // Boxes of WIDTH columns that all threads have staged.
    template <int WIDTH, typename From>
    __device__ __forceinline__ void copy_out(const TensorMap& map, int count, From from) const {
        if (!mutant(148)) ptx::fence_proxy_async();
        if (!mutant(149)) ptx::named_barrier(1, GROUP_THREADS);
        if (threadIdx.x % GROUP_THREADS != 0) return;
        for (int box = 0; box < count; box++) ptx::store_box(map, from(box), place.column + box * WIDTH, place.row_tile * GROUP_ROWS);
        if (!mutant(150)) ptx::bulk_commit();
    }
};

template <typename S>
__device__ __forceinline__ void consume(const Place<S>& place, const GemmNormParams& p) {
    float sum[S::SUMS];
    const Rows<S> rows{place, p};
    const Boxes<S> boxes{place};
    {
        const Addends addends{p.epilogue, 0};
        float early[S::SUMS];
        if (!mutant(140)) ptx::grid_wait();
        Store<S, StreamRows<S>>{place, {place, p}, p.epilogue, 0}.template load<S::COLUMNS>(addends, place.column, early);
        Consumer<S>{place, 0}.run(sum, [] {});
#pragma unroll
        for (int i = 0; i < S::SUMS; i++) sum[i] += early[i];
    }
    rows.send(sum);
    ptx::cluster_arrive();
    float2 weight[S::COLUMNS / 8], bias[S::COLUMNS / 8];
    rows.load(p.weight, weight);
    rows.load(p.norm_bias, bias);
#pragma unroll
    for (int box = 0; box < S::FLOAT_BOXES; box++) {
        float v[16];
#pragma unroll
        for (int i = 0; i < 16; i++) v[i] = sum[16 * box + i];
        stage_floats(v, boxes.floats(box));
    }
    boxes.template copy_out<32>(p.out, S::FLOAT_BOXES, [&](int box) { return boxes.floats(box); });
    if (!mutant(144)) ptx::cluster_wait();
#pragma unroll
    for (int lower = 0; lower < 2; lower++) {
        const Statistics row = rows.of_row(lower);
#pragma unroll
        for (int eight = 0; eight < S::COLUMNS / 8; eight++) {
            float &x = sum[pair_at(eight, lower)], &y = sum[pair_at(eight, lower) + 1];
            x = (x - row.mean) * row.squares * weight[eight].x + bias[eight].x;
            y = (y - row.mean) * row.squares * weight[eight].y + bias[eight].y;
        }
    }
    if (mutant(144)) ptx::cluster_wait();
#pragma unroll
    for (int box = 0; box < S::HALF_BOXES; box++) {
        float v[32];
#pragma unroll
        for (int i = 0; i < 32; i++) v[i] = sum[32 * box + i];
        stage_halves(v, boxes.halves(box));
    }
    boxes.template copy_out<64>(p.normed, S::HALF_BOXES, [&](int box) { return boxes.halves(box); });
    // A block's shared memory is the next one's when it ends.
    if (threadIdx.x % GROUP_THREADS == 0 && !mutant(151)) ptx::bulk_wait_read();
}

template <typename S>
__device__ __forceinline__ void gemm_norm(const GemmNormParams& p) {
    extern __shared__ unsigned char shared[];
    // Of the whole depth; its blocks lie side by side.
    Place<S> place(ptx::shared_address(shared), 1, ceil_div(p.depth, DEPTH));
    place.row_tile = blockIdx.x / S::CLUSTER;
    place.column = place.rank * S::COLUMNS;
    if (threadIdx.x == 0) ptx::prefetch_map(p.normed);
    prepare(place, p.x, p.w, p.out);
    if (threadIdx.x < GROUP_THREADS) {
        ptx::fewer_registers<S::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) NormProducer<S>{place, p.x, p.w}.run();
        __syncwarp();
        // The consumers wait there for each other: then nobody copies into another block any more.
        ptx::cluster_arrive();
        ptx::cluster_wait();
    } else {
        ptx::more_registers<S::CONSUMER_REGISTERS>();
        consume(place, p);
    }
}

extern "C" {

#define KERNEL(NAME, CLUSTER)                                                                                                     \
    SPEC(NAME, declared<Normed<CLUSTER>>(true).most(Normed<CLUSTER>::COLUMNS * CLUSTER))                                              \
    __global__ void __launch_bounds__(Normed<CLUSTER>::THREADS, 2) NAME(const __grid_constant__ GemmNormParams p) {               \
        gemm_norm<Normed<CLUSTER>>(p);                                                                                            \
    }

// By the columns: 128 a block.
KERNEL(wgmma_norm_512, 4)
#if MUTANT == 0
KERNEL(wgmma_norm_1024, 8)
#endif

}
