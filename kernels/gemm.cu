// out = func(x · wᵀ + bias + Σ add) on tensor cores: every linear layer of the network, with its weights as they are stored.
//
//   x     [batch, rows, depth]   f16, or f32 that is rounded on the way in (the residual stream)
//   w     [columns, stride]      f16, stride a multiple of 8, zeros behind depth
//   bias  [columns]              f32, or none
//   add   [batch, rows, columns] f16 or f32, or one row for a batch item; up to two
//   out   [batch, rows, columns] f16 or f32; sums in f32
//
// Needs: depths that are multiples of 8, x aligned to 16 bytes. Rows and columns: any number from 1 on.
// Launch: grid (⌈columns / BLOCK_N⌉ · ⌈rows / BLOCK_M⌉, 1, batch · parts):
//   gemm_128x256_half   where the L2 cache, asked once for every 256 columns, would hold large tiles up
//   gemm_128x128_half
//   gemm_128x64_half    where large tiles do not come out even on the multiprocessors
//   gemm_64x64_*        where they do not reach them all; f32
//
// Cost: 2·rows·columns·depth FLOP, whole tiles charged; reads (rows + columns)·depth values, writes rows·columns. A 64×64 warp
// tile loads 8 fragments (ldmatrix.x4) for 32 mma, a quarter, a 32×64 one 6 for 16: shared memory feeds the tensor cores of
// every GPU since sm_80 for the former, of GeForce and Orin for both. Cut in parts, a product writes and reads its sums in
// f32 besides, which stay in the L2 cache.
//
// Mutants: 12 first tile of a part.

#include "gemm_mainloop.cuh"

struct GemmParams {
    const void* x;
    const half* w;
    uint64_t x_batch_stride; // values from batch item to batch item
    uint32_t depth, stride;
    SplitK split_k;
    Epilogue epilogue;
};

template <typename S, typename A, typename Value>
__device__ __forceinline__ void gemm(const GemmParams& p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t item = blockIdx.z / p.split_k.count, part = blockIdx.z % p.split_k.count;
    const uint32_t column_tiles = ceil_div(p.epilogue.columns, S::BLOCK_N);
    const int block_row = blockIdx.x / column_tiles * S::BLOCK_M, block_column = blockIdx.x % column_tiles * S::BLOCK_N;
    const int tiles = ceil_div(p.depth, S::BLOCK_K);
    const int first = tiles * part / p.split_k.count + (mutant(12) ? 1 : 0), last = tiles * (part + 1) / p.split_k.count;

    const Value* x = static_cast<const Value*>(p.x) + item * p.x_batch_stride;
    A load_a(x, block_row, p.epilogue.rows, p.depth, p.depth, first);
    RowLoader<S, S::BLOCK_N> load_b(p.w, block_column, p.epilogue.columns, p.stride, p.stride, first);
    Sums<S> sum;
    gemm_mainloop<S>(sum, load_a, load_b, last - first, ptx::shared_address(shared), Unchanged());
    if (p.split_k.count > 1) {
        const uint32_t tile = item * gridDim.x + blockIdx.x;
        if (!reduce_split_k<S>(sum, p.split_k, tile, part)) return;
    }
    store<S>(sum, shared, p.epilogue, item, block_row, block_column);
}

extern "C" {

SPEC(gemm_128x256_half, tiles<T128x256>())
__global__ void __launch_bounds__(T128x256::THREADS, 1) gemm_128x256_half(const __grid_constant__ GemmParams p) {
    begin_kernel();
    gemm<T128x256, RowLoader<T128x256, T128x256::BLOCK_M>, half>(p);
}

SPEC(gemm_128x128_half, tiles<T128x128>())
__global__ void __launch_bounds__(T128x128::THREADS, 2) gemm_128x128_half(const __grid_constant__ GemmParams p) {
    begin_kernel();
    gemm<T128x128, RowLoader<T128x128, T128x128::BLOCK_M>, half>(p);
}

SPEC(gemm_128x64_half, tiles<T128x64>())
__global__ void __launch_bounds__(T128x64::THREADS, 2) gemm_128x64_half(const __grid_constant__ GemmParams p) {
    begin_kernel();
    gemm<T128x64, RowLoader<T128x64, T128x64::BLOCK_M>, half>(p);
}

SPEC(gemm_64x64_half, tiles<T64x64>())
__global__ void __launch_bounds__(T64x64::THREADS, 2) gemm_64x64_half(const __grid_constant__ GemmParams p) {
    begin_kernel();
    gemm<T64x64, RowLoader<T64x64, T64x64::BLOCK_M>, half>(p);
}

SPEC(gemm_64x64_float, tiles<T64x64>().variant(variant::FLOAT_INPUT))
__global__ void __launch_bounds__(T64x64::THREADS, 2) gemm_64x64_float(const __grid_constant__ GemmParams p) {
    begin_kernel();
    gemm<T64x64, FloatLoader<T64x64, T64x64::BLOCK_M>, float>(p);
}

}
