// The photo tinted, in place: each channel becomes the mean, rounded down, of itself and of the colour of the pixel's label, which
// has a weight.
//
//   mask     [pixels]      u8, or u16 (`is_u16`) for more than 256 labels
//   palette  [labels, 4]   u8, red, green, blue and the colours' weight in 128ths, the same for all
//   photo    [pixels, 3]   u8; read and written, each byte by one thread
//
// Needs: all aligned to 16 bytes; the mask below `labels`, but in overlay_unlabelled, where pixels with other values stay as they are.
// Launch: grid ⌈pixels / (WARPS · PIXELS)⌉. A warp takes PIXELS pixels of
// any photos: 30 of its lanes 16 bytes of the photo each, 10 or 20 of them 16 bytes of the mask. Three lanes share a group of 16
// pixels, which are 3 chunks of the photo and 1 or 2 of the mask. Up to 32 labels' colours lie in the lanes, those of more in memory.
// Cost: reads 4 or 5 bytes a pixel, writes 3.
//
// Mutants: 1 what is left behind whole chunks is not written, 2 the second part of a group sees the first one's labels, 3 a
// part begins with a whole pixel, 4 labels that no lane holds, 5 a mean that rounds up,
// 6 bytes' parts all begin with a whole word, 7 the weight is always a half, 8 what has no label is tinted, 9 the colour of what
// has no label is looked for.

#include "common.cuh"

struct OverlayParams {
    const uint8_t* mask;
    const uint32_t* palette;
    uint8_t* photo;
    uint64_t pixels;
    uint32_t labels, is_u16;
};

constexpr int WARPS = 4, GROUPS = 10, PIXELS = 16 * GROUPS;

