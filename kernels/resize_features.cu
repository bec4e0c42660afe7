// Some channels of a map at another size, a plane a channel, scaled, stored as f32 or f16. Planes of channels that the map does not
// have are left as they are.
//
//   x      [height, width, channels]        f32
//   first  [1]                              u32, the first plane's channel
//   scale  [to_height, to_width]            f32, what each pixel is multiplied by beside `factor`; may be none
//   out    [planes, to_height, to_width]    f32; f16 in resize_features_half
//
// Needs: nothing.  Launch: grid ⌈to_width / columns⌉ · ⌈to_height / WARPS⌉.
// Cost: 6 FLOP an output; reads the planes' channels about three times (from caches but once), writes 4 or 2 bytes an output.
//
// Mutants: 1 channels behind the map's unchecked, 2 columns behind the row unchecked, 3 every piece is the first, 4 every row's scale
// is the first's.

#include "resized.cuh"

struct ResizeFeaturesParams {
    const float* x;
    const uint32_t* first;
    const float* scale;
    void* out;
    Resizing resizing;
    uint32_t planes;
    float factor;
};

__device__ __forceinline__ void store(float* out, float value) {
    *out = value;
}

__device__ __forceinline__ void store(half* out, float value) {
    *out = __float2half_rn(value);
}

template <typename T>
__device__ __forceinline__ void planes(const ResizeFeaturesParams& p) {
    __shared__ float shared[WARPS][LINE];
    const Resizing& r = p.resizing;
    const Strip strip(r);
    if (strip.is_outside(r)) return;
    const uint32_t first = mutant(3) ? 0 : *p.first;
    if (first >= r.channels) return;
    const uint32_t count = mutant(1) ? p.planes : min(p.planes, r.channels - first);
    const bool is_mine = strip.has_pixel() || mutant(2);
    const size_t pixel = strip.pixel(r), plane = static_cast<size_t>(r.to_height) * r.to_width;
    float scale = p.factor;
    if (p.scale != nullptr && is_mine) scale *= p.scale[mutant(4) ? strip.column : pixel];
    T* out = static_cast<T*>(p.out) + pixel;
    resize(p.x, r, strip, first, count, shared[threadIdx.x / 32], [&](uint32_t k, float value) {
        if (is_mine) store(out + k * plane, value * scale);
    });
}

SPEC(resize_features, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) resize_features(const __grid_constant__ ResizeFeaturesParams p) {
    begin_kernel();
    planes<float>(p);
}

SPEC(resize_features_half, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) resize_features_half(const __grid_constant__ ResizeFeaturesParams p) {
    begin_kernel();
    planes<half>(p);
}
