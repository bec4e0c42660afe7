// A window's map, added to sums where the window lies: as it is, or upsampled ×2 (bilinear, corners aligned).
//
//   sums    [pixels, channels]                    f32, of which the place names a region of `width` pixels a row
//   map     [height, width, channels]             f32, or f16 (…_half), one window's
//   place                                         Place of src/ops/add_window.rs
//
// Rows of the region are a ring: a window that goes past its last row goes on in the first. Where no window was added before, the
// map's values are stored, so that nobody need make the sums 0.
// Needs: rows and columns of the place within the window and the region; `columns` pixels see at most ROOM / `piece` of the map.
// Launch: grid (⌈columns of the window / columns⌉, rows of the window, ⌈channels / piece⌉): a block `columns` pixels of a row, of each
// `piece` channels. It blends the two rows of the map that they see into shared memory, and from there their columns.
// Cost: 8 FLOP a value; reads the map about twice (from caches but once), reads and writes 4 bytes a value of the sums.
//
// Mutants: 1 barrier, 2 what is fresh is added, 3 what was covered is stored, 4 the ring's end, 5 mirrored as it is, 6 the row below,
// 7 the first piece's channels for all, 8 rows behind the last, 9 the first column that is added goes to the second place.

#include "bilinear.cuh"

struct Place {
    uint32_t base, ring, width;
    uint32_t first_row, end_row, first_column, end_column;
    uint32_t to_row, to_column, fresh_row, fresh_column, mirrored;
};

struct AddWindowParams {
    float* sums;
    const void* map;
    const Place* place;
    uint32_t height, width, channels;
    uint32_t doubled, columns, piece;
};

constexpr int THREADS = 256;
// Values of the blended row.
constexpr uint32_t ROOM = 6144;

__device__ __forceinline__ float value_of(float value) { return value; }
__device__ __forceinline__ float value_of(half value) { return __half2float(value); }

template <typename T>
__device__ __forceinline__ void add(const AddWindowParams& p) {
    __shared__ float line[ROOM];
    const Place place = *p.place;
    const uint32_t to_height = p.doubled ? 2 * p.height : p.height, to_width = p.doubled ? 2 * p.width : p.width;
    const uint32_t row = blockIdx.y, begin = max(blockIdx.x * p.columns, place.first_column);
    const uint32_t end = min((blockIdx.x + 1) * p.columns, place.end_column);
    if (row < place.first_row || (row >= place.end_row && !mutant(8)) || begin >= end) return;

    auto source = [&](uint32_t column) { return place.mirrored && !mutant(5) ? to_width - 1 - column : column; };
    auto blended = [&](uint32_t i, uint32_t from, uint32_t to) { return p.doubled ? corners(i, from, to) : Pair{i, i, 0.0f}; };
    const Pair y = blended(row, p.height, to_height);
    const Pair a = blended(source(begin), p.width, to_width), b = blended(source(end - 1), p.width, to_width);
    const uint32_t seen_first = min(a.low, b.low), seen = max(a.high, b.high) + 1 - seen_first;
    const uint32_t channel = mutant(7) ? 0 : blockIdx.z * p.piece, piece = min(p.piece, p.channels - channel);

    const size_t line_step = static_cast<size_t>(p.width) * p.channels;
    const size_t from = y.low * line_step + static_cast<size_t>(seen_first) * p.channels + channel;
    const T* top = static_cast<const T*>(p.map) + from;
    const T* bottom = top + (mutant(6) ? 0 : (y.high - y.low) * line_step);
    // Warps begin at whole sectors.
    const uint32_t skew = from % 16;
    for (uint32_t i = threadIdx.x; i < seen * piece + skew; i += THREADS) {
        if (i < skew) continue;
        const uint32_t pixel = (i - skew) / piece, at = pixel * p.channels + (i - skew) % piece;
        line[i - skew] = y.between(value_of(top[at]), value_of(bottom[at]));
    }
    if (!mutant(1)) __syncthreads();

    const uint32_t to_row = (place.to_row + row - place.first_row) % (mutant(4) ? 0xffffffff : place.ring);
    const size_t pixel = place.base + static_cast<size_t>(to_row) * place.width + place.to_column + (begin - place.first_column);
    const size_t to = (pixel + (mutant(9) ? 1 : 0)) * p.channels + channel;
    // Of more channels than lanes no warp takes two columns, which may see one pixel: banks would collide.
    const bool apart = piece > 32;
    const uint32_t lanes = apart ? ceil_div(piece + 7, 32) * 32 : piece, skewed = apart ? 0 : to % 8, count = end - begin;
    for (uint32_t i = threadIdx.x; i < count * lanes + skewed; i += THREADS) {
        const uint32_t column = (i - skewed) / lanes, k = (i - skewed) % lanes - (apart ? (to + column * p.channels) % 8 : 0);
        // Below 0 it is a large number.
        if (i < skewed || k >= piece) continue;
        const Pair x = blended(source(begin + column), p.width, to_width);
        const float value = x.between(line[(x.low - seen_first) * piece + k], line[(x.high - seen_first) * piece + k]);
        float* sum = p.sums + to + static_cast<size_t>(column) * p.channels + k;
        const bool is_fresh = row >= place.fresh_row && begin + column >= place.fresh_column;
        if (mutant(2)) {
            *sum += value;
        } else {
            *sum = is_fresh || mutant(3) ? value : *sum + value;
        }
    }
}

SPEC(add_window, Spec().room(ROOM))
extern "C" __global__ void __launch_bounds__(THREADS) add_window(const __grid_constant__ AddWindowParams p) {
    begin_kernel();
    add<float>(p);
}

SPEC(add_window_half, Spec().room(ROOM))
extern "C" __global__ void __launch_bounds__(THREADS) add_window_half(const __grid_constant__ AddWindowParams p) {
    begin_kernel();
    add<half>(p);
}
