// out = func(x · wᵀ + bias + Σ add) on tensor cores: every linear layer of the network, with its weights as they are stored.
// With `shuffle` it is a transposed convolution whose stride is its kernel.
//
//   x     [batch, rows, depth]   f16, or f32 that is rounded on the way in (the residual stream)
//   w     [columns, stride]      f16, stride a multiple of 8, zeros behind depth
//   bias  [columns]              f32, or none
//   add   [batch, rows, columns] f16 or f32, or one row for a batch item; up to two
//   out   [batch, rows, columns] f16 or f32; sums in f32
//
// Needs: gemm_*_half and _float depths that are multiples of 8 and x aligned to 16 bytes; gemm_*_any_* nothing. Rows and
// columns: any number from 1 on.
// Launch: grid (⌈columns / BLOCK_N⌉ · ⌈rows / BLOCK_M⌉, 1, batch · parts), dynamic shared memory:
//   gemm_128x128_*   128 threads, 65536 bytes
//   gemm_64x64_*      64 threads, 49152 bytes: for products with too few large tiles to fill the GPU, and odd shapes
// gemv_*: 256 threads, a warp an output of one row, grid (⌈columns / 8⌉, 1, batch).
//
// Cost: 2·rows·columns·depth FLOP, whole tiles charged; reads (rows + columns)·depth values, writes rows·columns. A 64×64 warp
// tile loads 8 fragments (ldmatrix.x4) for 32 mma, a quarter: shared memory then feeds the tensor cores of every GPU since
// sm_80.
//
// Mutants: 1 swizzle left out on reading, 2 depth and 3 rows unchecked (aligned), 4 depth unchecked (any), 5 waits for one
// copy too few, 6 barrier of the loop, 7 barrier before staging, 8 fence before joining parts, 9 __syncwarp of the
// staging, 10 rows unchecked on the way out, 11 half of the gemv's lanes, 12 first tile of a part.

#include "product.cuh"

struct GemmParams {
    const void* x;
    const half* w;
    uint64_t x_item_step; // values from batch item to batch item
    uint32_t depth, stride;
    Split split;
    Epilogue epilogue;
};
static_assert(sizeof(GemmParams) == 152, "as the host lays it out");

using Large = Shape<128, 128, 32, 64, 4>;
static_assert(Large::THREADS == 128 && Large::SHARED_BYTES == 65536, "as the header says");
using Small = Shape<64, 64, 64, 32, 3>;
static_assert(Small::THREADS == 64 && Small::SHARED_BYTES == 49152, "as the header says");

template <typename S, typename A, typename Value>
__device__ __forceinline__ void gemm(const GemmParams& p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t item = blockIdx.z / p.split.count, part = blockIdx.z % p.split.count;
    const uint32_t column_tiles = ceil_div(p.epilogue.columns, S::BLOCK_N);
    const int block_row = blockIdx.x / column_tiles * S::BLOCK_M, block_column = blockIdx.x % column_tiles * S::BLOCK_N;
    const int tiles = ceil_div(p.depth, S::BLOCK_K);
    const int first = tiles * part / p.split.count + (mutant(12) ? 1 : 0), last = tiles * (part + 1) / p.split.count;

    const Value* x = static_cast<const Value*>(p.x) + item * p.x_item_step;
    A load_a(x, block_row, p.epilogue.rows, p.depth, p.depth, first);
    RowLoader<S, S::BLOCK_N> load_b(p.w, block_column, p.epilogue.columns, p.stride, p.stride, first);
    Sums<S> sum;
    product<S>(sum, load_a, load_b, last - first, ptx::shared_address(shared), Unchanged());
    if (p.split.count > 1) {
        const uint32_t tile = item * gridDim.x + blockIdx.x;
        if (!join<S>(sum, p.split, tile, part)) return;
    }
    store<S>(sum, shared, p.epilogue, item, block_row, block_column);
}

// One row an item, an output a warp: too little work for tiles, all of it reading w.
template <typename Value>
__device__ __forceinline__ void gemv(const GemmParams& p) {
    const uint32_t lane = threadIdx.x % 32, column = blockIdx.x * 8 + threadIdx.x / 32, item = blockIdx.z;
    if (column >= p.epilogue.columns) return;
    const Value* x = static_cast<const Value*>(p.x) + item * p.x_item_step;
    const half* w = p.w + static_cast<size_t>(column) * p.stride;
    float sum = 0.0f;
    for (uint32_t k = 2 * lane; k < p.depth; k += 64) {
        // The stride is even and what lies behind depth is zero.
        const float2 pair = ptx::unpack_half2(*reinterpret_cast<const uint32_t*>(w + k));
        sum += static_cast<float>(x[k]) * pair.x;
        if (k + 1 < p.depth) sum += static_cast<float>(x[k + 1]) * pair.y;
    }
#pragma unroll
    for (int distance = mutant(11) ? 8 : 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffff, sum, distance);
    if (lane == 0) p.epilogue.store1(item, 0, column, sum);
}

extern "C" {

__global__ void __launch_bounds__(Large::THREADS, 2) gemm_128x128_half(const __grid_constant__ GemmParams p) {
    gemm<Large, RowLoader<Large, Large::BLOCK_M>, half>(p);
}

__global__ void __launch_bounds__(Large::THREADS, 2) gemm_128x128_float(const __grid_constant__ GemmParams p) {
    gemm<Large, ValueLoader<Large, Large::BLOCK_M, float, true>, float>(p);
}

__global__ void __launch_bounds__(Small::THREADS, 4) gemm_64x64_half(const __grid_constant__ GemmParams p) {
    gemm<Small, RowLoader<Small, Small::BLOCK_M>, half>(p);
}

__global__ void __launch_bounds__(Small::THREADS, 4) gemm_64x64_float(const __grid_constant__ GemmParams p) {
    gemm<Small, ValueLoader<Small, Small::BLOCK_M, float, true>, float>(p);
}

__global__ void __launch_bounds__(Small::THREADS, 2) gemm_64x64_any_half(const __grid_constant__ GemmParams p) {
    gemm<Small, ValueLoader<Small, Small::BLOCK_M, half, false>, half>(p);
}

__global__ void __launch_bounds__(Small::THREADS, 2) gemm_64x64_any_float(const __grid_constant__ GemmParams p) {
    gemm<Small, ValueLoader<Small, Small::BLOCK_M, float, false>, float>(p);
}

__global__ void __launch_bounds__(256) gemv_half(const __grid_constant__ GemmParams p) {
    gemv<half>(p);
}

__global__ void __launch_bounds__(256) gemv_float(const __grid_constant__ GemmParams p) {
    gemv<float>(p);
}

}
