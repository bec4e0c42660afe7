// A photo, resized (bilinear, edges aligned, no antialias), normalised, and cut into the patches that the patch embedding
// multiplies (ViT, Dosovitskiy et al., 2010.11929); a patch of one pixel is the image itself.
//
//   photo  [batch, photo_height, photo_width, 3]          u8
//   out    [batch, height, width, patch · patch · 3]      f16, a patch's values ordered (row, column, colour)
//
// Needs: nothing.  Launch: 128 threads, grid (⌈width · patch / 128⌉, height · patch up to 65535, batch): a thread a pixel of
// the resized photo and its rows grid.y apart.
// Cost: about 30 FLOP a pixel; reads the photo about once (neighbours from caches), writes 6 bytes a pixel.
//
// Mutants: 1 columns unchecked, 2 the neighbour below is the same row, 3 colours swapped.

#include "bilinear.cuh"

struct PatchifyParams {
    const uint8_t* photo;
    half* out;
    uint32_t photo_height, photo_width;
    uint32_t height, width, patch;
    float mean[3], std[3];
    uint32_t padding;
};

constexpr int THREADS = 128;

extern "C" __global__ void __launch_bounds__(THREADS) patchify(const __grid_constant__ PatchifyParams p) {
    const uint32_t column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= p.width * p.patch && !mutant(1)) return;
    const Pair x = edges(column, p.photo_width, p.width * p.patch);
    const uint8_t* photo = p.photo + static_cast<size_t>(blockIdx.z) * p.photo_height * p.photo_width * 3;
    for (uint32_t row = blockIdx.y; row < p.height * p.patch; row += gridDim.y) {
        const Pair y = edges(row, p.photo_height, p.height * p.patch);
        const uint8_t* top = photo + static_cast<size_t>(y.low) * p.photo_width * 3;
        const uint8_t* bottom = photo + static_cast<size_t>(mutant(2) ? y.low : y.high) * p.photo_width * 3;
        const size_t patch = (static_cast<size_t>(blockIdx.z) * p.height + row / p.patch) * p.width + column / p.patch;
        half* out = p.out + ((patch * p.patch + row % p.patch) * p.patch + column % p.patch) * 3;
#pragma unroll
        for (int c = 0; c < 3; c++) {
            const int colour = mutant(3) ? 2 - c : c;
            auto value = [&](const uint8_t* line, uint32_t at) { return static_cast<float>(line[at * 3 + colour]); };
            const float upper = x.between(value(top, x.low), value(top, x.high));
            const float lower = x.between(value(bottom, x.low), value(bottom, x.high));
            out[c] = __float2half_rn((y.between(upper, lower) / 255.0f - p.mean[c]) / p.std[c]);
        }
    }
}
