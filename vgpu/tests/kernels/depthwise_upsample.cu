// Two passes over maps whose channels lie side by side (NHWC, f16), computed in f32 and rounded once.
//
//   depthwise   out [batch, height, width, channels] = 3×3 around each pixel of x (zeros outside), a kernel a channel
//               x as out; weights [3, 3, channels] f16; bias [channels] f32
//   upsample    out [batch, 2·height, 2·width, channels] = x twice as large, bilinear, corners on corners
//               x [batch, height, width, channels]
//
// Needs: channels a multiple of 8; every pointer aligned to 16 bytes. Height and width: any from 1 on.
// Launch: depthwise   128 threads, grid (⌈width / 16⌉·⌈height / 8⌉, ⌈channels / 64⌉, batch)
//         upsample    256 threads, grid (⌈2·width·channels / 8 / 256⌉, 2·height, batch)
//
// Cost, of n = batch·height·width·channels: depthwise 18·n FLOP, reads 2·n bytes (each tile its rim of one pixel again, a
// factor of 1.4, mostly from L2), writes 2·n. Upsample 24·n FLOP, reads 2·n bytes (each four times, from L1), writes 8·n.
// Both are bound by memory.

#include "common.cuh"

// Eight channels.
struct Channels {
    float v[CHUNK];

    static __device__ __forceinline__ Channels from_halves(uint4 bits) {
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
        Channels c;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 pair = __half22float2(*reinterpret_cast<const half2*>(&words[i]));
            c.v[2 * i] = pair.x;
            c.v[2 * i + 1] = pair.y;
        }
        return c;
    }

    static __device__ __forceinline__ Channels from_floats(const float* p) {
        const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
        return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    }

    __device__ __forceinline__ uint4 to_halves() const {
        return make_uint4(ptx::pack_half2(v[0], v[1]), ptx::pack_half2(v[2], v[3]), ptx::pack_half2(v[4], v[5]),
                          ptx::pack_half2(v[6], v[7]));
    }
};

namespace depthwise_tile {
constexpr int WIDTH = 16, HEIGHT = 8, CHUNKS = 8; // of results: pixels, and chunks of channels
constexpr int THREADS = WIDTH * CHUNKS;           // a thread a column and chunk
constexpr int RIM_WIDTH = WIDTH + 2, RIM_HEIGHT = HEIGHT + 2;
}

extern "C" __global__ void __launch_bounds__(depthwise_tile::THREADS, 3)
depthwise(const half* __restrict__ x, const half* __restrict__ weights, const float* __restrict__ bias,
          half* __restrict__ out, int height, int width, int channels) {
    using namespace depthwise_tile;
    __shared__ uint4 tile[RIM_HEIGHT][RIM_WIDTH][CHUNKS];

    const int tiles_across = ceil_div(width, WIDTH);
    const int first_x = blockIdx.x % tiles_across * WIDTH, first_y = blockIdx.x / tiles_across * HEIGHT;
    const int first_channel = blockIdx.y * CHUNKS * CHUNK;
    const size_t image = static_cast<size_t>(blockIdx.z) * height * width * channels;

    for (int i = threadIdx.x; i < RIM_HEIGHT * RIM_WIDTH * CHUNKS; i += THREADS) {
        const int chunk = i % CHUNKS, column = i / CHUNKS % RIM_WIDTH, row = i / CHUNKS / RIM_WIDTH;
        const int px = first_x + column - 1, py = first_y + row - 1, channel = first_channel + chunk * CHUNK;
        const bool inside = ((px >= 0 && px < width) || mutant(1)) && ((py >= 0 && py < height) || mutant(2)) &&
                            channel < channels;
        const half* from =
            inside ? x + static_cast<ptrdiff_t>(image) + (static_cast<ptrdiff_t>(py) * width + px) * channels + channel : x;
        ptx::cp_async_16(ptx::shared_address(&tile[row][column][chunk]), from, inside);
    }
    ptx::cp_async_commit();

    const int chunk = threadIdx.x % CHUNKS, column = threadIdx.x / CHUNKS;
    const int channel = first_channel + chunk * CHUNK;
    Channels weight[3][3] = {}, start = {};
    if (channel < channels) {
        start = Channels::from_floats(bias + channel);
#pragma unroll
        for (int tap = 0; tap < 9; tap++)
            weight[tap / 3][tap % 3] =
                Channels::from_halves(*reinterpret_cast<const uint4*>(weights + tap * channels + channel));
    }
    if (!mutant(3)) ptx::cp_async_wait<0>();
    if (!mutant(4)) __syncthreads();

    // Down the column: each row of the tile is read once and adds to the three results that it touches.
    Channels sum[3];
#pragma unroll
    for (int row = 0; row < RIM_HEIGHT; row++) {
        sum[row % 3] = start;
#pragma unroll
        for (int dx = 0; dx < 3; dx++) {
            const Channels v = Channels::from_halves(tile[row][column + dx][chunk]);
#pragma unroll
            for (int dy = 0; dy < 3; dy++)
                if (dy <= row)
#pragma unroll
                    for (int c = 0; c < CHUNK; c++)
                        sum[(row - dy) % 3].v[c] = fmaf(v.v[c], weight[dy][dx].v[c], sum[(row - dy) % 3].v[c]);
        }
        if (row < 2) continue;
        const int px = first_x + column, py = first_y + row - 2;
        if ((px < width || mutant(5)) && (py < height || mutant(6)) && channel < channels)
            *reinterpret_cast<uint4*>(out + image + (static_cast<size_t>(py) * width + px) * channels + channel) =
                sum[(row - 2) % 3].to_halves();
    }
}

// Where a result lies between two pixels of a line of `length`.
struct Between {
    int before, after;
    float share; // of `after`

    __device__ __forceinline__ Between(int position, int length) {
        const float at = position * (static_cast<float>(length - 1) / static_cast<float>(2 * length - 1));
        before = min(static_cast<int>(at), length - 1);
        after = mutant(8) ? before + 1 : min(before + 1, length - 1);
        share = at - before;
    }
};

extern "C" __global__ void __launch_bounds__(256)
upsample(const half* __restrict__ x, half* __restrict__ out, int height, int width, int channels) {
    const int chunks = channels / CHUNK, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= 2 * width * chunks && !mutant(7)) return;
    const int chunk = i % chunks, px = i / chunks, py = blockIdx.y;
    const Between across(px, width), down(py, height);
    const uint4* image = reinterpret_cast<const uint4*>(x) + static_cast<size_t>(blockIdx.z) * height * width * chunks;
    auto pixel = [&](int row, int column) {
        return Channels::from_halves(__ldg(image + (static_cast<size_t>(row) * width + column) * chunks + chunk));
    };
    const Channels a = pixel(down.before, across.before), b = pixel(down.before, across.after);
    const Channels c = pixel(down.after, across.before), d = pixel(down.after, across.after);
    Channels result;
#pragma unroll
    for (int k = 0; k < CHUNK; k++) {
        const float upper = fmaf(across.share, b.v[k] - a.v[k], a.v[k]);
        const float lower = fmaf(across.share, d.v[k] - c.v[k], c.v[k]);
        result.v[k] = fmaf(down.share, lower - upper, upper);
    }
    reinterpret_cast<uint4*>(out)[((static_cast<size_t>(blockIdx.z) * 2 * height + py) * 2 * width + px) * chunks + chunk] =
        result.to_halves();
}
