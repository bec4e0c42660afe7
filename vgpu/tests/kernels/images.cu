// Two passes over images whose pixels are two float4 (32 bytes, a sector of memory).
//
//   filter   out [batch, height, width] = 3×3 around each pixel of `in` (zeros outside), one weight for each of the nine
//            Launch: 256 threads, grid (⌈width / 16⌉, ⌈height / 8⌉, batch)
//   enlarge  out [batch, 2·height, 2·width] = `in` twice as large, bilinear, corners on corners
//            Launch: 256 threads, grid (⌈2·width·2 / 256⌉, 2·height, batch)

#include "mutants.cuh"

constexpr int WIDTH = 16, HEIGHT = 8, THREADS = 2 * WIDTH * HEIGHT;

__device__ __forceinline__ float4 mix(float4 a, float4 b, float share) {
    return make_float4(fmaf(share, b.x - a.x, a.x), fmaf(share, b.y - a.y, a.y), fmaf(share, b.z - a.z, a.z),
                       fmaf(share, b.w - a.w, a.w));
}

extern "C" __global__ void __launch_bounds__(THREADS)
filter(const float4* in, const float* weights, float4* out, int height, int width) {
    // With a rim of one pixel.
    __shared__ float4 tile[HEIGHT + 2][WIDTH + 2][2];
    const int first_x = blockIdx.x * WIDTH, first_y = blockIdx.y * HEIGHT;
    const size_t image = static_cast<size_t>(blockIdx.z) * height * width;
    for (int i = threadIdx.x; i < (HEIGHT + 2) * (WIDTH + 2) * 2; i += THREADS) {
        const int x = first_x + i / 2 % (WIDTH + 2) - 1, y = first_y + i / 2 / (WIDTH + 2) - 1;
        const bool inside = ((x >= 0 && x < width) || mutant(1)) && ((y >= 0 && y < height) || mutant(2));
        const ptrdiff_t pixel = static_cast<ptrdiff_t>(image) + static_cast<ptrdiff_t>(y) * width + x;
        ptx::cp_async(&tile[0][0][0] + i, inside ? in + 2 * pixel + i % 2 : in, inside);
    }
    ptx::cp_async_commit();
    if (!mutant(3)) ptx::cp_async_wait<0>();
    if (!mutant(4)) __syncthreads();

    const int part = threadIdx.x % 2, column = threadIdx.x / 2 % WIDTH, row = threadIdx.x / 2 / WIDTH;
    const int x = first_x + column, y = first_y + row;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int tap = 0; tap < 9; tap++) {
        const float4 p = tile[row + tap / 3][column + tap % 3][part];
        const float w = weights[tap];
        sum = make_float4(fmaf(w, p.x, sum.x), fmaf(w, p.y, sum.y), fmaf(w, p.z, sum.z), fmaf(w, p.w, sum.w));
    }
    if ((x < width || mutant(5)) && (y < height || mutant(6)))
        out[2 * (image + static_cast<size_t>(y) * width + x) + part] = sum;
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
enlarge(const float4* __restrict__ in, float4* __restrict__ out, int height, int width) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
    if (i >= 2 * width * 2 && !mutant(7)) return;
    const Between across(i / 2, width), down(y, height);
    in += static_cast<size_t>(blockIdx.z) * height * width * 2 + i % 2;
    auto line = [&](int row) {
        const float4* from = in + static_cast<size_t>(row) * width * 2;
        return mix(__ldg(from + 2 * across.before), __ldg(from + 2 * across.after), across.share);
    };
    out[(static_cast<size_t>(blockIdx.z) * 2 * height + y) * 2 * width * 2 + i] =
        mix(line(down.before), line(down.after), down.share);
}
