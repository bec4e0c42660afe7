// What windows of several scales have summed up, resized and added: some rows of the whole photo's map.
//
//   sums            [pixels, channels]                f32
//   rows            [scales, height, 2]               u32, the first pixels of the rows of a scale's sums that a row sees
//   row_weights     [scales, height, 2]               f32
//   columns         [scales, width, 2]                u32, how far behind those the columns lie that a column sees
//   column_weights  [scales, width, 2]                f32
//   out             [height, width, channels]         f32
//
// Values without weight count for nothing, whatever they are.
// Needs: columns that do not go back along a row; `columns` of them see at most ROOM / `piece` columns of any scale, and
// `columns` · `piece`, which counts in whole warps where
// it is more than 32, at most THREADS · EACH.
// Launch: grid (⌈width / columns⌉, height, ⌈channels / piece⌉): a block `columns` pixels of a row, of each `piece` channels. Scale by
// scale it blends the two rows of sums that they see into shared memory, and from there their columns; its values stay in registers.
// Cost: 8 FLOP a scale and value; reads the sums that it sees twice (from caches but once), writes 4 bytes a value.
//
// Mutants: 1 barrier before the line is read, 2 barrier before it is written again, 3 the second row, 4 the second column, 5 the first
// scale's columns for all, 6 values without weight in a row count, 7 in a column, 8 the first piece's channels for all.

#include "common.cuh"

struct MergeScalesParams {
    const float* sums;
    const uint2* rows;
    const float2* row_weights;
    const uint2* columns;
    const float2* column_weights;
    float* out;
    uint32_t scales, height, width, channels;
    uint32_t columns_of_block, piece;
};

constexpr int THREADS = 256, EACH = 8;
// Values of the blended row.
constexpr uint32_t ROOM = 6144;

// Weight 0 makes nothing of anything.
__device__ __forceinline__ float weighted(float weight, float value, bool always) {
    return weight != 0.0f || always ? weight * value : 0.0f;
}

SPEC(merge_scales, Spec().columns(THREADS * EACH).room(ROOM))
extern "C" __global__ void __launch_bounds__(THREADS) merge_scales(const __grid_constant__ MergeScalesParams p) {
    begin_kernel();
    __shared__ float line[ROOM];
    const uint32_t begin = blockIdx.x * p.columns_of_block, count = min(p.columns_of_block, p.width - begin), row = blockIdx.y;
    const uint32_t channel = mutant(8) ? 0 : blockIdx.z * p.piece, piece = min(p.piece, p.channels - channel);
    const size_t to = (static_cast<size_t>(row) * p.width + begin) * p.channels + channel;
    // Of more channels than lanes no warp takes two columns, which may see one pixel: banks would collide.
    const uint32_t lanes = p.piece > 32 ? ceil_div(p.piece, 32) * 32 : p.piece;
    float values[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) values[e] = 0.0f;

    for (uint32_t scale = 0; scale < p.scales; scale++) {
        const size_t of_row = static_cast<size_t>(scale) * p.height + row;
        const size_t of_column = static_cast<size_t>(mutant(5) ? 0 : scale) * p.width + begin;
        const uint2 rows = p.rows[of_row];
        const float2 row_weights = p.row_weights[of_row];
        const uint32_t seen_first = p.columns[of_column].x, seen = p.columns[of_column + count - 1].y + 1 - seen_first;
        const size_t first = (static_cast<size_t>(rows.x) + seen_first) * p.channels + channel;
        const float* top = p.sums + first;
        const float* bottom = p.sums + (static_cast<size_t>(rows.y) + seen_first) * p.channels + channel;
        // Warps begin at whole sectors.
        const uint32_t skew = first % 8;
        for (uint32_t i = threadIdx.x; i < seen * piece + skew; i += THREADS) {
            if (i < skew) continue;
            const size_t at = static_cast<size_t>((i - skew) / piece) * p.channels + (i - skew) % piece;
            const float low = weighted(row_weights.x, top[at], mutant(6));
            line[i - skew] = low + (mutant(3) ? 0.0f : weighted(row_weights.y, bottom[at], mutant(6)));
        }
        if (!mutant(1)) __syncthreads();
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const uint32_t i = threadIdx.x + e * THREADS, column = i / lanes, k = i % lanes;
            if (column >= count || k >= piece) continue;
            const uint2 columns = p.columns[of_column + column];
            const float2 weights = p.column_weights[of_column + column];
            values[e] += weighted(weights.x, line[(columns.x - seen_first) * piece + k], mutant(7));
            if (!mutant(4)) values[e] += weighted(weights.y, line[(columns.y - seen_first) * piece + k], mutant(7));
        }
        if (!mutant(2)) __syncthreads();
    }
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const uint32_t i = threadIdx.x + e * THREADS, column = i / lanes, k = i % lanes;
        if (column < count && k < piece) p.out[to + static_cast<size_t>(column) * p.channels + k] = values[e];
    }
}
