// A map's vectors in the form in which they are given out: as they are or at another size, of any length or of length 1, f32 or f16, a
// pixel's values together (hwc) or a plane a channel (chw).
//
//   x           [batch, height, width, channels]          f32
//   norms       [batch, to_height, to_width]              f32, 1 / the length of each vector, 0 for a zero vector; may be none
//   out         [batch, to_height, to_width, channels]    f32 or f16 (…_half); [batch, channels, to_height, to_width] in …_chw
//   not_finite                                            u32, values that are NaN or larger than `limit` before they are multiplied, or
//                                                         infinite in `out`; form_features_clear before makes it 0
//
// Needs: the map's own size where it is not `resized`.  Launch: grid (⌈to_width / columns⌉ · ⌈to_height / WARPS⌉, batch) of
// form_features_norms, where lengths are wanted, and of …_chw: a lane a pixel. Of …_hwc (⌈to_height · to_width / WARPS⌉, batch): a warp a
// pixel, its lanes along the channels, so that reads and writes are whole sectors.
// Cost: 6 FLOP a value, as many for its length and 2 more; reads x about three times (chw) or nine times (hwc) from caches, but once,
// and as often for lengths; writes 4 or 2 bytes a value.
//
// Mutants: 1 the last channel is not in a length, 2 columns behind the row unchecked, 3 a zero vector is not seen, 4 every map is the
// first, 5 a map is resized to its own size, 6 channels behind the last unchecked, 7 pixels behind the last unchecked, 8 the length
// of the first column, 9 large values are numbers, 10 infinite ones are, 11 lanes behind the row are counted, 12 the last pass's
// count stays, 13 the factor is forgotten, 14 the third column of a pixel, 15 its third row.

#include "resized.cuh"

struct FormFeaturesParams {
    const float* x;
    float* norms;
    void* out;
    uint32_t* not_finite;
    Resizing resizing;
    float factor, limit;
    uint32_t resized, padding;
};

struct FormFeaturesClearParams {
    uint32_t* not_finite;
};

// What output i sees of `from` inputs.
__device__ __forceinline__ Taps taps_of(const FormFeaturesParams& p, uint32_t i, uint32_t from, uint32_t to) {
    return p.resized || mutant(5) ? resized(i, from, to) : Taps{i, {1.0f, 0.0f, 0.0f}};
}

// The block's map.
__device__ __forceinline__ const float* map_of(const FormFeaturesParams& p) {
    const Resizing& r = p.resizing;
    return p.x + (mutant(4) ? 0 : static_cast<size_t>(blockIdx.y) * r.height * r.width * r.channels);
}

__device__ __forceinline__ size_t pixels_of(const Resizing& r) {
    return static_cast<size_t>(r.to_height) * r.to_width;
}

// Stores a value; whether it was no number.
__device__ __forceinline__ bool store(float* out, float value) {
    *out = value;
    return isinf(value);
}

__device__ __forceinline__ bool store(half* out, float value) {
    *out = __float2half_rn(value);
    return __hisinf(*out);
}

template <typename T>
__device__ __forceinline__ bool store_formed(const FormFeaturesParams& p, T* out, float value, float norm) {
    const bool is_infinite = store(out, value * norm * (mutant(13) ? 1.0f : p.factor)) && !mutant(10);
    // A NaN is not within the limit either.
    return is_infinite || (!(fabsf(value) <= p.limit) && !mutant(9));
}

SPEC(form_features_norms, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) form_features_norms(const __grid_constant__ FormFeaturesParams p) {
    begin_kernel();
    __shared__ float shared[WARPS][LINE];
    const Resizing& r = p.resizing;
    const Strip strip(r);
    if (strip.is_outside(r)) return;
    const Taps y = taps_of(p, strip.row, r.height, r.to_height);
    const Taps x = taps_of(p, min(strip.column, strip.last), r.width, r.to_width);
    float squares = 0.0f;
    blend(map_of(p), r, y, x, 0, r.channels - (mutant(1) ? 1 : 0), shared[threadIdx.x / 32],
          [&](uint32_t, float value) { squares += value * value; });
    const float inverse = squares == 0.0f && !mutant(3) ? 0.0f : 1.0f / sqrtf(squares);
    if (strip.has_pixel() || mutant(2)) p.norms[blockIdx.y * pixels_of(r) + strip.pixel(r)] = inverse;
}

