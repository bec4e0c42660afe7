// out = a·bᵀ + bias on tensor cores: a linear layer with its weights as they are stored.
//
//   a     [rows, depth]     f16, row-major      the activations
//   b     [columns, depth]  f16, row-major      the weights
//   bias  [columns]         f32
//   out   [rows, columns]   f16, row-major      sums in f32, rounded once
//
// Needs: depth a multiple of 8; a, b and out aligned to 16 bytes. Rows and columns: any number from 1 on.
// Launch: grid (⌈columns / BLOCK_N⌉, ⌈rows / BLOCK_M⌉), with dynamic shared memory:
//   gemm_128x128   128 threads, 65536 bytes
//   gemm_64x64      64 threads, 49152 bytes: for products with too few large tiles to fill the GPU
//
// Cost: 2·rows·columns·depth FLOP, whole tiles charged; reads 2·(rows + columns)·depth bytes, writes 2·rows·columns.
// A 64×64 warp tile loads 8 fragments (ldmatrix.x4) for 32 mma, a quarter: shared memory then feeds the tensor cores of
// every GPU since sm_80.

#include "common.cuh"

template <int BLOCK_M_, int BLOCK_N_, int BLOCK_K_, int WARP_M_, int WARP_N_, int STAGES_>
struct Shape {
    static constexpr int BLOCK_M = BLOCK_M_, BLOCK_N = BLOCK_N_, BLOCK_K = BLOCK_K_;
    static constexpr int WARP_M = WARP_M_, WARP_N = WARP_N_, STAGES = STAGES_;
    static constexpr int WARPS_N = BLOCK_N / WARP_N;
    static constexpr int WARPS = BLOCK_M / WARP_M * WARPS_N;
    static constexpr int THREADS = 32 * WARPS;

    // mma tiles of a warp: 16 rows, 8 columns, 16 deep.
    static constexpr int TILES_M = WARP_M / 16, TILES_N = WARP_N / 8, STEPS = BLOCK_K / 16;

    using Operand = Tile<BLOCK_K>;
    static constexpr int A_BYTES = BLOCK_M * Operand::ROW_BYTES, B_BYTES = BLOCK_N * Operand::ROW_BYTES;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;

    // The warp's results, on their way out.
    using Result = Tile<64>;
    static_assert(WARP_N == 64, "a row of the warp's results fills all banks once");
    static_assert(WARPS * WARP_M * Result::ROW_BYTES <= SHARED_BYTES, "results leave through the memory of the stages");

    static_assert(BLOCK_M % WARP_M == 0 && BLOCK_N % WARP_N == 0, "warp tiles cover the block's tile");
    static_assert(STEPS >= 2 && STEPS % 2 == 0, "fragments alternate between two sets of registers");
    static_assert(STAGES >= 3, "one stage is read while at least one is under way");
};

// A thread's share of copying tiles of ROWS rows from a matrix [rows, depth] to shared memory, tile after tile along
// depth. Outside the matrix it writes zeros.
template <typename S, int ROWS>
struct Loader {
    static constexpr int ROW_CHUNKS = S::Operand::ROW_CHUNKS;
    static constexpr int ROW_STEP = S::THREADS / ROW_CHUNKS;
    static constexpr int COPIES = ROWS / ROW_STEP;
    static_assert(ROWS % ROW_STEP == 0, "every thread makes the same number of copies");

    const half* matrix;
    int first_row, rows, depth, row, chunk;

    __device__ Loader(const half* matrix, int first_row, int rows, int depth)
        : matrix(matrix), first_row(first_row), rows(rows), depth(depth), row(threadIdx.x / ROW_CHUNKS),
          chunk(threadIdx.x % ROW_CHUNKS) {}

    __device__ __forceinline__ void load(uint32_t tile, int first_column) const {
        const int column = first_column + chunk * CHUNK;
        const bool column_inside = column < depth || mutant(1);
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int r = row + i * ROW_STEP;
            const bool inside = (first_row + r < rows || mutant(2)) && column_inside;
            const half* from = inside ? matrix + static_cast<size_t>(first_row + r) * depth + column : matrix;
            const uint32_t to = mutant(3) ? S::Operand::plain_offset(r, chunk) : S::Operand::offset(r, chunk);
            ptx::cp_async_16(tile + to, from, inside);
        }
    }
};

