// 1 / the length of each vector of a map at another size; 0 for a zero vector. The resized map is never stored.
//
//   x      [height, width, channels]    f32
//   out    [to_height, to_width]        f32
//
// Needs: nothing.  Launch: grid ⌈to_width / columns⌉ · ⌈to_height / WARPS⌉.
// Cost: 8 FLOP a channel and pixel; reads x about three times (from caches but once), writes 4 bytes a pixel.
//
// Mutants: 1 the last channel is left out, 2 columns behind the row unchecked, 3 a zero vector is not seen.

#include "resized.cuh"

struct FeatureNormsParams {
    const float* x;
    float* out;
    Resizing resizing;
};

SPEC(feature_norms, Spec().rows(WARPS).columns(COLUMNS).room(LINE))
extern "C" __global__ void __launch_bounds__(32 * WARPS) feature_norms(const __grid_constant__ FeatureNormsParams p) {
    begin_kernel();
    __shared__ float shared[WARPS][LINE];
    const Resizing& r = p.resizing;
    const Strip strip(r);
    if (strip.is_outside(r)) return;
    float squares = 0.0f;
    resize(p.x, r, strip, 0, r.channels - (mutant(1) ? 1 : 0), shared[threadIdx.x / 32],
           [&](uint32_t, float value) { squares += value * value; });
    const float inverse = squares == 0.0f && !mutant(3) ? 0.0f : 1.0f / sqrtf(squares);
    if (strip.has_pixel() || mutant(2)) p.out[strip.pixel(r)] = inverse;
}
