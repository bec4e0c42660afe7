// out = func(x · wᵀ + bias + Σ add) on the warpgroups of compute capability 9.0: gemm.cu's products for it, in kernels of their own.
//
//   x     [batch, rows, depth]   f16, or f32 that is rounded on the way in (the residual stream)
//   w     [columns, stride]      f16
//   bias  [columns]              f32, or none
//   add   [batch, rows, columns] f16 or f32, or one row for a batch item; up to two
//   out   [batch, rows, columns] f16 or f32; sums in f32
//
// Tensor maps, all with the 128-byte swizzle: x {depth, rows, batch} in boxes of 128 bytes × the block's rows; w {depth, columns} in
// boxes of 64 × the block's columns / blocks that share them; out {columns, rows, batch} in boxes of 128 bytes × 64.
//
// Adds are taken by tiles alone whose blocks store 64 columns: larger ones' registers are full of sums.
// Needs: depth and columns multiples of 8; every address and distance of rows a multiple of 16 bytes. Rows: any number from 1 on.
// Launch: clusters of BLOCKS along x, grid (⌈columns / COLUMNS⌉ · ⌈rows / (ROWS · CLUSTER)⌉ · BLOCKS, 1, batch).
//
// Cost: 2·rows·columns·depth FLOP, whole tiles charged. From the L2 cache (rows·depth / COLUMNS + columns·depth / (ROWS · CLUSTER))
// values a block. wgmma reads both operands from shared memory: 128 bytes a clock suffice from 128×128 on (docs/kernels.md).
//
// Mutants: 70 block ends before its peers, 71 written before the grid's wait.

#include "sm90/store.cuh"

struct GemmParams {
    TensorMap x, w, out;
    Epilogue epilogue;
    uint32_t depth;
    uint32_t padding;
};

// Rows of a matrix: a block's follow each other, and a step is further in their depth.
template <typename S>
struct MatrixRows {
    static constexpr bool ADDS = false, FLOATS = true;
    using Step = int;

    const Place<S>& place;
    const GemmParams& p;

    __device__ __forceinline__ Step first() const { return place.first * DEPTH; }
    __device__ __forceinline__ void next(Step& depth) const { depth += DEPTH; }
    __device__ __forceinline__ int weights(Step depth) const { return depth; }

    __device__ __forceinline__ void load(Step depth, uint32_t to, uint32_t full, uint64_t policy) const {
#pragma unroll
        for (int box = 0; box < S::X_BOXES; box++) {
            const int row = place.row_tile * S::ROWS;
            ptx::load_box(to + box * S::X_BOX_BYTES, p.x, full, depth + box * S::X_BOX_DEPTH, row, place.item, policy);
        }
    }

    __device__ __forceinline__ int row(int group, int of_group) const {
        return place.row_tile * S::ROWS + group * GROUP_ROWS + of_group;
    }

    __device__ __forceinline__ const float* bias(int, int) const { return p.epilogue.bias; }

    __device__ __forceinline__ void store(int group, uint32_t from, int column) const {
        if (row(group, 0) < static_cast<int>(p.epilogue.rows)) ptx::store_box(p.out, from, column, row(group, 0), place.item);
    }
};

template <typename S>
__device__ __forceinline__ void gemm(const GemmParams& p) {
    extern __shared__ unsigned char shared[];
    const int row_tiles = ceil_div(p.epilogue.rows, S::ROWS * S::CLUSTER);
    const Place<S> place(ptx::shared_address(shared), row_tiles, ceil_div(p.depth, DEPTH));
    const MatrixRows<S> rows{place, p};
    prepare(place, p.x, p.w, p.out);
    if (threadIdx.x < GROUP_THREADS) {
        if constexpr (S::MOVES_REGISTERS) ptx::fewer_registers<S::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) Producer<S, MatrixRows<S>>{place, rows, p.w}.run();
        __syncwarp();
        join_idle<S>();
    } else {
        if constexpr (S::MOVES_REGISTERS) ptx::more_registers<S::CONSUMER_REGISTERS>();
        const int group = threadIdx.x / GROUP_THREADS - 1;
        const Addends addends{p.epilogue, place.item};
        const Store<S, MatrixRows<S>> store{place, rows, p.epilogue, group};
        float sum[S::SUMS], own[S::OWN_SUMS], added[S::ADDED];
        // What is added may be the result of the kernel before; and it may still read what is written here.
        if (!mutant(71)) ptx::grid_wait();
        if (place.owns()) store.load_early(addends, added);
        Consumer<S>{place, group}.run(sum, [] {});
        join(place, sum, own, group);
        if (place.owns()) store.run(addends, own, added);
    }
    // Peers copy into this block's stages and arrive at its barriers: it must not end before them.
    if (S::CLUSTER > 1 && S::PARTS == 1 && !mutant(70)) {
        __syncwarp();
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
}

extern "C" {

#define KERNEL(NAME, ...)                                                                                            \
    SPEC(NAME, declared<Shape<__VA_ARGS__>>(Shape<__VA_ARGS__>::EARLY))                                                                       \
    __global__ void __launch_bounds__(Shape<__VA_ARGS__>::THREADS, Shape<__VA_ARGS__>::RESIDENT)                     \
    NAME(const __grid_constant__ GemmParams p) {                                                                     \
        gemm<Shape<__VA_ARGS__>>(p);                                                                                 \
    }

// Groups of 64 rows, columns, blocks that share columns, parts of the depth, x.
// Mistakes are tried in these alone: they have all that there is.
KERNEL(wgmma_64x64, 1, 64)
KERNEL(wgmma_128x256_c2, 2, 256, 2)
KERNEL(wgmma_128x128_c2_p2, 2, 128, 2, 2)
KERNEL(wgmma_128x64_float, 2, 64, 1, 1, Input::FLOATS)
#if MUTANT == 0
KERNEL(wgmma_192x192, 3, 192)
KERNEL(wgmma_192x128_p3, 3, 128, 1, 3)
KERNEL(wgmma_128x256, 2, 256)
KERNEL(wgmma_128x192, 2, 192)
KERNEL(wgmma_128x192_c2, 2, 192, 2)
KERNEL(wgmma_128x128, 2, 128)
KERNEL(wgmma_128x128_p2, 2, 128, 1, 2)
KERNEL(wgmma_128x64, 2, 64)
KERNEL(wgmma_128x64_c2, 2, 64, 2)
KERNEL(wgmma_64x128_p2, 1, 128, 1, 2)
KERNEL(wgmma_128x128_p2_float, 2, 128, 1, 2, Input::FLOATS)
#endif

}
