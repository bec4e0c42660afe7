// One row of every batch item: the token at which CLIP's text tower is read (end-of-text pooling, 2103.00020).
//
//   x      [batch, rows, width]   f32
//   index  [batch]                u32
//   out    [batch, width]         f32
//
// Needs: indices below rows.  Launch: grid (batch, 1, 1).  Cost: reads and writes 4 bytes a value.
//
// Mutants: 1 the first item's index for all.

#include "common.cuh"

struct TakeRowsParams {
    const float* x;
    const uint32_t* index;
    float* out;
    uint32_t rows, width;
};

constexpr int THREADS = 128;

SPEC(take_rows, Spec().rows(1))
extern "C" __global__ void __launch_bounds__(THREADS) take_rows(const __grid_constant__ TakeRowsParams p) {
    begin_kernel();
    const size_t item = blockIdx.x;
    const float* row = p.x + (item * p.rows + p.index[mutant(1) ? 0 : item]) * p.width;
    for (uint32_t c = threadIdx.x; c < p.width; c += THREADS) p.out[item * p.width + c] = row[c];
}
