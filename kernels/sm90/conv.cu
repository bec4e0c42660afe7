// out = func(conv(x) + bias + Σ add) on the warpgroups of compute capability 9.0: conv.cu's function in kernels of their own, where
// x passes a ReLU first in wgmma_conv_*_relu.
//
//   x     [batch, height, width, channels]          f16
//   w     [outputs, stride]                         f16 over (ky, kx, channel); finite
//   bias  [outputs]                                 f32, or none; or [16, outputs], by the map's border (conv.cuh)
//   add   [batch, out_height, out_width, outputs]   f16 or f32, up to two
//   out   the same                                  f16; sums in f32
//
// A block's rows are a rectangle of output pixels of one batch item, as wide as the host finds best. A stage of the depth is one tap
// and 64 channels: of x a box of the rectangle's pixels, `step` apart and moved by the tap. What of it lies outside of the map, or
// behind the last channel, arrives as zeros: patches are never gathered. Weights behind a tap's last channel are the next tap's, and
// meet zeros.
//
// Tensor maps, all with the 128-byte swizzle: x {channels, width, height, batch} in boxes of {64, rectangle, 1}, every `step`-th
// pixel; w {depth, outputs} in boxes of 64 × the block's columns / blocks that share them; out {outputs, out_width, out_height, batch}
// in boxes of {64, the rectangle's part of 64 pixels, 1}, of which what is outside is left out.
//
// Needs: channels and outputs multiples of 8, x and out aligned to 16 bytes; a rectangle whose sides are powers of two, ROWS pixels,
// its width at most 64, its sides · step at most 256.
// Launch: clusters of BLOCKS along x, grid (⌈outputs / COLUMNS⌉ · ⌈rectangles / CLUSTER⌉ · BLOCKS, 1, batch).
//
// Cost: 2 · pixels · outputs · kernel² · ⌈channels / 64⌉ · 64 FLOP, whole rectangles and columns charged. From the L2 cache
// kernel² · (pixels · channels / COLUMNS + outputs · channels / (ROWS · CLUSTER)) values a block.
//
// Mutants: 72 block ends before its peers, 73 added before the grid's wait, 74 row of taps not left, 75 weights of a tap behind its
// last channel, 76 padding forgotten, 77 stride forgotten, 78 first tap of a part, 79 batch item
// forgotten, 80 batch item of the results forgotten, 81 bias without border, 82 lines of another rectangle.

#include "sm90/store.cuh"

struct ConvParams {
    TensorMap x, w, out;
    Epilogue epilogue; // of a batch item
    Border border;
    uint32_t channels, kernel, step, pad;
    uint32_t out_width, out_height;
    // Of a rectangle: its width as a power of two; rectangles beside each other and below each other.
    uint32_t width_log2, across, down;
    uint32_t padding;
};

// A tap and 64 of its channels.
struct Tap {
    int x, y, channel;
    int weight; // where they begin in w's depth
};

// A producer counts taps, for which it needs more registers than one of a matrix.
template <int GROUPS, int COLUMNS, int CLUSTER = 1, int PARTS = 1, Input INPUT = Input::HALVES>
using PatchShape = Shape<GROUPS, COLUMNS, CLUSTER, PARTS, INPUT, 40>;

// Pixels of a rectangle, and the patches that they are sums of.
template <typename S>
struct Pixels {
    static constexpr bool ADDS = true, FLOATS = false;
    using Step = Tap;

    const Place<S>& place;
    const ConvParams& p;
    int x, y; // the rectangle's first pixel

    __device__ __forceinline__ Pixels(const Place<S>& place, const ConvParams& p) : place(place), p(p) {
        const int tile_y = place.row_tile / p.across;
        x = (place.row_tile - tile_y * p.across) << p.width_log2;
        y = tile_y * (S::ROWS >> p.width_log2);
    }

    __device__ __forceinline__ Tap first() const {
        const int boxes = ceil_div(p.channels, DEPTH), tap = place.first / boxes, row = tap / p.kernel;
        const int channel = (place.first - tap * boxes) * DEPTH;
        if (mutant(78)) return {0, 0, channel, channel};
        return {static_cast<int>(tap - row * p.kernel), row, channel, static_cast<int>(tap * p.channels + channel)};
    }

    __device__ __forceinline__ void next(Tap& tap) const {
        const int channels = p.channels, kernel = p.kernel;
        tap.channel += DEPTH, tap.weight += DEPTH;
        if (tap.channel < channels) return;
        if (!mutant(75)) tap.weight += channels - tap.channel;
        tap.channel = 0;
        if (++tap.x < kernel) return;
        tap.x = 0;
        if (!mutant(74)) tap.y++;
    }