// 16 bytes from `at` on; zeros behind `end`. What the kernel writes as well is not for the cache of constant data.
template <bool CONSTANT>
__device__ __forceinline__ uint4 load(const uint8_t* from, size_t at, size_t end) {
    if (at + 16 <= end) {
        const uint4* chunk = reinterpret_cast<const uint4*>(from + at);
        return CONSTANT ? __ldg(chunk) : *chunk;
    }
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (at + i < end) words[i / 4] |= static_cast<uint32_t>(from[at + i]) << 8 * (i % 4);
    return make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ __forceinline__ void store(uint8_t* to, size_t at, size_t end, const uint32_t (&words)[4]) {
    if (at + 16 <= end) {
        *reinterpret_cast<uint4*>(to + at) = make_uint4(words[0], words[1], words[2], words[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (at + i < end && !mutant(1)) to[at + i] = words[i / 4] >> 8 * (i % 4);
}

// The mean of each of four bytes, b's of weight w in 128ths: two bytes at a time, each in 16 bits.
__device__ __forceinline__ uint32_t mean(uint32_t a, uint32_t b, uint32_t w) {
    constexpr uint32_t LOW = 0x00ff00ff, UP = 0x007f007f;
    const uint32_t v = 128 - w, up = mutant(5) ? UP : 0;
    const uint32_t even = (a & LOW) * v + (b & LOW) * w + up, odd = (a >> 8 & LOW) * v + (b >> 8 & LOW) * w + up;
    return (even >> 7 & LOW) | (odd >> 7 & LOW) << 8;
}

// The labels of six pixels, two a word: of a group's eight words part 0 sees 0 to 2, part 1 half of 2 to half of 5, part 2 5 to 7.
// Words 0 to 3 lie in lane 2 · group, 4 to 7 in the next.
__device__ __forceinline__ void labels_of_words(uint32_t (&labels)[6], const uint4& held, uint32_t group, uint32_t part) {
    auto of_group = [&](uint32_t word, bool second) { return __shfl_sync(0xffffffff, word, 2 * group + second); };
    const uint32_t x = of_group(held.x, part >= 1 && !(mutant(2) && part == 1)), y = of_group(held.y, part >= 1);
    const uint32_t z = of_group(held.z, part == 2), w = of_group(held.w, part == 2);
    const uint32_t pairs[3] = {
        part == 0 ? x : part == 1 ? __funnelshift_r(z, w, 16) : y,
        part == 0 ? y : part == 1 ? __funnelshift_r(w, x, 16) : z,
        part == 0 ? z : part == 1 ? __funnelshift_r(x, y, 16) : w,
    };
#pragma unroll
    for (int i = 0; i < 6; i++) labels[i] = i % 2 ? pairs[i / 2] >> 16 : pairs[i / 2] & 0xffff;
}

// The same of bytes, four a word, all of which lie in lane `group`: parts begin with byte 0, 5 and 10.
__device__ __forceinline__ void labels_of_bytes(uint32_t (&labels)[6], const uint4& held, uint32_t group, uint32_t part) {
    auto of_group = [&](uint32_t word) { return __shfl_sync(0xffffffff, word, group); };
    const uint32_t x = of_group(held.x), y = of_group(held.y), z = of_group(held.z), w = of_group(held.w);
    const uint32_t low = part == 0 ? x : part == 1 ? y : z, high = part == 0 ? y : part == 1 ? z : w;
    const uint32_t shift = mutant(6) ? 0 : 8 * part;
    const uint32_t bytes[2] = {__funnelshift_r(low, high, shift), high >> shift};
#pragma unroll
    for (int i = 0; i < 6; i++) labels[i] = bytes[i / 4] >> 8 * (i % 4) & 0xff;
}

// A lane's part of six pixels' bytes one behind the other; part 1 begins with its first pixel's second byte, part 2 with the third.
__device__ __forceinline__ void part_of_pixels(uint32_t (&words)[4], const uint32_t (&pixels)[6], uint32_t part) {
    const uint32_t bytes[5] = {
        pixels[0] | pixels[1] << 24,
        pixels[1] >> 8 | pixels[2] << 16,
        pixels[2] >> 16 | pixels[3] << 8,
        pixels[4] | pixels[5] << 24,
        pixels[5] >> 8,
    };
    const uint32_t shift = mutant(3) ? 0 : 8 * part;
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = __funnelshift_r(bytes[i], bytes[i + 1], shift);
}

template <bool UNLABELLED>
__device__ __forceinline__ void tint(const OverlayParams& p) {
    const uint32_t lane = threadIdx.x % 32, group = lane / 3, part = lane % 3;
    const size_t first = (static_cast<size_t>(blockIdx.x) * WARPS + threadIdx.x / 32) * PIXELS;
    const bool in_lanes = p.labels <= 32 || mutant(4);
    const uint32_t held = in_lanes ? __ldg(p.palette + min(lane, p.labels - 1)) : 0;
    const uint32_t weight = mutant(7) ? 64 : __ldg(p.palette) >> 24;
    uint32_t labels[6];
    if (p.is_u16) {
        const uint4 two = lane < 2 * GROUPS ? load<true>(p.mask, 2 * first + 16 * lane, 2 * p.pixels) : uint4{};
        labels_of_words(labels, two, group, part);
    } else {
        const uint4 one = lane < GROUPS ? load<true>(p.mask, first + 16 * lane, p.pixels) : uint4{};
        labels_of_bytes(labels, one, group, part);
    }
    uint32_t colours[6], kept[6];
#pragma unroll
    for (int i = 0; i < 6; i++) {
        const bool has_none = UNLABELLED && labels[i] >= p.labels;
        kept[i] = has_none && !mutant(8) ? 0xffffff : 0;
        // The colour of what has none is any.
        const uint32_t label = has_none && !mutant(9) ? 0 : labels[i];
        const uint32_t colour = in_lanes ? __shfl_sync(0xffffffff, held, label) : __ldg(p.palette + label);
        colours[i] = colour & 0xffffff;
    }
    if (group >= GROUPS) return;

    uint32_t tints[4], words[4];
    part_of_pixels(tints, colours, part);
    const size_t at = 3 * first + 16 * lane, end = 3 * p.pixels;
    const uint4 photo = load<false>(p.photo, at, end);
    const uint32_t own[4] = {photo.x, photo.y, photo.z, photo.w};
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = mean(own[i], tints[i], weight);
    if constexpr (UNLABELLED) {
        uint32_t keeps[4];
        part_of_pixels(keeps, kept, part);
#pragma unroll
        for (int i = 0; i < 4; i++) words[i] = (words[i] & ~keeps[i]) | (own[i] & keeps[i]);
    }
    store(p.photo, at, end, words);
}

SPEC(overlay, Spec().rows(WARPS * PIXELS))
extern "C" __global__ void __launch_bounds__(32 * WARPS) overlay(const __grid_constant__ OverlayParams p) {
    begin_kernel();
    tint<false>(p);
}

SPEC(overlay_unlabelled, Spec().rows(WARPS * PIXELS))
extern "C" __global__ void __launch_bounds__(32 * WARPS) overlay_unlabelled(const __grid_constant__ OverlayParams p) {
    begin_kernel();
    tint<true>(p);
}
