// A photo, resized (bilinear, edges aligned, no antialias), normalised, and cut into the patches that the patch embedding
// multiplies (ViT, Dosovitskiy et al., 2010.11929); a patch of one pixel is the image itself.
//
//   photo  of any format of photo.cuh
//   out    [batch, height, width, patch · patch · 3]      f16, a patch's values ordered (row, column, colour)
//   out = (colour − mean) / std, as colour · scale + shift; the colours of bytes are 0 … 255
//
// Needs: photo as photo.cuh; `columns` at most COLUMNS, and so few that the photo's pixels under them fit in LINE_BYTES.
// …_pairs: patch and columns even, out aligned to 4 bytes.
// Launch: grid (segments · height · patch · batch): a block `columns` pixels of one row of the resized photo.
//
// The two rows of the photo come to shared memory in whole words; where a column falls among their pixels is worked out once
// for all colours and kept beside them.
// Cost: about 20 FLOP a value, of luma and chroma 50; reads the photo about once (a row again from L2 for the rows around it), writes 2
// bytes a value.
//
// Mutants: 1 barrier, 2 the neighbour below is the same row, 3 colours swapped, 4 the right neighbour is the left one.

#include "bilinear.cuh"
#include "photo.cuh"

struct PatchifyParams {
    const uint8_t* photo;
    half* out;
    uint32_t photo_height, photo_width;
    uint32_t height, width, patch;
    uint32_t columns, segments;
    float scale[3], shift[3];
    uint32_t padding;
};

// The same of a photo that is not rgb8.
struct FormatParams : PatchifyParams {
    Format format;
};

constexpr int COLUMNS = 512;

// VALUES neighbours a thread and store.
template <int VALUES, typename Source, typename Params>
__device__ __forceinline__ void patchify(const Params& p) {
    __shared__ Line lines[2 * Source::LINES];
    // Of every column: its two pixels' places (the right one's in the upper half), its weight, its place in a row of patches.
    __shared__ uint32_t pixels[COLUMNS], places[COLUMNS];
    __shared__ float weights[COLUMNS];

    const uint32_t all_columns = p.width * p.patch, all_rows = p.height * p.patch;
    const uint32_t first = blockIdx.x % p.segments * p.columns, count = min(p.columns, all_columns - first);
    const uint32_t row = blockIdx.x / p.segments % all_rows, item = blockIdx.x / p.segments / all_rows;

    const Source source(p);
    const Pair y = edges(row, p.photo_height, all_rows);
    const uint32_t left = edges(first, p.photo_width, all_columns).low / Source::SHARING * Source::SHARING;
    const uint32_t seen = edges(first + count - 1, p.photo_width, all_columns).high + 1 - left;
    const bool two = y.t > 0.0f && y.high > y.low && !mutant(2);
    const auto above = source.load(lines, item, y.low, left, seen);
    const auto below = two ? source.load(lines + Source::LINES, item, y.low + 1, left, seen) : above;
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        const uint32_t column = first + i;
        const Pair x = edges(column, p.photo_width, all_columns);
        pixels[i] = source.place(x.low - left) | source.place((mutant(4) ? x.low : x.high) - left) << 16;
        weights[i] = x.t;
        places[i] = (column / p.patch * p.patch * p.patch + column % p.patch) * 3;
    }
    if (!mutant(1)) __syncthreads();

    half* out = p.out + ((static_cast<size_t>(item) * p.height + row / p.patch) * p.width * p.patch + row % p.patch) * p.patch * 3;
    for (uint32_t value = threadIdx.x * VALUES; value < count * 3; value += THREADS * VALUES) {
        half result[VALUES];
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            const uint32_t i = (value + j) / 3, c = mutant(3) ? 2 - (value + j) % 3 : (value + j) % 3;
            const uint32_t low = pixels[i] % 65536, high = pixels[i] / 65536;
            const Pair x = {low, high, weights[i]};
            const float colour = y.between(x.between(source.at(above, low, c), source.at(above, high, c)),
                                           x.between(source.at(below, low, c), source.at(below, high, c)));
            result[j] = __float2half_rn(fmaf(colour, of_colour(p.scale, c), of_colour(p.shift, c)));
        }
        half* to = out + places[value / 3] + value % 3;
        if constexpr (VALUES == 2) {
            *reinterpret_cast<half2*>(to) = make_half2(result[0], result[1]);
        } else {
            *to = result[0];
        }
    }
}

template <int VALUES>
constexpr Spec declared() {
    return Spec().rows(1).columns(COLUMNS).step(VALUES).room(LINE_BYTES);
}

#define KERNELS(pairs, single, Source, Params, ...)                                                            \
    SPEC(pairs, declared<2>().variant(variant::PAIRS))                                                        \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) pairs(const __grid_constant__ Params p) {       \
        begin_kernel();                                                                                       \
        patchify<2, Source>(p);                                                                               \
    }                                                                                                         \
    SPEC(single, declared<1>())                                                                               \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) single(const __grid_constant__ Params p) {      \
        begin_kernel();                                                                                       \
        patchify<1, Source>(p);                                                                               \
    }

KERNELS(patchify_pairs, patchify_single, Rgb8, PatchifyParams, THREADS)
// ptxas would spill registers for more blocks at a time than these 4.
KERNELS(patchify_bytes_pairs, patchify_bytes_single, Bytes, FormatParams, THREADS, 4)
KERNELS(patchify_nv12_pairs, patchify_nv12_single, Nv12, FormatParams, THREADS, 4)
KERNELS(patchify_yuyv_pairs, patchify_yuyv_single, Yuyv, FormatParams, THREADS, 4)
KERNELS(patchify_float_pairs, patchify_float_single, Planes<float>, FormatParams, THREADS, 4)
KERNELS(patchify_half_pairs, patchify_half_single, Planes<half>, FormatParams, THREADS, 4)