    __device__ __forceinline__ int weights(const Tap& tap) const { return tap.weight; }

    __device__ __forceinline__ void load(const Tap& tap, uint32_t to, uint32_t full, uint64_t policy) const {
        const int step = mutant(77) ? 1 : p.step, pad = mutant(76) ? 0 : p.pad, item = mutant(79) ? 0 : place.item;
        ptx::load_box(to, p.x, full, tap.channel, x * step + tap.x - pad, y * step + tap.y - pad, item, policy);
    }

    __device__ __forceinline__ int column(int of_group) const { return x + (of_group & ((1 << p.width_log2) - 1)); }

    __device__ __forceinline__ int line(int group, int of_group) const {
        const int row = group * GROUP_ROWS + of_group;
        return y + (mutant(82) ? row / 8 : row >> p.width_log2);
    }

    __device__ __forceinline__ int row(int group, int of_group) const {
        // Beside the map it is one of the next line, whose sum is left out; below the map none.
        return line(group, of_group) * static_cast<int>(p.out_width) + column(of_group);
    }

    __device__ __forceinline__ const float* bias(int group, int of_group) const {
        if (p.border.width == 0 || mutant(81)) return p.epilogue.bias;
        return p.epilogue.bias + p.border.of(column(of_group), line(group, of_group)) * p.epilogue.columns;
    }

    __device__ __forceinline__ void store(int group, uint32_t from, int column) const {
        const int line = this->line(group, 0);
        if (line < static_cast<int>(p.out_height)) ptx::store_box(p.out, from, column, x, line, mutant(80) ? 0 : place.item);
    }
};

template <typename S>
__device__ __forceinline__ void conv(const ConvParams& p) {
    extern __shared__ unsigned char shared[];
    const int row_tiles = ceil_div(p.across * p.down, S::CLUSTER), steps = p.kernel * p.kernel * ceil_div(p.channels, DEPTH);
    const Place<S> place(ptx::shared_address(shared), row_tiles, steps);
    const Pixels<S> pixels(place, p);
    prepare(place, p.x, p.w, p.out);
    if (threadIdx.x < GROUP_THREADS) {
        if constexpr (S::MOVES_REGISTERS) ptx::fewer_registers<S::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) Producer<S, Pixels<S>>{place, pixels, p.w}.run();
        __syncwarp();
        join_idle<S>();
    } else {
        if constexpr (S::MOVES_REGISTERS) ptx::more_registers<S::CONSUMER_REGISTERS>();
        const int group = threadIdx.x / GROUP_THREADS - 1;
        const Addends addends{p.epilogue, place.item};
        const Store<S, Pixels<S>> store{place, pixels, p.epilogue, group};
        float sum[S::SUMS], own[S::OWN_SUMS], added[S::ADDED];
        // What is added may be the result of the kernel before; and it may still read what is written here.
        if (!mutant(73)) ptx::grid_wait();
        if (place.owns()) store.load_early(addends, added);
        Consumer<S>{place, group}.run(sum, [&] { store.load_late(addends, added); });
        join(place, sum, own, group);
        if (place.owns()) store.run(addends, own, added);
    }
    // Peers copy into this block's stages and arrive at its barriers: it must not end before them.
    if (S::CLUSTER > 1 && S::PARTS == 1 && !mutant(72)) {
        __syncwarp();
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
}

extern "C" {

#define KERNEL(NAME, ...)                                                                                            \
    SPEC(NAME, declared<PatchShape<__VA_ARGS__>>(true))                                                              \
    __global__ void __launch_bounds__(PatchShape<__VA_ARGS__>::THREADS, PatchShape<__VA_ARGS__>::RESIDENT)           \
    NAME(const __grid_constant__ ConvParams p) {                                                                     \
        conv<PatchShape<__VA_ARGS__>>(p);                                                                            \
    }

// Groups of 64 rows, columns, blocks that share columns, parts of the depth, x.
// Mistakes are tried in these alone: they have all that there is.
KERNEL(wgmma_conv_64x64, 1, 64)
KERNEL(wgmma_conv_128x256_c2_relu, 2, 256, 2, 1, Input::RELU)
KERNEL(wgmma_conv_128x128_p2, 2, 128, 1, 2)
#if MUTANT == 0
KERNEL(wgmma_conv_128x256_c2, 2, 256, 2)
KERNEL(wgmma_conv_128x128_p2_relu, 2, 128, 1, 2, Input::RELU)
KERNEL(wgmma_conv_128x128_p6, 2, 128, 1, 6)
KERNEL(wgmma_conv_64x64_p4, 1, 64, 1, 4)
KERNEL(wgmma_conv_64x64_p4_relu, 1, 64, 1, 4, Input::RELU)
#endif

}
