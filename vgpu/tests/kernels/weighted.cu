// out = softmax(scores)·v, each row's maximum and sum kept while the keys go by: shuffles, ex2, transposing ldmatrix, mma.
//
//   scores [batch, queries, keys] f32    v [batch, keys, 64] f16    out [batch, queries, 64] f16
//
// Needs: keys a multiple of 2. Launch: 64 threads, grid (⌈queries / 32⌉, batch).

#include "mutants.cuh"

constexpr int WIDTH = 64, KEYS = 16, THREADS = 64;
constexpr int STAGE_BYTES = KEYS * WIDTH * 2;
constexpr float LOG2_E = 1.4426950408889634f;

extern "C" __global__ void __launch_bounds__(THREADS)
weighted(const float* scores, const half* v, half* out, int queries, int keys) {
    __shared__ __align__(128) unsigned char stages[2 * STAGE_BYTES], results[2 * 16 * WIDTH * 2];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * 32 + 16 * warp;
    scores += static_cast<size_t>(blockIdx.y) * queries * keys;
    v += static_cast<size_t>(blockIdx.y) * keys * WIDTH;
    out += static_cast<size_t>(blockIdx.y) * queries * WIDTH;

    auto fetch = [&](int tile) {
        for (int i = threadIdx.x; i < KEYS * 8; i += THREADS) {
            const int key = tile * KEYS + i / 8;
            const bool inside = key < keys || mutant(2);
            ptx::cp_async(stages + tile % 2 * STAGE_BYTES + place<8>(i / 8, i % 8, !mutant(3)),
                     inside ? v + static_cast<size_t>(key) * WIDTH + i % 8 * 8 : v, inside);
        }
        ptx::cp_async_commit();
    };

    // A lane has two rows, eight apart, and of each tile four keys: as mma holds its first matrix.
    float sum[8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {};
    fetch(0);
    for (int tile = 0; tile * KEYS < keys; tile++) {
        uint32_t weights[4];
        for (int lower = 0; lower < 2; lower++) {
            const int row = first + lane / 4 + 8 * lower;
            const float* from = scores + static_cast<size_t>(mutant(1) ? row : min(row, queries - 1)) * keys;
            float s[2][2];
            for (int half = 0; half < 2; half++) {
                const int key = tile * KEYS + 8 * half + lane % 4 * 2;
                const float2 pair = *reinterpret_cast<const float2*>(from + min(key, keys - 2));
                s[half][0] = key < keys || mutant(5) ? pair.x * LOG2_E : -INFINITY;
                s[half][1] = key < keys || mutant(5) ? pair.y * LOG2_E : -INFINITY;
            }
            float most = fmaxf(fmaxf(s[0][0], s[0][1]), fmaxf(s[1][0], s[1][1]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
            if (!mutant(6)) most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
            most = fmaxf(most, top[lower]);
            const float shrink = ptx::ex2(top[lower] - most);
            top[lower] = most;
            total[lower] *= shrink;
            for (int j = 0; j < 8; j++) sum[j][2 * lower] *= shrink, sum[j][2 * lower + 1] *= shrink;
            for (int half = 0; half < 2; half++) {
                const float left = ptx::ex2(s[half][0] - most), right = ptx::ex2(s[half][1] - most);
                total[lower] += left + right;
                weights[2 * half + lower] = ptx::pack_halves(left, right);
            }
        }
        ptx::cp_async_wait<mutant(7) ? 1 : 0>();
        // Everybody's part of this tile is there, and everybody has read the one before.
        if (!mutant(8)) __syncthreads();
        if ((tile + 1) * KEYS < keys) fetch(tile + 1);
        const unsigned char* stage = stages + tile % 2 * STAGE_BYTES;
        for (int j = 0; j < 8; j += 2) {
            uint32_t y[4];
            ptx::ldmatrix_transposed(y, stage + place<8>(lane % 16, j + lane / 16, !mutant(3) && !mutant(4)));
            ptx::mma(sum[j], weights, y[0], y[1]);
            ptx::mma(sum[j + 1], weights, y[2], y[3]);
        }
    }

    unsigned char* staging = results + warp * 16 * WIDTH * 2;
    for (int lower = 0; lower < 2; lower++) {
        total[lower] += __shfl_xor_sync(0xffffffff, total[lower], 1);
        total[lower] += __shfl_xor_sync(0xffffffff, total[lower], 2);
        for (int j = 0; j < 8; j++)
            *reinterpret_cast<uint32_t*>(staging + place<8>(8 * lower + lane / 4, j) + lane % 4 * 4) =
                ptx::pack_halves(sum[j][2 * lower] / total[lower], sum[j][2 * lower + 1] / total[lower]);
    }
    if (!mutant(9)) __syncwarp();
    for (int r = lane / 8; r < 16; r += 4)
        if (first + r < queries || mutant(10))
            *reinterpret_cast<uint4*>(out + static_cast<size_t>(first + r) * WIDTH + lane % 8 * 8) =
                *reinterpret_cast<const uint4*>(staging + place<8>(r, lane % 8));
}
