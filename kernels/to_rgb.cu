// A photo of any other format as rgb8: each colour times 255 and rounded to the nearest (of two the even), no less than 0 and no more
// than 255; what is no number becomes 0.
//
//   photo  of a format of photo.cuh
//   out    [batch, height, width, 3]   u8
//
// Needs: photo as photo.cuh; out aligned to 4 bytes.  Launch: grid (segments · height · batch): a block COLUMNS pixels of one row, their
// bytes in shared memory; a thread a word of the output, of which it writes the bytes that are its block's.
// Cost: about 15 FLOP a byte; reads the photo once, writes 3 bytes a pixel.
//
// Mutants: 1 barrier, 2 a number beyond 255 keeps its last eight bits, 3 rounded down, 4 words that two blocks share are written whole,
// 5 colours in 0 … 1 as they are.

#include "photo.cuh"

struct ToRgbParams {
    const uint8_t* photo;
    uint8_t* out;
    uint32_t photo_height, photo_width;
    uint32_t segments;
    // What makes 255 of white.
    float scale;
    Format format;
};

// Even, and as many as LINE_BYTES hold of four bytes each, with those around them.
constexpr int COLUMNS = 960;
// ptxas would spill registers for more at a time.
constexpr int BLOCKS = 4;

template <typename Source>
__device__ __forceinline__ void to_rgb(const ToRgbParams& p) {
    __shared__ Line lines[Source::LINES];
    const uint32_t first = blockIdx.x % p.segments * COLUMNS, count = min(COLUMNS, p.photo_width - first);
    const uint32_t y = blockIdx.x / p.segments % p.photo_height, item = blockIdx.x / p.segments / p.photo_height;
    const Source source(p);
    const auto row = source.load(lines, item, y, first, count);
    if (!mutant(1)) __syncthreads();

    uint8_t* out = p.out + ((static_cast<size_t>(item) * p.photo_height + y) * p.photo_width + first) * 3;
    const uint32_t skew = reinterpret_cast<uintptr_t>(out) % 4, end = skew + 3 * count;
    auto byte = [&](uint32_t i) {
        const float value = source.at(row, source.place(i / 3), i % 3) * (mutant(5) ? 1.0f : p.scale);
        const float bounded = mutant(2) ? fmaxf(value, 0.0f) : fminf(fmaxf(value, 0.0f), 255.0f);
        return (mutant(3) ? __float2uint_rd(bounded) : __float2uint_rn(bounded)) & 255;
    };
    for (uint32_t word = threadIdx.x * 4; word < end; word += THREADS * 4) {
        uint32_t bytes = 0;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            if (word + i >= skew && word + i < end) bytes |= byte(word + i - skew) << 8 * i;
        uint8_t* to = out - skew + word;
        if (word >= skew && word + 4 <= end || mutant(4)) {
            *reinterpret_cast<uint32_t*>(to) = bytes;
        } else {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (word + i >= skew && word + i < end) to[i] = bytes >> 8 * i;
        }
    }
}

#define KERNEL(name, Source)                                                                            \
    SPEC(name, Spec().rows(1).columns(COLUMNS))                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) name(const __grid_constant__ ToRgbParams p) { \
        begin_kernel();                                                                                         \
        to_rgb<Source>(p);                                                                              \
    }

KERNEL(to_rgb_bytes, Bytes)
KERNEL(to_rgb_nv12, Nv12)
KERNEL(to_rgb_yuyv, Yuyv)
KERNEL(to_rgb_float, Planes<float>)
KERNEL(to_rgb_half, Planes<half>)
