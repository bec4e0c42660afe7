// out = a transposed convolution of x whose stride is its kernel, and a 3×3 convolution of that, as one: each of the stride² phases of
// the output has filters of its own over the 2×2, 2×1, 1×2 or 1×1 pixels of x that its 3×3 neighbours lie in (src/ops/polyphase.rs).
// Phase by phase a product of patches and filters on tensor cores, as conv.cu.
//
//   x     [batch, height, width, channels]                          f16
//   w     phase by phase [outputs, rows, columns, channels]         f16, of its window
//   bias  [phases, 4, outputs]                                      f32; 1 of 4: the window's rows reach over the map's border; 2:
//                                                                   its columns do
//   out   [batch, height · stride, width · stride, outputs]         f16; sums in f32
//
// Needs: channels a multiple of 8, x aligned to 16 bytes and of less than 2^34 values. A stride of at least 2.
// Launch: grid (⌈outputs / BLOCK_N⌉ · ⌈batch · height · width / BLOCK_M⌉, 1, stride²): phases of four pixels first, since their
// blocks take longest, then those of two.
//
// Cost: 2 · pixels of x · outputs · (stride + 2)² · channels FLOP, whole tiles charged; reads x a few times, from caches but for the
// first, w once a tile of rows, writes out.
//
// Mutants: 25 pixel before the window, 26 filters of another phase, 27 border of rows, 28 border of columns, 29 row of the output,
// 30 column of the output, 31 columns' border at the other end.

#include "patches.cuh"

struct PolyphaseParams {
    const half* x;
    const half* w;
    Epilogue epilogue; // columns: outputs
    uint32_t height, width, channels, stride;
};

// Along one axis of the output.
struct Phase {
    uint32_t at;
    uint32_t count; // of input rows, or columns, that it sees
    bool is_before; // the first of them lies before its own

    __device__ __forceinline__ Phase(uint32_t at, uint32_t stride)
        : at(at), count(at == 0 || at == stride - 1 ? 2 : 1), is_before(at == 0) {}

    // Input rows that earlier phases see.
    __device__ __forceinline__ uint32_t before() const { return at == 0 ? 0 : at + 1; }

    __device__ __forceinline__ bool is_over(uint32_t row, uint32_t side) const {
        return count == 2 && row == (is_before ? 0 : side - 1);
    }
};

// The phases in the order of their work.
struct Phases {
    Phase row, column;

    __device__ __forceinline__ Phases(uint32_t number, uint32_t stride)
        : row(place(number, stride, false), stride), column(place(number, stride, true), stride) {}

    static __device__ __forceinline__ uint32_t place(uint32_t number, uint32_t stride, bool of_columns) {
        const uint32_t last = stride - 1, between = stride - 2;
        if (number < 4) return (of_columns ? number % 2 : number / 2) * last;
        number -= 4;
        if (number < 4 * between) {
            // Sides above, below, left, right.
            const uint32_t side = number / between, along = 1 + number % between;
            return (side < 2) == of_columns ? along : side % 2 * last;
        }
        number -= 4 * between;
        return 1 + (of_columns ? number % between : number / between);
    }
};

struct PhaseEpilogue : Epilogue {
    const float* own; // the phase's bias
    uint32_t height, width, stride;
    Phase row_phase, column_phase;

    __device__ __forceinline__ PhaseEpilogue(const PolyphaseParams& p, const Phases& phases)
        : Epilogue(p.epilogue), own(bias + (phases.row.at * p.stride + phases.column.at) * 4 * columns), height(p.height),
          width(p.width), stride(p.stride), row_phase(phases.row), column_phase(phases.column) {}

    __device__ __forceinline__ void place(uint32_t row, uint32_t column, const float*& from, size_t& at) const {
        // Lines of all batch items.
        const uint32_t line = row / width, x = row - line * width, y = line % height;
        const uint32_t over_rows = row_phase.is_over(y, height) && !mutant(27) ? 1 : 0;
        const bool over = mutant(31) ? column_phase.is_over(width - 1 - x, width) : column_phase.is_over(x, width);
        const uint32_t over_columns = over && !mutant(28) ? 2 : 0;
        from = own + (over_rows + over_columns) * columns + column;
        const uint32_t to_line = line * stride + (mutant(29) ? column_phase : row_phase).at;
        const uint32_t to = x * stride + (mutant(30) ? row_phase : column_phase).at;
        at = (static_cast<size_t>(to_line) * (width * stride) + to) * columns + column;
    }

    __device__ __forceinline__ void store4(uint32_t item, uint32_t row, uint32_t column, float4 v) const {
        const float* from;
        size_t at;
        place(row, column, from, at);
        put4(from, item, row, column, v, [=] { return at; });
    }

    __device__ __forceinline__ void store1(uint32_t item, uint32_t row, uint32_t column, float v) const {
        const float* from;
        size_t at;
        place(row, column, from, at);
        put1(from, item, row, column, v, [=] { return at; });
    }
};

template <typename S>
__device__ __forceinline__ void polyphase(const PolyphaseParams& p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t outputs = p.epilogue.columns, column_tiles = ceil_div(outputs, S::BLOCK_N);
    const int block_row = blockIdx.x / column_tiles * S::BLOCK_M, block_column = blockIdx.x % column_tiles * S::BLOCK_N;
    const Phases phases(blockIdx.z, p.stride);
    const Phase &row = phases.row, &column = phases.column;
    const uint32_t depth = row.count * column.count * p.channels;
    const uint32_t taps = row.before() * (p.stride + 2) + row.count * (mutant(26) ? column.at : column.before());

    const PatchSource source = {p.x,       p.height, p.width,
                                p.channels, row.count, column.count,
                                1,         row.is_before && !mutant(25) ? 1u : 0u, column.is_before ? 1u : 0u,
                                p.height,  p.width};
    PatchLoader<S, S::BLOCK_M, true> load_a(source, block_row, p.epilogue.rows, 0);
    const half* w = p.w + static_cast<size_t>(taps) * outputs * p.channels;
    RowLoader<S, S::BLOCK_N> load_b(w, block_column, outputs, depth, depth, 0);
    Sums<S> sum;
    gemm_mainloop<S>(sum, load_a, load_b, ceil_div(depth, S::BLOCK_K), ptx::shared_address(shared), Unchanged());
    store<S>(sum, shared, PhaseEpilogue(p, phases), 0, block_row, block_column);
}

extern "C" {

#define KERNEL(NAME, TILE)                                                                           \
    SPEC(NAME, tiles<TILE>())                                                                        \
    __global__ void __launch_bounds__(TILE::THREADS, 2) NAME(const __grid_constant__ PolyphaseParams p) { \
        begin_kernel();                                                                              \
        polyphase<TILE>(p);                                                                          \
    }

KERNEL(polyphase_128x128, T128x128)
KERNEL(polyphase_128x64, T128x64)
KERNEL(polyphase_64x64, T64x64)

}
