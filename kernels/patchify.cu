// A photo, resized (bilinear, edges aligned, no antialias), normalised, and cut into the patches that the patch embedding
// multiplies (ViT, Dosovitskiy et al., 2010.11929); a patch of one pixel is the image itself.
//
//   photo  [batch, photo_height, photo_width, 3]          u8
//   out    [batch, height, width, patch · patch · 3]      f16, a patch's values ordered (row, column, colour)
//   out = (photo / 255 − mean) / std, as photo · scale + shift
//
// Needs: photo aligned to 4 bytes, its memory up to the next multiple of 4; `columns` at most COLUMNS, and so few that the
// photo's pixels under them fit in LINE_BYTES. patchify_pairs: patch and columns even, out aligned to 4 bytes.
// Launch: grid (segments · height · patch · batch): a block `columns` pixels of one row of the resized photo.
//
// The two rows of the photo come to shared memory in whole words; where a column falls among their pixels is worked out once
// for all colours and kept beside them.
// Cost: about 20 FLOP a value; reads the photo about once (a row again from L2 for the rows around it), writes 2 bytes a value.
//
// Mutants: 1 barrier, 2 the neighbour below is the same row, 3 colours swapped, 4 a word too few, 5 the right neighbour is the
// left one.

#include "bilinear.cuh"

struct PatchifyParams {
    const uint8_t* photo;
    half* out;
    uint32_t photo_height, photo_width;
    uint32_t height, width, patch;
    uint32_t columns, segments;
    float scale[3], shift[3];
    uint32_t padding;
};

constexpr int THREADS = 256;
constexpr int COLUMNS = 512;
constexpr int LINE_BYTES = 4096;

// A part of one of the photo's rows.
struct Line {
    uint32_t words[LINE_BYTES / 4];

    // Brings `count` bytes from `from` on; returns where the first of them is.
    __device__ __forceinline__ uint32_t load(const uint8_t* from, uint32_t count) {
        const uint32_t skew = reinterpret_cast<uintptr_t>(from) % 4;
        const uint32_t* source = reinterpret_cast<const uint32_t*>(from - skew);
        const uint32_t end = skew + count;
        for (uint32_t i = threadIdx.x; i < (end + (mutant(4) ? 0 : 3)) / 4; i += THREADS) {
            if (4 * i + 4 <= end) {
                words[i] = source[i];
            } else {
                // What lies behind the photo's last byte is nobody's.
                for (uint32_t byte = 4 * i; byte < end; byte++)
                    reinterpret_cast<uint8_t*>(words)[byte] = (from - skew)[byte];
            }
        }
        return skew;
    }

    __device__ __forceinline__ float at(uint32_t byte) const {
        return static_cast<float>(reinterpret_cast<const uint8_t*>(words)[byte]);
    }
};

// VALUES neighbours a thread and store.
template <int VALUES>
__device__ __forceinline__ void patchify(const PatchifyParams& p) {
    __shared__ Line lines[2];
    // Of every column: its two pixels' bytes (the right one's in the upper half), its weight, its place in a row of patches.
    __shared__ uint32_t pixels[COLUMNS], places[COLUMNS];
    __shared__ float weights[COLUMNS];

    const uint32_t all_columns = p.width * p.patch, all_rows = p.height * p.patch;
    const uint32_t first = blockIdx.x % p.segments * p.columns, count = min(p.columns, all_columns - first);
    const uint32_t row = blockIdx.x / p.segments % all_rows, item = blockIdx.x / p.segments / all_rows;

    const Pair y = edges(row, p.photo_height, all_rows);
    const uint32_t left = edges(first, p.photo_width, all_columns).low;
    const uint32_t bytes = (edges(first + count - 1, p.photo_width, all_columns).high + 1 - left) * 3;
    const uint8_t* top = p.photo + ((static_cast<size_t>(item) * p.photo_height + y.low) * p.photo_width + left) * 3;
    const bool two = y.t > 0.0f && y.high > y.low && !mutant(2);
    const uint32_t upper = lines[0].load(top, bytes);
    const uint32_t lower = two ? lines[1].load(top + static_cast<size_t>(p.photo_width) * 3, bytes) : upper;
    const Line &above = lines[0], &below = lines[two ? 1 : 0];
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        const uint32_t column = first + i;
        const Pair x = edges(column, p.photo_width, all_columns);
        pixels[i] = (x.low - left) * 3 | ((mutant(5) ? x.low : x.high) - left) * 3 << 16;
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
            const uint32_t low = pixels[i] % 65536 + c, high = pixels[i] / 65536 + c;
            const Pair x = {low, high, weights[i]};
            const float colour = y.between(x.between(above.at(upper + low), above.at(upper + high)),
                                           x.between(below.at(lower + low), below.at(lower + high)));
            const float scale = c == 0 ? p.scale[0] : c == 1 ? p.scale[1] : p.scale[2];
            const float shift = c == 0 ? p.shift[0] : c == 1 ? p.shift[1] : p.shift[2];
            result[j] = __float2half_rn(fmaf(colour, scale, shift));
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

extern "C" {

SPEC(patchify_pairs, declared<2>().variant(variant::PAIRS))
__global__ void __launch_bounds__(THREADS) patchify_pairs(const __grid_constant__ PatchifyParams p) {
    patchify<2>(p);
}

SPEC(patchify_single, declared<1>())
__global__ void __launch_bounds__(THREADS) patchify_single(const __grid_constant__ PatchifyParams p) {
    patchify<1>(p);
}

}
