// Windows of a photo, normalised, and cut into the patches that the patch embedding multiplies: each value is taken from the photo's
// own pixels, of which a row and a column of a window see up to TAPS on their axis, with weights. Those are the host's, and in them
// the window's size and place, its padding (no weights: black) and whether it is mirrored.
//
//   photo    [photo_height, photo_width, 3]                      u8
//   seen     [batch, rows + columns, TAPS]                       u32, of the rows, then of the columns
//   weights  [batch, rows + columns, TAPS]                       f32
//   out      [batch, height, width, patch · patch · 3]           f16, a patch's values ordered (row, column, colour)
//   out = (colour − mean) / std, as colour · scale + shift; the colours are 0 … 255
//
// Needs: photo as line.cuh; places inside the photo, which along the columns go one way or stay; `columns` at most COLUMNS, and so
// few that the pixels under them fit in LINE_BYTES.
// Launch: grid (segments · rows · batch): a block `columns` pixels of one row of a window.
//
// The rows of the photo that it sees come to shared memory in whole words, the columns' places and weights beside them.
// Cost: with two taps an axis about 20 FLOP a value; reads the photo about once (a row again from L2 for the rows around it), writes 2
// bytes a value.
//
// Mutants: 1 barrier, 2 every item's places are the first's, 3 the second tap of columns, 4 the last tap of rows, 5 colours swapped,
// 6 mirrored columns begin where the others do, 7 the rows' weights for columns.

#include "line.cuh"

constexpr int TAPS = 4;

struct CutWindowsParams {
    const uint8_t* photo;
    const uint4* seen;
    const float4* weights;
    half* out;
    uint32_t photo_width;
    uint32_t height, width, patch;
    uint32_t columns, segments;
    float scale[3], shift[3];
};

constexpr int COLUMNS = 256;

// Of four.
template <typename Four, typename T>
__device__ __forceinline__ void each(const Four& four, T (&values)[TAPS]) {
    values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
}

SPEC(cut_windows, Spec().rows(1).columns(COLUMNS).room(LINE_BYTES))
extern "C" __global__ void __launch_bounds__(THREADS) cut_windows(const __grid_constant__ CutWindowsParams p) {
    begin_kernel();
    __shared__ Line lines[TAPS];
    // Of every column: its pixels' bytes in a line, their weights.
    __shared__ uint32_t places[TAPS][COLUMNS];
    __shared__ float weights[TAPS][COLUMNS];

    const uint32_t all_columns = p.width * p.patch, all_rows = p.height * p.patch;
    const uint32_t first = blockIdx.x % p.segments * p.columns, count = min(p.columns, all_columns - first);
    const uint32_t row = blockIdx.x / p.segments % all_rows, item = blockIdx.x / p.segments / all_rows;
    const size_t tables = (mutant(2) ? 0 : item) * static_cast<size_t>(all_rows + all_columns);
    const uint4* seen = p.seen + tables;
    const float4* weighted = p.weights + tables;

    uint32_t rows[TAPS], begin[TAPS];
    float row_weights[TAPS];
    each(seen[row], rows);
    each(weighted[row], row_weights);
    uint32_t left = 0xffffffff, right = 0;
    for (uint32_t end = 0; end < (mutant(6) ? 1 : 2); end++) {
        uint32_t of_end[TAPS];
        each(seen[all_rows + first + (end == 0 ? 0 : count - 1)], of_end);
#pragma unroll
        for (int k = 0; k < TAPS; k++) left = min(left, of_end[k]), right = max(right, of_end[k]);
    }
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        begin[k] = 0;
        if (row_weights[k] != 0.0f) {
            const uint8_t* from = p.photo + (static_cast<size_t>(rows[k]) * p.photo_width + left) * 3;
            begin[k] = lines[k].load(from, (right + 1 - left) * 3);
        }
    }
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        uint32_t of_column[TAPS];
        float of_weights[TAPS];
        each(seen[all_rows + first + i], of_column);
        each(weighted[(mutant(7) ? 0 : all_rows) + first + i], of_weights);
#pragma unroll
        for (int k = 0; k < TAPS; k++) places[k][i] = (of_column[k] - left) * 3, weights[k][i] = of_weights[k];
    }
    if (!mutant(1)) __syncthreads();

    half* out = p.out + ((static_cast<size_t>(item) * p.height + row / p.patch) * p.width * p.patch + row % p.patch) * p.patch * 3;
    for (uint32_t value = threadIdx.x; value < count * 3; value += THREADS) {
        const uint32_t i = value / 3, c = mutant(5) ? 2 - value % 3 : value % 3, column = first + i;
        float colour = 0.0f;
#pragma unroll
        for (int k = 0; k < TAPS; k++) {
            const float weight = weights[k][i];
            if (weight == 0.0f || (mutant(3) && k == 1)) continue;
#pragma unroll
            for (int j = 0; j < TAPS; j++) {
                if (row_weights[j] != 0.0f && !(mutant(4) && j == TAPS - 1))
                    colour += weight * row_weights[j] * lines[j].at(begin[j] + places[k][i] + c);
            }
        }
        const uint32_t place = (column / p.patch * p.patch * p.patch + column % p.patch) * 3 + value % 3;
        out[place] = __float2half_rn(fmaf(colour, of_colour(p.scale, c), of_colour(p.shift, c)));
    }
}
