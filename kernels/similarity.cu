// logits = factor · numerators / √(‖coordinates‖² + rest) for every pixel at twice the size of the maps, both interpolated (cell.cuh): the
// cosine of its embedding with every label times the logit scale (LSeg, 2201.03546, section 3.2), without ever forming the embedding
// (src/model/head.rs). A zero embedding scores 0.
//
//   numerators   [batch, height, width, labels]      f32
//   coordinates  [batch, height, width, rank]        f16; rest and factor f32
//   logits       [batch, 2·height, 2·width, labels]  f32
//
// A warp takes CELLS cells of four inputs and makes the four outputs of each, of which cells at the borders have fewer. Coordinates are interpolated
// before they are squared: a sum of squares, in which nothing cancels.
//
// Needs: rank a multiple of CHUNK, coordinates aligned to 16 bytes. Any number of labels from 1 on.
// Launch: grid (⌈(width + 1) / (WARPS · CELLS)⌉, height + 1, batch).
// Cost: 10 FLOP a coordinate, 9 a label, of an output; reads both maps (4 times, 3 from caches), writes 4·labels bytes a pixel.
//
// Mutants: 5 half of a pixel's squares, 6 the rest left out, 7 a zero embedding is not seen, 8 cells unchecked at the end of a line.

#include "cell.cuh"
#include "halves.cuh"

struct SimilarityParams {
    const float* numerators;
    const half* coordinates;
    float* logits;
    uint32_t height, width, labels, rank;
    float rest, factor;
};

constexpr int WARPS = 8, THREADS = 32 * WARPS;
constexpr int CELLS = 4; // of a warp: as many as all of a frame's blocks fit a GPU at once

// The mean of the four inputs a, b above c, d with weights of the second of (x, y).
__device__ __forceinline__ float blend(float a, float b, float c, float d, float x, float y) {
    const float upper = (1.0f - x) * a + x * b, lower = (1.0f - x) * c + x * d;
    return (1.0f - y) * upper + y * lower;
}

// The cell x of a line's, all labels of it. `first`: the batch item's first line.
__device__ __forceinline__ void cell(const SimilarityParams& p, uint32_t first, uint32_t y, const Cell& rows, uint32_t x) {
    const uint32_t lane = threadIdx.x % 32;
    const Cell columns(x, p.width, true);
    const size_t above = static_cast<size_t>(first + rows.low) * p.width, below = static_cast<size_t>(first + rows.high) * p.width;
    const size_t a = above + columns.low, b = above + columns.high, c = below + columns.low, d = below + columns.high;

    // By output: row · 2 + column.
    float squares[4] = {};
    for (uint32_t at = lane * CHUNK; at < p.rank; at += 32 * CHUNK) {
        const auto load = [&](size_t pixel) { return Halves::load(p.coordinates + pixel * p.rank + at); };
        const Halves va = load(a), vb = load(b), vc = load(c), vd = load(d);
#pragma unroll
        for (int i = 0; i < Halves::PAIRS; i++) {
            const float2 a2 = va.get(i), b2 = vb.get(i), c2 = vc.get(i), d2 = vd.get(i);
#pragma unroll
            for (int output = 0; output < 4; output++) {
                const float tx = columns.t[output % 2], ty = rows.t[output / 2];
                const float low = blend(a2.x, b2.x, c2.x, d2.x, tx, ty), high = blend(a2.y, b2.y, c2.y, d2.y, tx, ty);
                squares[output] = fmaf(low, low, fmaf(high, high, squares[output]));
            }
        }
    }
    float inverse[4];
#pragma unroll
    for (int output = 0; output < 4; output++) {
        float sum = squares[output];
#pragma unroll
        for (int distance = mutant(5) ? 8 : 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffff, sum, distance);
        sum += mutant(6) ? 0.0f : p.rest;
        inverse[output] = sum == 0.0f && !mutant(7) ? 0.0f : p.factor * inverse_root(sum);
    }

    const auto row_of = [&](int i) { return (2 * static_cast<size_t>(first) + Cell::output(y, i)) * 2 * p.width; };
    for (uint32_t label = lane; label < p.labels; label += 32) {
        const auto load = [&](size_t pixel) { return __ldg(p.numerators + pixel * p.labels + label); };
        const float va = load(a), vb = load(b), vc = load(c), vd = load(d);
#pragma unroll
        for (int output = 0; output < 4; output++) {
            const int i = output / 2, j = output % 2;
            if (!rows.is[i] || !columns.is[j]) continue;
            const size_t pixel = row_of(i) + Cell::output(x, j);
            p.logits[pixel * p.labels + label] = blend(va, vb, vc, vd, columns.t[j], rows.t[i]) * inverse[output];
        }
    }
}

SPEC(similarity_cell, Spec().step(CHUNK).columns(WARPS * CELLS))
extern "C" __global__ void __launch_bounds__(THREADS) similarity_cell(const __grid_constant__ SimilarityParams p) {
    begin_kernel();
    const uint32_t y = blockIdx.y, begin = blockIdx.x * WARPS * CELLS + threadIdx.x / 32;
    const Cell rows(y, p.height, false);
#pragma unroll 1
    for (uint32_t x = begin; x < begin + WARPS * CELLS && (x <= p.width || mutant(8)); x += WARPS)
        cell(p, blockIdx.z * p.height, y, rows, x);
}
