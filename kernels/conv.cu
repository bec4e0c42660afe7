// out = func(conv(x) + bias + Σ add), where x passes a ReLU first in conv_*_relu: a product of patches and filters on tensor
// cores (implicit GEMM). The patches are gathered on their way to shared memory and exist nowhere else; the ReLU is applied
// to the fragments in registers.
//
//   x     [batch, height, width, channels]          f16
//   w     [outputs, stride]                         f16 over (ky, kx, channel), stride a multiple of 8, zeros behind depth
//   bias  [outputs]                                 f32, or none; or [16, outputs], a row for each way in which a 3×3 patch can lie at
//                                                   the map's border
//   add   [batch, out_height, out_width, outputs]   f16 or f32, up to two
//   out   the same                                  f16; sums in f32
//
// Rows of the product are output pixels of the whole batch, its depth is kernel² · channels. ReLU(NaN) is NaN.
//
// Needs: channels a multiple of 8, x aligned to 16 bytes and of less than 2^34 values, except for conv_64x64_any. A kernel of
// at most LARGEST_KERNEL; less than 2^31 values in its height of the map's rows.
// Launch: grid (⌈outputs / BLOCK_N⌉ · ⌈pixels / BLOCK_M⌉, 1, parts).
//
// Cost: 2 · pixels · outputs · depth FLOP, whole tiles charged; reads x (kernel² / stride² times for every BLOCK_N outputs, all
// but the first from caches), w and add, writes out.
//
// Mutants: 26 first tile of a part.

#include "conv.cuh"
#include "patches.cuh"

struct ConvParams {
    PatchSource source;
    const half* w;
    uint32_t depth, stride;
    SplitK split_k;
    Epilogue epilogue;
    Border border;
};

// The epilogue with a bias by the border.
struct BorderedEpilogue {
    const Epilogue& plain;
    const Border& border;
    const uint32_t &rows = plain.rows, &columns = plain.columns;

    __device__ __forceinline__ bool has_groups() const { return plain.has_groups(); }

    __device__ __forceinline__ const float* bias_of(uint32_t row, uint32_t column) const {
        return plain.bias + (border.width == 0 ? 0 : border.of(row) * columns) + column;
    }

    __device__ __forceinline__ void store4(uint32_t item, uint32_t row, uint32_t column, float4 v) const {
        plain.put4(bias_of(row, column), item, row, column, v, [&] { return plain.offset(item, row, column); });
    }

    __device__ __forceinline__ void store1(uint32_t item, uint32_t row, uint32_t column, float v) const {
        plain.put1(bias_of(row, column), item, row, column, v, [&] { return plain.offset(item, row, column); });
    }
};

struct ReluIn {
    template <typename F>
    __device__ __forceinline__ void operator()(F& fragments) const {
#pragma unroll
        for (auto& tile : fragments.a)
#pragma unroll
            for (uint32_t& pair : tile) pair = relu(pair);
    }
};

template <typename S, bool WHOLE, typename Transform>
__device__ __forceinline__ void conv(const ConvParams& p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t part = blockIdx.z, column_tiles = ceil_div(p.epilogue.columns, S::BLOCK_N);
    const int block_row = blockIdx.x / column_tiles * S::BLOCK_M, block_column = blockIdx.x % column_tiles * S::BLOCK_N;
    const int tiles = ceil_div(p.depth, S::BLOCK_K);
    const int first = tiles * part / p.split_k.count + (mutant(26) ? 1 : 0), last = tiles * (part + 1) / p.split_k.count;

    PatchLoader<S, S::BLOCK_M, WHOLE> load_a(p.source, block_row, p.epilogue.rows, first);
    RowLoader<S, S::BLOCK_N> load_b(p.w, block_column, p.epilogue.columns, p.stride, p.stride, first);
    Sums<S> sum;
    gemm_mainloop<S>(sum, load_a, load_b, last - first, ptx::shared_address(shared), Transform());
    if (p.split_k.count > 1 && !reduce_split_k<S>(sum, p.split_k, blockIdx.x, part)) return;
    store<S>(sum, shared, BorderedEpilogue{p.epilogue, p.border}, 0, block_row, block_column);
}

extern "C" {

SPEC(conv_128x256, tiles<T128x256>().most(LARGEST_KERNEL))
__global__ void __launch_bounds__(T128x256::THREADS, 1) conv_128x256(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T128x256, true, Unchanged>(p);
}

SPEC(conv_128x256_relu, tiles<T128x256>().most(LARGEST_KERNEL).variant(variant::RELU_INPUT))
__global__ void __launch_bounds__(T128x256::THREADS, 1) conv_128x256_relu(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T128x256, true, ReluIn>(p);
}

SPEC(conv_128x128, tiles<T128x128>().most(LARGEST_KERNEL))
__global__ void __launch_bounds__(T128x128::THREADS, 2) conv_128x128(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T128x128, true, Unchanged>(p);
}

SPEC(conv_128x128_relu, tiles<T128x128>().most(LARGEST_KERNEL).variant(variant::RELU_INPUT))
__global__ void __launch_bounds__(T128x128::THREADS, 2) conv_128x128_relu(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T128x128, true, ReluIn>(p);
}

SPEC(conv_128x64, tiles<T128x64>().most(LARGEST_KERNEL))
__global__ void __launch_bounds__(T128x64::THREADS, 2) conv_128x64(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T128x64, true, Unchanged>(p);
}

SPEC(conv_128x64_relu, tiles<T128x64>().most(LARGEST_KERNEL).variant(variant::RELU_INPUT))
__global__ void __launch_bounds__(T128x64::THREADS, 2) conv_128x64_relu(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T128x64, true, ReluIn>(p);
}

SPEC(conv_64x64, tiles<T64x64>().most(LARGEST_KERNEL))
__global__ void __launch_bounds__(T64x64::THREADS, 2) conv_64x64(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T64x64, true, Unchanged>(p);
}

SPEC(conv_64x64_relu, tiles<T64x64>().most(LARGEST_KERNEL).variant(variant::RELU_INPUT))
__global__ void __launch_bounds__(T64x64::THREADS, 2) conv_64x64_relu(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T64x64, true, ReluIn>(p);
}

SPEC(conv_64x64_any, tiles<T64x64>().most(LARGEST_KERNEL).variant(variant::ANY_SHAPE))
__global__ void __launch_bounds__(T64x64::THREADS, 2) conv_64x64_any(const __grid_constant__ ConvParams p) {
    begin_kernel();
    conv<T64x64, false, Unchanged>(p);
}

}
