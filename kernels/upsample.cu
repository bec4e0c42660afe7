// out = x at twice the size, bilinear, corners aligned (cell.cuh).
//
//   x    [batch, height, width, channels]      f16, or f32 in upsample_float
//   out  [batch, 2·height, 2·width, channels]  the same
//
// A thread takes a cell of four inputs and makes from it a vector of channels (16 bytes) of its four outputs, of which cells at the
// borders have fewer.
//
// Needs: channels whole vectors, both maps aligned to 16 bytes.
// Launch: grid (⌈(width + 1) · channels / step / THREADS⌉, height + 1, batch).
// Cost: 8 FLOP an output; reads x (4 times, 3 from caches), writes out.

#include "cell.cuh"
#include "halves.cuh"

struct UpsampleParams {
    const void* x;
    void* out;
    uint32_t height, width, channels;
    uint32_t padding;
};

constexpr int THREADS = 256;

__device__ __forceinline__ float2 between(float2 a, float2 b, float t) {
    return {(1.0f - t) * a.x + t * b.x, (1.0f - t) * a.y + t * b.y};
}

// V: a vector of channels.
template <typename V>
__device__ __forceinline__ void upsample(const UpsampleParams& p) {
    using Value = typename V::Value;
    const uint32_t groups = p.channels / V::SIZE;
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x, cell = at / groups, item = blockIdx.z;
    if (cell > p.width) return;
    const uint32_t channel = (at - cell * groups) * V::SIZE;
    const Cell rows(blockIdx.y, p.height, false), columns(cell, p.width, true);
    const size_t pixels = static_cast<size_t>(p.height) * p.width;
    const Value* x = static_cast<const Value*>(p.x) + item * pixels * p.channels + channel;
    const auto input = [&](uint32_t row, uint32_t column) {
        return V::load(x + (static_cast<size_t>(row) * p.width + column) * p.channels);
    };
    const V a = input(rows.low, columns.low), b = input(rows.low, columns.high);
    const V c = input(rows.high, columns.low), d = input(rows.high, columns.high);
    V out[2][2];
    for (int i = 0; i < V::PAIRS; i++) {
        for (int column = 0; column < 2; column++) {
            const float2 upper = between(a.get(i), b.get(i), columns.t[column]);
            const float2 lower = between(c.get(i), d.get(i), columns.t[column]);
            for (int row = 0; row < 2; row++) out[row][column].set(i, between(upper, lower, rows.t[row]));
        }
    }
    Value* map = static_cast<Value*>(p.out) + 4 * item * pixels * p.channels + channel;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            if (!rows.is[i] || !columns.is[j]) continue;
            const size_t row = Cell::output(blockIdx.y, i), column = Cell::output(cell, j);
            out[i][j].store(map + (row * 2 * p.width + column) * p.channels);
        }
    }
}

extern "C" {

SPEC(upsample_half, Spec().step(Halves::SIZE))
__global__ void __launch_bounds__(THREADS) upsample_half(const __grid_constant__ UpsampleParams p) {
    begin_kernel();
    upsample<Halves>(p);
}

SPEC(upsample_float, Spec().step(Floats::SIZE).variant(variant::FLOAT_INPUT))
__global__ void __launch_bounds__(THREADS) upsample_float(const __grid_constant__ UpsampleParams p) {
    begin_kernel();
    upsample<Floats>(p);
}

}
