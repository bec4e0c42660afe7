// Products on tensor cores: sums of a [rows, depth] · b [columns, depth] for one block's tile, f16 operands, f32 sums.
//
// A loader brings one operand's tiles to shared memory, one after the other along depth:
//     __device__ void copy(uint32_t tile);    // the next tile, to this address, as Tile<BLOCK_K>; zeros outside
// by cp.async (committed by the loop below) or by plain stores. `Transform` changes the first operand's fragments.
// Loaders are made at the block's first depth. See RowLoader here, PatchLoader in patches.cuh.
#pragma once

#include "epilogue.cuh"

template <int BLOCK_M_, int BLOCK_N_, int BLOCK_K_, int WARP_M_, int STAGES_>
struct Shape {
    static constexpr int BLOCK_M = BLOCK_M_, BLOCK_N = BLOCK_N_, BLOCK_K = BLOCK_K_;
    static constexpr int WARP_M = WARP_M_, WARP_N = 64, STAGES = STAGES_;
    static constexpr int WARPS_N = BLOCK_N / WARP_N;
    static constexpr int WARPS = BLOCK_M / WARP_M * WARPS_N;
    static constexpr int THREADS = 32 * WARPS;

    // mma tiles of a warp: 16 rows, 8 columns, 16 deep.
    static constexpr int TILES_M = WARP_M / 16, TILES_N = WARP_N / 8, STEPS = BLOCK_K / 16;

    using Operand = Tile<BLOCK_K>;
    static constexpr int A_BYTES = BLOCK_M * Operand::ROW_BYTES, B_BYTES = BLOCK_N * Operand::ROW_BYTES;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;

    static constexpr int RESULT_ROW_BYTES = WARP_N * 4;
    static_assert(WARPS * WARP_M * RESULT_ROW_BYTES <= SHARED_BYTES, "results leave through the memory of the stages");
    static_assert(BLOCK_M % WARP_M == 0 && BLOCK_N % WARP_N == 0, "warp tiles cover the block's tile");
    static_assert(STEPS >= 2 && STEPS % 2 == 0, "fragments alternate between two sets of registers");
    static_assert(STAGES >= 3, "one stage is read while at least one is under way");
};

template <typename S>
using Sums = float[S::TILES_M][S::TILES_N][4];

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
        const uint32_t a_from = a_tile + offset(a_row, a_chunk), b_from = b_tile + offset(b_row, b_chunk);
#pragma unroll
        for (int i = 0; i < S::TILES_M; i++) ptx::ldmatrix_x4(a[i], a_from + i * 16 * S::Operand::ROW_BYTES);
#pragma unroll
        for (int j = 0; j < S::TILES_N / 2; j++) ptx::ldmatrix_x4(b[j], b_from + j * 16 * S::Operand::ROW_BYTES);
    }

    static __device__ __forceinline__ uint32_t offset(int row, int chunk) {
        return mutant(1) ? S::Operand::plain_offset(row, chunk) : S::Operand::offset(row, chunk);
    }
};

struct Unchanged {
    template <typename F>
    __device__ __forceinline__ void operator()(F&) const {}
};

// A thread's share of copying tiles of ROWS rows of a matrix [rows, depth] of f16, `stride` values apart, each row aligned
// to 16 bytes and `depth` a multiple of 8.
template <typename S, int ROWS>
struct RowLoader {
    static constexpr int ROW_CHUNKS = S::Operand::ROW_CHUNKS;
    static constexpr int ROW_STEP = S::THREADS / ROW_CHUNKS;
    static constexpr int COPIES = ROWS / ROW_STEP;
    static_assert(ROWS % ROW_STEP == 0, "every thread makes the same number of copies");

    const half* matrix;
    size_t stride;
    int first_row, rows, depth, row, chunk, column;

    __device__ __forceinline__ RowLoader(const half* matrix, int first_row, int rows, int depth, int stride, int first_tile)
        : matrix(matrix), stride(stride), first_row(first_row), rows(rows), depth(depth), row(threadIdx.x / ROW_CHUNKS),
          chunk(threadIdx.x % ROW_CHUNKS), column(first_tile * S::BLOCK_K + chunk * CHUNK) {}

