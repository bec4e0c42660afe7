// Each label's probability at each pixel: softmax over the labels, in place.
//
//   scores  [batch, labels, pixels]  f32, exp(score − lse) when it is done
//   lse     [batch, pixels]          f32, log Σ exp(score)
//
// Needs: nothing.  Launch: 256 threads, grid (⌈pixels / 256⌉, batch). A thread has a pixel: it goes through the labels once for the
// largest score and the sum, which is rescaled where a larger one comes, and once more to write. Neighbouring threads have
// neighbouring pixels, so every access is whole sectors.
// Cost: 2 exponentials a score; reads scores twice, writes them once.
//
// Mutants: 1 the sum keeps its old scale, 2 pixels behind the map unchecked, 3 one sum for all batch items.

#include "common.cuh"

struct SoftmaxScoresParams {
    float* scores;
    float* lse;
    uint64_t pixels;
    uint32_t labels, padding;
};

constexpr int THREADS = 256;

SPEC(softmax_scores, Spec().rows(1).columns(THREADS))
extern "C" __global__ void __launch_bounds__(THREADS) softmax_scores(const __grid_constant__ SoftmaxScoresParams p) {
    begin_kernel();
    const uint64_t pixel = static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (pixel >= p.pixels && !mutant(2)) return;
    float* scores = p.scores + blockIdx.y * p.labels * p.pixels + pixel;

    float largest = scores[0], sum = 0.0f;
    for (uint32_t label = 0; label < p.labels; label++) {
        const float score = scores[label * p.pixels], old = largest;
        largest = fmaxf(old, score);
        // What is no finite number is NaN less itself.
        sum = (mutant(1) ? sum : sum * expf(old - largest)) + expf(score - largest) + (score - score);
    }
    const float lse = largest + logf(sum);
    p.lse[(mutant(3) ? 0 : blockIdx.y * p.pixels) + pixel] = lse;
    for (uint32_t label = 0; label < p.labels; label++) scores[label * p.pixels] = expf(scores[label * p.pixels] - lse);
}