// One step's operands of a warp.
template <typename S>
struct Fragments {
    uint32_t a[S::TILES_M][4];
    uint32_t b[S::TILES_N / 2][4];

    // `a_tile`, `b_tile`: the stage's tiles from the warp's first row on.
    __device__ __forceinline__ void load(uint32_t a_tile, uint32_t b_tile, int step) {
        const int lane = threadIdx.x % 32;
        // Matrices in the order of mma's registers: a has rows 0–7 and 8–15, then the same eight columns further; of b,
        // whose rows are the result's columns, the two depths of one mma come first, then those of its right neighbour.
        const int a_row = lane % 16, a_chunk = 2 * step + lane / 16;
        const int b_row = lane % 8 + lane / 16 * 8, b_chunk = 2 * step + lane / 8 % 2;
        // A multiple of 16 rows leaves the permutation as it is.
        const uint32_t a_from = a_tile + offset(a_row, a_chunk);
        const uint32_t b_from = b_tile + offset(b_row, b_chunk);
#pragma unroll
        for (int i = 0; i < S::TILES_M; i++) ptx::ldmatrix_x4(a[i], a_from + i * 16 * S::Operand::ROW_BYTES);
#pragma unroll
        for (int j = 0; j < S::TILES_N / 2; j++) ptx::ldmatrix_x4(b[j], b_from + j * 16 * S::Operand::ROW_BYTES);
    }

    static __device__ __forceinline__ uint32_t offset(int row, int chunk) {
        return mutant(3) || mutant(4) ? S::Operand::plain_offset(row, chunk) : S::Operand::offset(row, chunk);
    }
};

template <typename S>
using Accumulators = float[S::TILES_M][S::TILES_N][4];

template <typename S>
__device__ __forceinline__ void multiply(Accumulators<S>& sum, const Fragments<S>& f) {
#pragma unroll
    for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
            ptx::mma_m16n8k16(sum[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
}

// The sums start from the bias of their columns.
template <typename S>
__device__ __forceinline__ void start_from_bias(Accumulators<S>& sum, const float* bias, int first_column, int columns) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < S::TILES_N; j++) {
        const int column = first_column + 8 * j + lane % 4 * 2;
        const float left = column < columns || mutant(8) ? bias[column] : 0.0f;
        const float right = column + 1 < columns || mutant(8) ? bias[column + 1] : 0.0f;
#pragma unroll
        for (int i = 0; i < S::TILES_M; i++) {
            sum[i][j][0] = sum[i][j][2] = left;
            sum[i][j][1] = sum[i][j][3] = right;
        }
    }
}

// Rounds the warp's sums and writes them, by way of `staging` (the warp's own), so that lanes store neighbouring bytes.
template <typename S>
__device__ __forceinline__ void store(const Accumulators<S>& sum, unsigned char* staging, half* out, int first_row,
                                      int first_column, int rows, int columns) {
    using Result = typename S::Result;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                const uint32_t at = Result::offset(16 * i + 8 * lower + lane / 4, j) + lane % 4 * 4;
                *reinterpret_cast<uint32_t*>(staging + at) =
                    ptx::pack_half2(sum[i][j][2 * lower], sum[i][j][2 * lower + 1]);
            }
    if (!mutant(9)) __syncwarp();
    if (columns % CHUNK == 0) {
        const int column = first_column + lane % 8 * CHUNK;
#pragma unroll
        for (int i = 0; i < S::WARP_M / 4; i++) {
            const int r = lane / 8 + 4 * i, row = first_row + r;
            if ((row < rows || mutant(7)) && column < columns)
                *reinterpret_cast<uint4*>(out + static_cast<size_t>(row) * columns + column) =
                    *reinterpret_cast<const uint4*>(staging + Result::offset(r, lane % 8));
        }
    } else {
        // Rows start anywhere: one half at a time.
        for (int r = 0; r < S::WARP_M && first_row + r < rows; r++)
            for (int c = lane; c < S::WARP_N && first_column + c < columns; c += 32)
                out[static_cast<size_t>(first_row + r) * columns + first_column + c] =
                    *reinterpret_cast<const half*>(staging + Result::offset(r, c / CHUNK) + c % CHUNK * 2);
    }
}