    __device__ __forceinline__ void copy(uint32_t tile) {
        const bool column_inside = column < depth || mutant(2);
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int r = row + i * ROW_STEP;
            const bool inside = (first_row + r < rows || mutant(3)) && column_inside;
            const half* from = inside ? matrix + (first_row + r) * stride + column : matrix;
            ptx::cp_async_16(tile + S::Operand::offset(r, chunk), from, inside);
        }
        column += S::BLOCK_K;
    }
};

// The same for rows of any length of f16 or f32 that begin anywhere: value by value, or where rows are aligned (VECTORS:
// f32 and a depth that is a multiple of 8) by sixteen bytes, rounded to f16 on the way.
template <typename S, int ROWS, typename Value, bool VECTORS>
struct ValueLoader {
    static constexpr int ROW_CHUNKS = S::Operand::ROW_CHUNKS;
    static constexpr int ROW_STEP = S::THREADS / ROW_CHUNKS;
    static constexpr int COPIES = ROWS / ROW_STEP;
    static_assert(ROWS % ROW_STEP == 0, "every thread makes the same number of copies");

    const Value* matrix;
    size_t stride;
    int first_row, rows, depth, row, chunk, column;

    __device__ __forceinline__ ValueLoader(const Value* matrix, int first_row, int rows, int depth, int stride,
                                           int first_tile)
        : matrix(matrix), stride(stride), first_row(first_row), rows(rows), depth(depth), row(threadIdx.x / ROW_CHUNKS),
          chunk(threadIdx.x % ROW_CHUNKS), column(first_tile * S::BLOCK_K + chunk * CHUNK) {}

    static __device__ __forceinline__ float wide(float x) { return x; }
    static __device__ __forceinline__ float wide(half x) { return __half2float(x); }

    __device__ __forceinline__ void copy(uint32_t tile) {
        // A few rows at a time: all at once would take the registers of the sums.
#pragma unroll (VECTORS ? 2 : 1)
        for (int i = 0; i < COPIES; i++) {
            const int r = first_row + row + i * ROW_STEP;
            const Value* from = matrix + r * stride + column;
            float values[CHUNK];
            if constexpr (VECTORS) {
                const bool inside = r < rows && column < depth;
                const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                const float4 low = inside ? reinterpret_cast<const float4*>(from)[0] : zero;
                const float4 high = inside ? reinterpret_cast<const float4*>(from)[1] : zero;
                values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
                values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
            } else {
#pragma unroll
                for (int k = 0; k < CHUNK; k++)
                    values[k] = r < rows && (column + k < depth || mutant(4)) ? wide(from[k]) : 0.0f;
            }
            uint32_t words[CHUNK / 2];
#pragma unroll
            for (int k = 0; k < CHUNK / 2; k++) words[k] = ptx::pack_half2(values[2 * k], values[2 * k + 1]);
            ptx::store_shared_16(tile + S::Operand::offset(row + i * ROW_STEP, chunk), words);
        }
        column += S::BLOCK_K;
    }
};

