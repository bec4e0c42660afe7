// What happens to a product on its way out: out = func(product + bias + Σ add), four neighbouring columns at a time.
//
// Mutants: 15 a constant of the GELU.
#pragma once

#include "common.cuh"

enum Func : uint32_t { IDENTITY, RELU, GELU, QUICK_GELU };

// x·Φ(x) as max(x, 0) − |x|·Φ(−|x|), where log2 Φ(−a) is a polynomial: a minimax fit on [0, 6], of the error in units of the last
// place of the float16 nearest to |x|·Φ(−|x|), where that error is 0.14 at most before rounding; beyond, it is rounded to 0. Ten
// machine instructions (nvcc 13.0, sm_90), one of them a special function, where erff takes 32. +∞ stays, −∞ becomes 0.
__device__ __forceinline__ float gelu(float x) {
    // Φ(−16) is 0 in float32; ∞·0 would be no number.
    const float a = fminf(fabsf(x), 16.0f);
    float log2 = -3.300073149e-4f;
    log2 = fmaf(log2, a, 5.917506292e-3f);
    log2 = fmaf(log2, a, -4.853481427e-2f);
    log2 = fmaf(log2, a, -4.637169838e-1f);
    log2 = fmaf(log2, a, -1.149378777f);
    log2 = fmaf(log2, a, mutant(15) ? -0.98f : -1.000109911f);
    return fmaf(-a, ptx::ex2(log2), ptx::max_nan(x, 0.0f));
}

// NaN passes, as in PyTorch. QuickGELU: x / (1 + e^(−1.702 x)), as a quotient rounded to float32 ten instructions and a branch more.
__device__ __forceinline__ float apply(uint32_t func, float x) {
    switch (func) {
    case RELU: return x < 0.0f ? 0.0f : x;
    case GELU: return gelu(x);
    case QUICK_GELU: return x * ptx::rcp(1.0f + ptx::ex2(-2.455466960f * x));
    default: return x;
    }
}

// Rows [batch, rows, columns] of f16 or f32 that are added; a stride of 0 repeats one row for all of a batch item.
struct Residual {
    const void* rows;
    uint64_t batch_stride; // values from batch item to batch item
    uint32_t row_stride;   // values from row to row
    uint32_t is_float;
};

struct Epilogue {
    const float* bias; // or null
    Residual add[2];   // or null rows
    void* out;
    uint64_t batch_stride;
    uint32_t rows, columns;
    uint32_t func, out_is_float;

    // Whether four columns lie together, aligned.
    __device__ __forceinline__ bool has_groups() const { return columns % 4 == 0; }

    // Where all rows lie one behind the other.
    __device__ __forceinline__ size_t offset(uint32_t item, uint32_t row, uint32_t column) const {
        return item * batch_stride + static_cast<size_t>(row) * columns + column;
    }

    __device__ __forceinline__ void store4(uint32_t item, uint32_t row, uint32_t column, float4 v) const {
        put4(bias + column, item, row, column, v, [&] { return offset(item, row, column); });
    }

    __device__ __forceinline__ void store1(uint32_t item, uint32_t row, uint32_t column, float v) const {
        put1(bias + column, item, row, column, v, [&] { return offset(item, row, column); });
    }

    // With its own bias, where there is one, to the place that `place` says.
    template <typename Place>
    __device__ __forceinline__ void put4(const float* own, uint32_t item, uint32_t row, uint32_t column, float4 v, Place place) const {
        if (bias) {
            const float4 b = *reinterpret_cast<const float4*>(own);
            v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (!add[i].rows) continue;
            const size_t from = item * add[i].batch_stride + static_cast<size_t>(row) * add[i].row_stride + column;
            float4 a;
            if (add[i].is_float) {
                a = *reinterpret_cast<const float4*>(static_cast<const float*>(add[i].rows) + from);
            } else {
                const uint2 halves = *reinterpret_cast<const uint2*>(static_cast<const half*>(add[i].rows) + from);
                const float2 low = ptx::unpack_half2(halves.x), high = ptx::unpack_half2(halves.y);
                a = make_float4(low.x, low.y, high.x, high.y);
            }
            v = make_float4(v.x + a.x, v.y + a.y, v.z + a.z, v.w + a.w);
        }
        v = make_float4(apply(func, v.x), apply(func, v.y), apply(func, v.z), apply(func, v.w));
        const size_t at = place();
        if (out_is_float) {
            *reinterpret_cast<float4*>(static_cast<float*>(out) + at) = v;
        } else {
            *reinterpret_cast<uint2*>(static_cast<half*>(out) + at) =
                make_uint2(ptx::pack_half2(v.x, v.y), ptx::pack_half2(v.z, v.w));
        }
    }

    template <typename Place>
    __device__ __forceinline__ void put1(const float* own, uint32_t item, uint32_t row, uint32_t column, float v, Place place) const {
        if (bias) v += *own;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (!add[i].rows) continue;
            const size_t from = item * add[i].batch_stride + static_cast<size_t>(row) * add[i].row_stride + column;
            v += add[i].is_float ? static_cast<const float*>(add[i].rows)[from]
                                 : __half2float(static_cast<const half*>(add[i].rows)[from]);
        }
        v = apply(func, v);
        const size_t at = place();
        if (out_is_float) {
            static_cast<float*>(out)[at] = v;
        } else {
            static_cast<half*>(out)[at] = __float2half_rn(v);
        }
    }
};