template <typename S>
__device__ __forceinline__ void gemm(const half* a, const half* b, const float* bias, half* out, int rows, int columns,
                                     int depth) {
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t stages = ptx::shared_address(shared);
    const int warp = threadIdx.x / 32;
    const int block_row = blockIdx.y * S::BLOCK_M, block_column = blockIdx.x * S::BLOCK_N;
    const int warp_row = warp / S::WARPS_N * S::WARP_M, warp_column = warp % S::WARPS_N * S::WARP_N;

    const Loader<S, S::BLOCK_M> load_a(a, block_row, rows, depth);
    const Loader<S, S::BLOCK_N> load_b(b, block_column, columns, depth);
    const int tiles = ceil_div(depth, S::BLOCK_K);
    // A group a tile, empty past the last, so that counting groups is counting tiles.
    auto fetch = [&](int tile) {
        if (tile < tiles) {
            const uint32_t stage = stages + tile % S::STAGES * S::STAGE_BYTES;
            load_a.load(stage, tile * S::BLOCK_K);
            load_b.load(stage + S::A_BYTES, tile * S::BLOCK_K);
        }
        ptx::cp_async_commit();
    };
    // Called with tiles 0 … tile + STAGES − 2 under way: afterwards every thread's part of `tile` is there.
    auto arrive = [&] {
        ptx::cp_async_wait<S::STAGES - (mutant(5) ? 1 : 2)>();
        if (!mutant(6)) __syncthreads();
    };
    Fragments<S> fragments[2];
    auto read = [&](int tile, int step, Fragments<S>& into) {
        const uint32_t stage = stages + tile % S::STAGES * S::STAGE_BYTES;
        into.load(stage + warp_row * S::Operand::ROW_BYTES,
                  stage + S::A_BYTES + warp_column * S::Operand::ROW_BYTES, step);
    };

    for (int tile = 0; tile < S::STAGES - 1; tile++) fetch(tile);
    Accumulators<S> sum;
    start_from_bias<S>(sum, bias, block_column + warp_column, columns);
    arrive();
    read(0, 0, fragments[0]);
    for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (int step = 0; step < S::STEPS; step++) {
            // The next step's operands come while this one's are multiplied.
            if (step + 1 < S::STEPS) {
                read(tile, step + 1, fragments[(step + 1) % 2]);
            } else if (tile + 1 < tiles) {
                arrive();
                read(tile + 1, 0, fragments[0]);
            }
            // Into the stage of the tile before this one, which all had read at the last barrier.
            if (step == 0) fetch(tile + S::STAGES - 1);
            multiply<S>(sum, fragments[step % 2]);
        }
    }

    // The stages become staging memory once every warp has read its last operands.
    if (!mutant(10)) __syncthreads();
    store<S>(sum, shared + warp * S::WARP_M * S::Result::ROW_BYTES, out, block_row + warp_row,
             block_column + warp_column, rows, columns);
}

using Large = Shape<128, 128, 32, 64, 64, 4>;
static_assert(Large::THREADS == 128 && Large::SHARED_BYTES == 65536, "as the header says");
using Small = Shape<64, 64, 64, 32, 64, 3>;
static_assert(Small::THREADS == 64 && Small::SHARED_BYTES == 49152, "as the header says");

extern "C" {

__global__ void __launch_bounds__(Large::THREADS, 2)
gemm_128x128(const half* __restrict__ a, const half* __restrict__ b, const float* __restrict__ bias,
             half* __restrict__ out, int rows, int columns, int depth) {
    gemm<Large>(a, b, bias, out, rows, columns, depth);
}

__global__ void __launch_bounds__(Small::THREADS, 4)
gemm_64x64(const half* __restrict__ a, const half* __restrict__ b, const float* __restrict__ bias,
           half* __restrict__ out, int rows, int columns, int depth) {
    gemm<Small>(a, b, bias, out, rows, columns, depth);
}

}