// The block's sums over `tiles` tiles of depth. `stages`: SHARED_BYTES of shared memory, whose contents are over
// when this returns (after a barrier of the block).
template <typename S, typename A, typename B, typename Transform>
__device__ __forceinline__ void product(Sums<S>& sum, A& load_a, B& load_b, int tiles, uint32_t stages,
                                        Transform transform) {
    const int warp = threadIdx.x / 32;
    const uint32_t warp_a = warp / S::WARPS_N * S::WARP_M * S::Operand::ROW_BYTES;
    const uint32_t warp_b = S::A_BYTES + warp % S::WARPS_N * S::WARP_N * S::Operand::ROW_BYTES;
#pragma unroll
    for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;

    // A group a tile, empty past the last, so that counting groups is counting tiles.
    auto fetch = [&](int tile) {
        if (tile < tiles) {
            const uint32_t stage = stages + tile % S::STAGES * S::STAGE_BYTES;
            load_a.copy(stage);
            load_b.copy(stage + S::A_BYTES);
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
        into.load(stage + warp_a, stage + warp_b, step);
        transform(into);
    };
    for (int tile = 0; tile < S::STAGES - 1; tile++) fetch(tile);
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
            const Fragments<S>& f = fragments[step % 2];
#pragma unroll
            for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
                for (int j = 0; j < S::TILES_N; j++)
                    ptx::mma_m16n8k16(sum[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
        }
    }
    // The stages become staging memory once every warp has read its last operands.
    ptx::cp_async_wait<0>();
    if (!mutant(7)) __syncthreads();
}

// Depth cut in parts for products with too few tiles to fill the GPU: each block writes its sums to `parts`, and the tile's
// last block adds them up in the order of the parts, so that the result does not depend on who came last.
struct Split {
    float* parts;       // [tiles of the output, parts, BLOCK_M · BLOCK_N]
    uint32_t* arrived;  // [tiles of the output], zeros before and after
    uint32_t count;     // 1: not cut
    uint32_t padding;
};

// Whether this block is the one that goes on with the whole sums. `part` of `split.count` of the output's tile `tile`.
template <typename S>
__device__ __forceinline__ bool join(Sums<S>& sum, const Split& split, uint32_t tile, uint32_t part) {
    constexpr int VECTORS = S::TILES_M * S::TILES_N;
    constexpr size_t PART = static_cast<size_t>(VECTORS) * S::THREADS;
    float4* parts = reinterpret_cast<float4*>(split.parts) + tile * split.count * PART + threadIdx.x;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const float* s = sum[v / S::TILES_N][v % S::TILES_N];
        parts[part * PART + v * S::THREADS] = make_float4(s[0], s[1], s[2], s[3]);
    }
    if (!mutant(8)) __threadfence();
    __shared__ uint32_t before;
    __syncthreads();
    if (threadIdx.x == 0) before = atomicAdd(split.arrived + tile, 1);
    __syncthreads();
    if (before + 1 < split.count) return false;
    __threadfence();
    if (threadIdx.x == 0) split.arrived[tile] = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        float4 total = __ldcg(parts + v * S::THREADS);
        for (uint32_t other = 1; other < split.count; other++) {
            const float4 p = __ldcg(parts + other * PART + v * S::THREADS);
            total = make_float4(total.x + p.x, total.y + p.y, total.z + p.z, total.w + p.w);
        }
        float* s = sum[v / S::TILES_N][v % S::TILES_N];
        s[0] = total.x, s[1] = total.y, s[2] = total.z, s[3] = total.w;
    }
    return true;
}

// The block's sums through the epilogue, by way of shared memory, so that lanes read and write neighbouring bytes.
template <typename S>
__device__ __forceinline__ void store(const Sums<S>& sum, unsigned char* shared, const Epilogue& epilogue, uint32_t item,
                                      uint32_t block_row, uint32_t block_column) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned char* staging = shared + warp * S::WARP_M * S::RESULT_ROW_BYTES;
    const uint32_t first_row = block_row + warp / S::WARPS_N * S::WARP_M;
    const uint32_t first_column = block_column + warp % S::WARPS_N * S::WARP_N;
    // Chunks of four floats; two bits of the row move them so that four rows' eight bytes a lane fill all banks.
    auto at = [](int row, int chunk) { return row * S::RESULT_ROW_BYTES + (chunk ^ row % 4 * 2) * CHUNK_BYTES; };
#pragma unroll
    for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                const uint32_t to = at(16 * i + 8 * lower + lane / 4, 2 * j + lane % 4 / 2) + lane % 2 * 8;
                *reinterpret_cast<float2*>(staging + to) = make_float2(sum[i][j][2 * lower], sum[i][j][2 * lower + 1]);
            }
    if (!mutant(9)) __syncwarp();
    const uint32_t column = first_column + lane % 16 * 4;
    const bool groups = epilogue.has_groups();
#pragma unroll 2
    for (int i = 0; i < S::WARP_M / 2; i++) {
        const int r = lane / 16 + 2 * i;
        if (first_row + r >= epilogue.rows && !mutant(10)) break;
        const float4 v = *reinterpret_cast<const float4*>(staging + at(r, lane % 16));
        if (groups) {
            if (column < epilogue.columns) epilogue.store4(item, first_row + r, column, v);
        } else {
            const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (column + c < epilogue.columns) epilogue.store1(item, first_row + r, column + c, values[c]);
        }
    }
}
