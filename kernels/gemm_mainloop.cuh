// Products on tensor cores: sums of a [rows, depth] · b [columns, depth] for one block's tile, f16 operands, f32 sums.
//
// A loader brings one operand's tiles to shared memory, one after the other along depth:
//     __device__ void copy(uint32_t tile);    // the next tile, to this address, as Tile<BLOCK_K>; zeros outside
// by cp.async (committed by the loop below) or by plain stores; where it holds values in registers until they have come,
// an overload of `finish` stores them. `Transform` changes the first operand's fragments. Loaders are made at the block's
// first depth. See RowLoader and FloatLoader here, PatchLoader in patches.cuh.
//
// Mutants: 1 swizzle left out on reading, 2 depth unchecked (aligned), 3 rows unchecked (aligned), 5 waits for one
// copy too few, 6 barrier of the loop, 7 barrier before staging, 8 fence before the split-k reduction, 9 __syncwarp of the
// staging, 10 rows unchecked on the way out, 13 rows unchecked (f32), 14 barrier between slices.
#pragma once

#include "epilogue.cuh"

// SLICES: that many warps share a warp tile and sum up different depths of each stage, so that four warps, one for each
// tensor core of a multiprocessor, work on tiles of any size.
template <int BLOCK_M_, int BLOCK_N_, int BLOCK_K_, int WARP_M_, int STAGES_, int SLICES_ = 1>
struct Shape {
    static constexpr int BLOCK_M = BLOCK_M_, BLOCK_N = BLOCK_N_, BLOCK_K = BLOCK_K_;
    static constexpr int WARP_M = WARP_M_, WARP_N = 64, STAGES = STAGES_, SLICES = SLICES_;
    static constexpr int WARPS_N = BLOCK_N / WARP_N;
    static constexpr int SLICE_WARPS = BLOCK_M / WARP_M * WARPS_N;
    static constexpr int WARPS = SLICE_WARPS * SLICES;
    static constexpr int THREADS = 32 * WARPS;

    // mma tiles of a warp: 16 rows, 8 columns, 16 deep; steps of a slice.
    static constexpr int TILES_M = WARP_M / 16, TILES_N = WARP_N / 8, STEPS = BLOCK_K / 16 / SLICES;

    using Operand = Tile<BLOCK_K>;
    static constexpr int A_BYTES = BLOCK_M * Operand::ROW_BYTES, B_BYTES = BLOCK_N * Operand::ROW_BYTES;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;

    // What is left to a warp when the slices have been summed up, and the rows of it that are staged at a time.
    static constexpr int RESULT_M = WARP_M / SLICES, RESULT_TILES_M = TILES_M / SLICES;
    static constexpr int STAGED_M = RESULT_M < 32 ? RESULT_M : 32;
    static constexpr int RESULT_ROW_BYTES = WARP_N * 4;
    static constexpr int STAGING_BYTES = STAGED_M * RESULT_ROW_BYTES;

    static_assert(WARPS * STAGING_BYTES <= SHARED_BYTES, "results leave through the memory of the stages");
    static_assert(SLICES == 1 || (SLICES == 2 && THREADS * RESULT_TILES_M * TILES_N * CHUNK_BYTES <= SHARED_BYTES),
                  "slices exchange halves of their sums there, too");
    static_assert(BLOCK_M % WARP_M == 0 && BLOCK_N % WARP_N == 0 && TILES_M % SLICES == 0, "warps cover the block's tile");
    static_assert(STEPS >= 2 && STEPS % 2 == 0, "fragments alternate between two sets of registers");
    static_assert(STAGES >= 3, "one stage is read, one has come or is stored by `finish`, one is under way");

    static __device__ __forceinline__ int slice() { return SLICES == 1 ? 0 : threadIdx.x / 32 / SLICE_WARPS; }
    // The warp tile's first row and column in the block's.
    static __device__ __forceinline__ int warp_row() { return threadIdx.x / 32 % SLICE_WARPS / WARPS_N * WARP_M; }
    static __device__ __forceinline__ int warp_column() { return threadIdx.x / 32 % WARPS_N * WARP_N; }
};

// The tiles that products and convolutions are compiled for: eight warps' registers fit a multiprocessor, one block of
// T128x256, two of all others.
using T128x256 = Shape<128, 256, 32, 64, 3>;
using T128x128 = Shape<128, 128, 32, 64, 3>;
using T128x64 = Shape<128, 64, 64, 64, 3, 2>;
using T64x64 = Shape<64, 64, 64, 32, 3, 2>;

