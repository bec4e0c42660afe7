// A map's values at points of the photo, as if it had been brought to the photo's size first: ×2 (corners aligned), resized (edges
// aligned), read between the pixels. Points outside are read at the outermost centres; a NaN counts as 0.
//
//   x       [batch, height, width, channels]   f16
//   points  [batch, points, 2]                 f32, (x, y) in the photo's pixels
//   out     [batch, points, channels]          f16
//
// Needs: nothing.  Launch: grid (points, 1, batch): a block a point, threads along the channels.
// Cost: 2 FLOP a tap and channel, up to 36 taps; reads those, writes 2 bytes a channel.
//
// Mutants: 1 x and y swapped, 2 the second pixel of a row is left out.

#include "bilinear.cuh"

struct SampleParams {
    const half* x;
    const float* points;
    half* out;
    uint32_t height, width, channels;
    uint32_t photo_height, photo_width, padding;
};

// The two pixels of `side` that a coordinate lies between.
__device__ __forceinline__ Pair pixels(float position, uint32_t side) {
    // Exact: sides are less than 2²⁴.
    const float inside = fminf(fmaxf(position, 0.0f), static_cast<float>(side - 1));
    const uint32_t low = static_cast<uint32_t>(inside);
    return {low, min(low + 1, side - 1), inside - static_cast<float>(low)};
}

// Of pixel `i` of the photo's side.
__device__ __forceinline__ Taps taps_of(uint32_t i, uint32_t half, uint32_t photo) {
    return Taps::through_upsample(edges(i, 2 * half, photo), half);
}

constexpr int THREADS = 128;

SPEC(sample, Spec().rows(1))
extern "C" __global__ void __launch_bounds__(THREADS) sample(const __grid_constant__ SampleParams p) {
    begin_kernel();
    const size_t place = static_cast<size_t>(blockIdx.z) * gridDim.x + blockIdx.x;
    const Pair x = pixels(p.points[2 * place + (mutant(1) ? 1 : 0)], p.photo_width);
    const Pair y = pixels(p.points[2 * place + (mutant(1) ? 0 : 1)], p.photo_height);
    const half* map = p.x + static_cast<size_t>(blockIdx.z) * p.height * p.width * p.channels;
    const Taps rows[2] = {taps_of(y.low, p.height, p.photo_height), taps_of(y.high, p.height, p.photo_height)};
    const Taps columns[2] = {taps_of(x.low, p.width, p.photo_width), taps_of(x.high, p.width, p.photo_width)};
    const float row_weight[2] = {1.0f - y.t, y.t}, column_weight[2] = {1.0f - x.t, mutant(2) ? 0.0f : x.t};
    for (uint32_t c = threadIdx.x; c < p.channels; c += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int k = 0; k < 3; k++)
#pragma unroll
                for (int j = 0; j < 2; j++)
#pragma unroll
                    for (int l = 0; l < 3; l++) {
                        const float weight =
                            row_weight[i] * rows[i].weight[k] * column_weight[j] * columns[j].weight[l];
                        if (weight == 0.0f) continue;
                        const size_t pixel = static_cast<size_t>(rows[i].index(k)) * p.width + columns[j].index(l);
                        sum += weight * __half2float(map[pixel * p.channels + c]);
                    }
        p.out[place * p.channels + c] = __float2half_rn(sum);
    }
}
