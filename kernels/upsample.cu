// out = x at twice the size, bilinear, corners aligned (PyTorch's align_corners=True): output i of 2·side lies at
// i·(side − 1) / (2·side − 1) among the inputs.
//
//   x    [batch, height, width, channels]      f16
//   out  [batch, 2·height, 2·width, channels]  f16
//
// Outputs 2m + 1 and 2m + 2 both lie between inputs m and m + 1, with weights of the second of (side − 1 − m) / d and
// (2·side − 2 − m) / d where d = 2·side − 1. So a thread takes a cell of four inputs, m from −1 to side − 1 along both
// axes, and makes from it CHUNK channels of its four outputs, of which cells at the borders have fewer.
//
// Needs: channels a multiple of CHUNK, both maps aligned to 16 bytes.
// Launch: grid (⌈(width + 1) · channels / CHUNK / THREADS⌉, height + 1, batch).
// Cost: 8 FLOP an output; reads x (4 times, 3 from caches), writes out, 8 bytes for 2.
// Mutants: 1 the cell before the first reads itself as its second, 2 weights as in the middle at the first output,
// 3 the second output is not left out at the end of a row, 4 no limit to the right.

#include "halves.cuh"

struct UpsampleParams {
    const half* x;
    half* out;
    uint32_t height, width, channels;
    uint32_t padding;
};

constexpr int THREADS = 256;

// Along one axis of `side` inputs: the two inputs of cell m − 1, and of each of its two outputs the place, whether there
// is one, and the weight of the second input.
struct Cell {
    uint32_t low, high;
    bool is[2];
    float t[2];

    __device__ __forceinline__ Cell(uint32_t m, uint32_t side, bool limited) {
        low = m == 0 ? 0 : m - 1;
        high = mutant(1) && m == 0 ? 0 : limited ? min(low + 1, side - 1) : low + 1;
        is[0] = m > 0;
        is[1] = m < side || mutant(3);
        const float d = 2 * side - 1;
        t[0] = (side - m) / d;
        t[1] = m == 0 && !mutant(2) ? 0.0f : (2 * side - 1 - m) / d;
    }
};

__device__ __forceinline__ float2 between(float2 a, float2 b, float t) {
    return {(1.0f - t) * a.x + t * b.x, (1.0f - t) * a.y + t * b.y};
}

SPEC(upsample_8, Spec().step(CHUNK))
extern "C" __global__ void __launch_bounds__(THREADS) upsample_8(const __grid_constant__ UpsampleParams p) {
    begin_kernel();
    const uint32_t groups = p.channels / CHUNK;
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x, cell = at / groups, item = blockIdx.z;
    if (cell > p.width) return;
    const uint32_t channel = (at - cell * groups) * CHUNK;
    const Cell rows(blockIdx.y, p.height, true), columns(cell, p.width, !mutant(4));
    const size_t pixels = static_cast<size_t>(p.height) * p.width;
    const half* x = p.x + item * pixels * p.channels + channel;
    const auto input = [&](uint32_t row, uint32_t column) {
        return Halves::load(x + (static_cast<size_t>(row) * p.width + column) * p.channels);
    };
    const auto a = input(rows.low, columns.low), b = input(rows.low, columns.high);
    const auto c = input(rows.high, columns.low), d = input(rows.high, columns.high);
    Halves out[2][2];
    for (int i = 0; i < Halves::PAIRS; i++) {
        const float2 a2 = __half22float2(a.pair[i]), b2 = __half22float2(b.pair[i]);
        const float2 c2 = __half22float2(c.pair[i]), d2 = __half22float2(d.pair[i]);
        for (int column = 0; column < 2; column++) {
            const float2 upper = between(a2, b2, columns.t[column]), lower = between(c2, d2, columns.t[column]);
            for (int row = 0; row < 2; row++) {
                out[row][column].pair[i] = __float22half2_rn(between(upper, lower, rows.t[row]));
            }
        }
    }
    half* map = p.out + 4 * item * pixels * p.channels + channel;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            if (!rows.is[i] || !columns.is[j]) continue;
            const uint32_t row = 2 * blockIdx.y + i - 1, column = 2 * cell + j - 1;
            out[i][j].store(map + (static_cast<size_t>(row) * 2 * p.width + column) * p.channels);
        }
    }
}