template <typename T>
__device__ __forceinline__ void planes(const FormFeaturesParams& p) {
    __shared__ float shared[WARPS][LINE];
    const Resizing& r = p.resizing;
    const Strip strip(r);
    if (strip.is_outside(r)) return;
    const Taps y = taps_of(p, strip.row, r.height, r.to_height);
    const Taps x = taps_of(p, min(strip.column, strip.last), r.width, r.to_width);
    const bool is_mine = strip.has_pixel() || mutant(2);
    const size_t plane = pixels_of(r), pixel = strip.pixel(r);
    const float norm = p.norms != nullptr && is_mine ? p.norms[blockIdx.y * plane + (mutant(8) ? pixel - strip.column : pixel)] : 1.0f;
    T* out = static_cast<T*>(p.out) + blockIdx.y * r.channels * plane + pixel;
    uint32_t wrong = 0;
    blend(map_of(p), r, y, x, 0, r.channels, shared[threadIdx.x / 32], [&](uint32_t k, float value) {
        if (is_mine) wrong += store_formed(p, out + k * plane, value, norm);
        if (!is_mine && mutant(11)) wrong += !(fabsf(value) <= p.limit);
    });
    if (wrong != 0) atomicAdd(p.not_finite, wrong);
}

template <typename T>
__device__ __forceinline__ void vectors(const FormFeaturesParams& p) {
    const Resizing& r = p.resizing;
    const uint32_t lane = threadIdx.x % 32;
    const size_t pixels = pixels_of(r), pixel = static_cast<size_t>(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (pixel >= pixels && !mutant(7)) return;
    const Taps y = taps_of(p, pixel / r.to_width, r.height, r.to_height);
    const Taps x = taps_of(p, pixel % r.to_width, r.width, r.to_width);
    const size_t line_step = static_cast<size_t>(r.width) * r.channels;
    const float* from = map_of(p) + y.first * line_step + static_cast<size_t>(x.first) * r.channels;
    const size_t at = blockIdx.y * pixels + pixel;
    const float norm = p.norms != nullptr ? p.norms[mutant(8) ? at - pixel % r.to_width : at] : 1.0f;
    T* out = static_cast<T*>(p.out) + at * r.channels;
    uint32_t wrong = 0;
    for (uint32_t k = lane; k < (mutant(6) ? ceil_div(r.channels, 32) * 32 : r.channels); k += 32) {
        // What is added to −0 keeps its bits.
        float value = -0.0f;
#pragma unroll
        for (int j = 0; j < 3; j++) {
            if (x.weight[j] == 0.0f || (mutant(14) && j == 2)) continue;
            float column = -0.0f;
#pragma unroll
            for (int i = 0; i < 3; i++) {
                if (y.weight[i] != 0.0f && !(mutant(15) && i == 2)) column += y.weight[i] * from[i * line_step + j * r.channels + k];
            }
            value += x.weight[j] * column;
        }
        wrong += store_formed(p, out + k, value, norm);
    }
    if (wrong != 0) atomicAdd(p.not_finite, wrong);
}

SPEC(form_features_hwc, Spec().columns(WARPS))
extern "C" __global__ void __launch_bounds__(32 * WARPS) form_features_hwc(const __grid_constant__ FormFeaturesParams p) {
    begin_kernel();
    vectors<float>(p);
}

SPEC(form_features_hwc_half, Spec().columns(WARPS))
extern "C" __global__ void __launch_bounds__(32 * WARPS) form_features_hwc_half(const __grid_constant__ FormFeaturesParams p) {
    begin_kernel();
    vectors<half>(p);
}

SPEC(form_features_chw, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) form_features_chw(const __grid_constant__ FormFeaturesParams p) {
    begin_kernel();
    planes<float>(p);
}

SPEC(form_features_chw_half, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) form_features_chw_half(const __grid_constant__ FormFeaturesParams p) {
    begin_kernel();
    planes<half>(p);
}

// The next launches count in it, which wait for this one, as this one does for the pass before.
SPEC(form_features_clear, Spec())
extern "C" __global__ void __launch_bounds__(32) form_features_clear(const __grid_constant__ FormFeaturesClearParams p) {
    begin_kernel();
    if (threadIdx.x == 0 && !mutant(12)) *p.not_finite = 0;
}