// What a kernel of these tiles declares.
template <typename S>
constexpr Spec tiles() {
    return Spec().shared(S::SHARED_BYTES).rows(S::BLOCK_M).columns(S::BLOCK_N).step(S::BLOCK_K);
}

// A warp's sums, by mma tile. Those of RESULT_TILES_M are left when the slices have been summed up.
template <typename S>
using Sums = float[S::TILES_M][S::TILES_N][4];

template <typename S>
__device__ __forceinline__ void clear(Sums<S>& sum) {
#pragma unroll
    for (int i = 0; i < S::TILES_M; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
}

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

// Where a thread's share of a tile of ROWS rows lies: WIDTH values of one place in rows that are ROW_STEP apart.
template <typename S, int ROWS, int WIDTH>
struct Share {
    static constexpr int ROW_THREADS = S::BLOCK_K / WIDTH;
    static constexpr int ROW_STEP = S::THREADS / ROW_THREADS;
    static constexpr int COPIES = ROWS / ROW_STEP;
    static_assert(ROWS % ROW_STEP == 0, "every thread makes the same number of copies");
    static_assert(ROW_STEP % 8 == 0, "the permutation of chunks is the same for all of them");

    static __device__ __forceinline__ int row() { return threadIdx.x / ROW_THREADS; }
    static __device__ __forceinline__ int column() { return threadIdx.x % ROW_THREADS * WIDTH; }

    // The i-th place in a tile.
    static __device__ __forceinline__ uint32_t at(uint32_t tile, int i) {
        const uint32_t first = S::Operand::offset(row(), column() / CHUNK) + column() % CHUNK * 2;
        return tile + first + i * ROW_STEP * S::Operand::ROW_BYTES;
    }
};

// The rows of a matrix [rows, depth] that a thread copies from, `stride` values apart.
template <typename S, int ROWS, int WIDTH, typename Value>
struct Source {
    using Part = Share<S, ROWS, WIDTH>;

    const Value* next; // the next tile's first value; may lie outside, where `columns` says so
    size_t stride;
    int rows, columns; // that are left from `next` on

    __device__ __forceinline__ Source(const Value* matrix, int first_row, int rows, int depth, int stride, int first_tile)
        : stride(stride), rows(rows - first_row - Part::row()), columns(depth - first_tile * S::BLOCK_K - Part::column()) {
        next = matrix + static_cast<size_t>(first_row + Part::row()) * stride + first_tile * S::BLOCK_K + Part::column();
    }

    __device__ __forceinline__ bool has_row(int i) const { return i * Part::ROW_STEP < rows; }
    __device__ __forceinline__ const Value* row(int i) const { return next + i * Part::ROW_STEP * stride; }

    __device__ __forceinline__ void advance() {
        next += S::BLOCK_K;
        columns -= S::BLOCK_K;
    }
};

// Tiles of ROWS rows of a matrix of f16, each row aligned to 16 bytes and `depth` a multiple of 8.
template <typename S, int ROWS>
struct RowLoader : Source<S, ROWS, CHUNK, half> {
    using Source<S, ROWS, CHUNK, half>::Source;
    using Part = Share<S, ROWS, CHUNK>;

    __device__ __forceinline__ void copy(uint32_t tile) {
        const bool inside = this->columns > 0 || mutant(2);
#pragma unroll
        for (int i = 0; i < Part::COPIES; i++)
            ptx::cp_async_16(Part::at(tile, i), this->row(i), inside && (this->has_row(i) || mutant(3)));
        this->advance();
    }
};

// The same for f32, rounded to f16 on the way: a tile's values stay in registers while the tile before is multiplied.
template <typename S, int ROWS>
struct FloatLoader : Source<S, ROWS, 4, float> {
    using Source<S, ROWS, 4, float>::Source;
    using Part = Share<S, ROWS, 4>;

    uint32_t to = 0;
    float4 held[Part::COPIES];

    __device__ __forceinline__ void copy(uint32_t tile) {
        to = tile;
#pragma unroll
        for (int i = 0; i < Part::COPIES; i++) {
            const bool inside = this->columns > 0 && (this->has_row(i) || mutant(13));
            held[i] = inside ? *reinterpret_cast<const float4*>(this->row(i)) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
        this->advance();
    }

    __device__ __forceinline__ void store_held() const {
#pragma unroll
        for (int i = 0; i < Part::COPIES; i++) {
            const float4 v = held[i];
            ptx::store_shared_8(Part::at(to, i), ptx::pack_half2(v.x, v.y), ptx::pack_half2(v.z, v.w));
        }
    }
};

// What is left to do for the tile that was copied last, a tile's time later.
template <typename Loader>
__device__ __forceinline__ void finish(const Loader&) {}

template <typename S, int ROWS>
__device__ __forceinline__ void finish(const FloatLoader<S, ROWS>& loader) {
    loader.store_held();
}

// Two slices' sums become one: each warp gives the half of its rows to the other that shares its tile, and keeps, as its
// first RESULT_TILES_M, the half that the slice's number says.
template <typename S>
__device__ __forceinline__ void reduce_slices(Sums<S>& sum, uint32_t shared) {
    constexpr int HALF = S::RESULT_TILES_M;
    const bool upper = S::slice() == 0;
    const uint32_t other = (threadIdx.x + S::THREADS / 2) % S::THREADS;
    auto at = [&](int i, int j, uint32_t thread) {
        return shared + ((i * S::TILES_N + j) * S::THREADS + thread) * CHUNK_BYTES;
    };
#pragma unroll
    for (int i = 0; i < HALF; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++) {
            uint32_t given[4];
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float a = sum[i][j][e], b = sum[i + HALF][j][e];
                given[e] = __float_as_uint(upper ? b : a);
                sum[i][j][e] = upper ? a : b;
            }
            ptx::store_shared_16(at(i, j, other), given);
        }
    if (!mutant(14)) __syncthreads();
#pragma unroll
    for (int i = 0; i < HALF; i++)
#pragma unroll
        for (int j = 0; j < S::TILES_N; j++) {
            uint32_t taken[4];
            ptx::load_shared_16(taken, at(i, j, threadIdx.x));
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] += __uint_as_float(taken[e]);
        }
    __syncthreads();
}

