// In place: row 0 of every item's tokens becomes class token + position 0; the patch rows get the position grid, resized
// (bilinear, edges aligned), added (ViT, 2010.11929, section 3.2).
//
//   positions  [1 + side · side, channels]               f32
//   class      [channels]                                f32
//   tokens     [batch, 1 + height · width, channels]     f32
//
// Needs: nothing.  Launch: grid (1 + height · width, 1, batch): a block a token.
// Cost: 8 FLOP a value; reads and writes tokens, reads positions about once (neighbours from caches).
//
// Mutants: 1 the class row is a patch, 2 rows and columns of the grid swapped.

#include "bilinear.cuh"

struct AddPositionsParams {
    const float* class_token;
    const float* positions;
    float* tokens;
    uint32_t side, height, width, channels;
};

constexpr int THREADS = 256;

SPEC(add_positions, Spec().rows(1))
extern "C" __global__ void __launch_bounds__(THREADS) add_positions(const __grid_constant__ AddPositionsParams p) {
    begin_kernel();
    const size_t channels = p.channels;
    float* token = p.tokens + (blockIdx.z * static_cast<size_t>(gridDim.x) + blockIdx.x) * channels;
    if (blockIdx.x == 0 && !mutant(1)) {
        for (uint32_t c = threadIdx.x; c < channels; c += THREADS) token[c] = p.class_token[c] + p.positions[c];
        return;
    }
    const uint32_t patch = blockIdx.x - (mutant(1) && blockIdx.x == 0 ? 0 : 1);
    const Pair a = edges(patch / p.width, p.side, p.height), b = edges(patch % p.width, p.side, p.width);
    const Pair y = mutant(2) ? b : a, x = mutant(2) ? a : b;
    const float* top = p.positions + (1 + static_cast<size_t>(y.low) * p.side) * channels;
    const float* bottom = p.positions + (1 + static_cast<size_t>(y.high) * p.side) * channels;
    for (uint32_t c = threadIdx.x; c < channels; c += THREADS) {
        const float upper = x.between(top[x.low * channels + c], top[x.high * channels + c]);
        const float lower = x.between(bottom[x.low * channels + c], bottom[x.high * channels + c]);
        token[c] += y.between(upper, lower);
    }
}
