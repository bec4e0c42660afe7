// out = a·bᵀ + bias: cp.async into a ring of three stages, ldmatrix, mma, results through shared memory.
//
//   a   [rows, depth] f16      b     [columns, depth] f16
//   out [rows, columns] f16    bias  [columns] f32
//
// Needs: depth and columns multiples of 8. Launch: 64 threads, grid (⌈columns / 64⌉, ⌈rows / 32⌉).

#include "mutants.cuh"

constexpr int ROWS = 32, COLUMNS = 64, DEPTH = 32, STAGES = 3, THREADS = 64;
constexpr int STAGE_BYTES = (ROWS + COLUMNS) * DEPTH * 2;

extern "C" __global__ void __launch_bounds__(THREADS)
product(const half* a, const half* b, const float* bias, half* out, int rows, int columns, int depth) {
    __shared__ __align__(128) unsigned char shared[STAGES * STAGE_BYTES];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int block_row = blockIdx.y * ROWS, block_column = blockIdx.x * COLUMNS;

    // A stage's first ROWS rows are of a, the others of b; zeros outside of the matrices. A group a tile, empty past the last.
    auto fetch = [&](int tile) {
        for (int i = threadIdx.x; tile * DEPTH < depth && i < (ROWS + COLUMNS) * 4; i += THREADS) {
            const int row = i / 4, k = tile * DEPTH + i % 4 * 8;
            const bool of_a = row < ROWS;
            const int at = of_a ? block_row + row : block_column + row - ROWS;
            const bool inside = (k < depth || mutant(1)) && (at < (of_a ? rows : columns) || mutant(2));
            const half* matrix = of_a ? a : b;
            ptx::cp_async(shared + tile % STAGES * STAGE_BYTES + place<4>(row, i % 4, !mutant(3)),
                     inside ? matrix + static_cast<size_t>(at) * depth + k : matrix, inside);
        }
        ptx::cp_async_commit();
    };

    // A warp has 16 rows and all columns of the tile.
    float sum[8][4];
    for (int j = 0; j < 8; j++) {
        const int column = block_column + 8 * j + lane % 4 * 2;
        const bool inside = column < columns || mutant(8);
        const float2 start = inside ? *reinterpret_cast<const float2*>(bias + column) : make_float2(0, 0);
        sum[j][0] = sum[j][2] = start.x;
        sum[j][1] = sum[j][3] = start.y;
    }
    for (int tile = 0; tile < STAGES - 1; tile++) fetch(tile);
    for (int tile = 0; tile * DEPTH < depth; tile++) {
        ptx::cp_async_wait<mutant(5) ? STAGES - 1 : STAGES - 2>();
        // Everybody's part of this tile is there, and everybody has read the one before.
        if (!mutant(6)) __syncthreads();
        fetch(tile + STAGES - 1);
        const unsigned char* stage = shared + tile % STAGES * STAGE_BYTES;
        const bool permuted = !mutant(3) && !mutant(4);
        for (int step = 0; step < 2; step++) {
            uint32_t x[4], y[4];
            ptx::ldmatrix(x, stage + place<4>(16 * warp + lane % 16, 2 * step + lane / 16, permuted));
            for (int j = 0; j < 8; j += 2) {
                const int row = ROWS + 8 * j + lane % 8 + lane / 16 * 8;
                ptx::ldmatrix(y, stage + place<4>(row, 2 * step + lane / 8 % 2, permuted));
                ptx::mma(sum[j], x, y[0], y[1]);
                ptx::mma(sum[j + 1], x, y[2], y[3]);
            }
        }
    }

    // The results take the place of a stage that another warp may still read.
    if (!mutant(10)) __syncthreads();
    unsigned char* staging = shared + warp * 16 * COLUMNS * 2;
    for (int j = 0; j < 8; j++)
        for (int lower = 0; lower < 2; lower++)
            *reinterpret_cast<uint32_t*>(staging + place<8>(8 * lower + lane / 4, j) + lane % 4 * 4) =
                ptx::pack_halves(sum[j][2 * lower], sum[j][2 * lower + 1]);
    if (!mutant(9)) __syncwarp();
    for (int r = lane / 8; r < 16; r += 4) {
        const int row = block_row + 16 * warp + r, column = block_column + lane % 8 * 8;
        if ((row < rows || mutant(7)) && column < columns)
            *reinterpret_cast<uint4*>(out + static_cast<size_t>(row) * columns + column) =
                *reinterpret_cast<const uint4*>(staging + place<8>(r, lane % 8));
    }
}