// The block's sums over `tiles` tiles of depth. `stages`: SHARED_BYTES of shared memory, whose contents are over
// when this returns (after a barrier of the block).
template <typename S, typename A, typename B, typename Transform>
__device__ __forceinline__ void gemm_mainloop(Sums<S>& sum, A& load_a, B& load_b, int tiles, uint32_t stages,
                                              Transform transform) {
    const uint32_t warp_a = S::warp_row() * S::Operand::ROW_BYTES;
    const uint32_t warp_b = S::A_BYTES + S::warp_column() * S::Operand::ROW_BYTES;
    clear<S>(sum);

    // The stages go round: the next of one.
    auto advance = [&](uint32_t& stage) {
        stage += S::STAGE_BYTES;
        if (stage == stages + S::SHARED_BYTES) stage = stages;
    };
    uint32_t reading = stages, writing = stages;
    // A group a tile, empty past the last, so that counting groups is counting tiles.
    auto fetch = [&](int tile) {
        if (tile > 0 && tile <= tiles) {
            finish(load_a);
            finish(load_b);
        }
        if (tile < tiles) {
            load_a.copy(writing);
            load_b.copy(writing + S::A_BYTES);
            advance(writing);
        }
        ptx::cp_async_commit();
    };
    // Called with tiles 0 … tile + STAGES − 2 under way: afterwards every thread's part of `tile` is there.
    auto arrive = [&] {
        ptx::cp_async_wait<S::STAGES - (mutant(5) ? 1 : 2)>();
        if (!mutant(6)) __syncthreads();
    };
    Fragments<S> fragments[2];
    auto read = [&](int step, Fragments<S>& into) {
        into.load(reading + warp_a, reading + warp_b, S::slice() * S::STEPS + step);
        transform(into);
    };
    for (int tile = 0; tile < S::STAGES - 1; tile++) fetch(tile);
    arrive();
    read(0, fragments[0]);
    for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (int step = 0; step < S::STEPS; step++) {
            // The next step's operands come while this one's are multiplied.
            if (step + 1 < S::STEPS) {
                read(step + 1, fragments[(step + 1) % 2]);
            } else if (tile + 1 < tiles) {
                arrive();
                advance(reading);
                read(0, fragments[0]);
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
    if constexpr (S::SLICES > 1) reduce_slices<S>(sum, stages);
}

// Depth cut in parts for products with too few tiles to fill the GPU: each block writes its sums to `partial_sums`, and the tile's
// last block adds them up in the order of the parts, so that the result does not depend on who came last. The next product may
// have the same memory: where launches overlap it waits for this one before it writes (`begin_kernel`).
struct SplitK {
    float* partial_sums; // [tiles of the output, parts, BLOCK_M · BLOCK_N]
    uint32_t* arrived;   // [tiles of the output], zeros before and after
    uint32_t count;      // 1: not cut
    uint32_t padding;
};

// Whether this block is the one that goes on with the whole sums. `part` of `split_k.count` of the output's tile `tile`.
template <typename S>
__device__ __forceinline__ bool reduce_split_k(Sums<S>& sum, const SplitK& split_k, uint32_t tile, uint32_t part) {
    constexpr int VECTORS = S::RESULT_TILES_M * S::TILES_N;
    constexpr size_t PART = static_cast<size_t>(VECTORS) * S::THREADS;
    float4* partial = reinterpret_cast<float4*>(split_k.partial_sums) + tile * split_k.count * PART + threadIdx.x;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const float* s = sum[v / S::TILES_N][v % S::TILES_N];
        partial[part * PART + v * S::THREADS] = make_float4(s[0], s[1], s[2], s[3]);
    }
    if (!mutant(8)) __threadfence();
    __shared__ uint32_t before;
    __syncthreads();
    if (threadIdx.x == 0) before = atomicAdd(split_k.arrived + tile, 1);
    __syncthreads();
    if (before + 1 < split_k.count) return false;
    __threadfence();
    if (threadIdx.x == 0) split_k.arrived[tile] = 0;
    // Several vectors at a time, so that memory is waited for once for all of them. Its own part is read again: to keep it
    // would take the registers of the sum.
    constexpr int GROUP = VECTORS < 16 ? VECTORS : 16;
#pragma unroll
    for (int first = 0; first < VECTORS; first += GROUP) {
        float4 total[GROUP] = {};
#pragma unroll 1
        for (uint32_t from = 0; from < split_k.count; from++) {
#pragma unroll
            for (int v = 0; v < GROUP; v++) {
                const float4 add = __ldcg(partial + from * PART + (first + v) * S::THREADS);
                total[v] = make_float4(total[v].x + add.x, total[v].y + add.y, total[v].z + add.z, total[v].w + add.w);
            }
        }
#pragma unroll
        for (int v = 0; v < GROUP; v++) {
            float* s = sum[(first + v) / S::TILES_N][(first + v) % S::TILES_N];
            s[0] = total[v].x, s[1] = total[v].y, s[2] = total[v].z, s[3] = total[v].w;
        }
    }
    return true;
}

// The block's sums through the epilogue, by way of shared memory, so that lanes read and write neighbouring bytes.
template <typename S, typename E>
__device__ __forceinline__ void store(const Sums<S>& sum, unsigned char* shared, const E& epilogue, uint32_t item,
                                      uint32_t block_row, uint32_t block_column) {
    const int lane = threadIdx.x % 32;
    unsigned char* staging = shared + threadIdx.x / 32 * S::STAGING_BYTES;
    const uint32_t first_row = block_row + S::warp_row() + S::slice() * S::RESULT_M;
    const uint32_t column = block_column + S::warp_column() + lane % 16 * 4;
    const bool groups = epilogue.has_groups();
    // Chunks of four floats; two bits of the row move them so that four rows' eight bytes a lane fill all banks.
    auto at = [](int row, int chunk) { return row * S::RESULT_ROW_BYTES + (chunk ^ row % 4 * 2) * CHUNK_BYTES; };
#pragma unroll 1
    for (int staged = 0; staged < S::RESULT_M; staged += S::STAGED_M) {
#pragma unroll
        for (int i = 0; i < S::RESULT_TILES_M; i++) {
            if (i * 16 / S::STAGED_M * S::STAGED_M != staged) continue;
#pragma unroll
            for (int j = 0; j < S::TILES_N; j++)
#pragma unroll
                for (int lower = 0; lower < 2; lower++) {
                    const int row = i * 16 % S::STAGED_M + 8 * lower + lane / 4;
                    const uint32_t to = at(row, 2 * j + lane % 4 / 2) + lane % 2 * 8;
                    *reinterpret_cast<float2*>(staging + to) =
                        make_float2(sum[i][j][2 * lower], sum[i][j][2 * lower + 1]);
                }
        }
        if (!mutant(9)) __syncwarp();
#pragma unroll 2
        for (int r = lane / 16; r < S::STAGED_M; r += 2) {
            const uint32_t row = first_row + staged + r;
            if (row >= epilogue.rows && !mutant(10)) break;
            const float4 v = *reinterpret_cast<const float4*>(staging + at(r, lane % 16));
            if (groups) {
                if (column < epilogue.columns) epilogue.store4(item, row, column, v);
            } else {
                const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int c = 0; c < 4; c++)
                    if (column + c < epilogue.columns) epilogue.store1(item, row, column + c, values[c]);
            }
        }
        __syncwarp();
    }
}
