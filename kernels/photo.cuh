// A row of a photo in shared memory, whatever its format, and the colours of its pixels. A format is a type of two functions: `load`
// brings the bytes of some neighbouring pixels, `at` reads a colour of one of them.
//
//   rgb8           [batch, height, width, 3]                                         u8
//   bytes          [batch, height, width, step], colour c at `order` >> 8c & 255     u8   bgr8, rgba8, bgra8, mono8
//   nv12           [batch]: luma [height, width], chroma [⌈height/2⌉, ⌈width/2⌉, 2]  u8   Cb, Cr
//   yuyv           [batch, height, ⌈width/2⌉, 4]                                     u8   luma, Cb, luma, Cr
//   float, half    [batch, 3, height, width]                                         f32, f16
//
// Of luma and chroma colour c is luma · (Y − black) + cb[c] · (Cb − 128) + cr[c] · (Cr − 128), no less than 0 and no more than 255.
// Grey has no chroma, so that it stays grey to the bit.
//
// Needs: the photo as line.cuh; an item may begin at any byte.
//
// Mutants: 42 the colours in rgb8's order, 43 pixels of three bytes, 44 a batch's items all the first,
// 45 of nv12 each row has chroma of its own, 46 of nv12 the last pixel of an odd width has no chroma, 47 of nv12 Cb and Cr
// swapped, 48 of nv12 the next pair's chroma, 49 of yuyv Cb and Cr swapped, 50 of yuyv rows of an odd width end with their
// pixel, 51 of yuyv a pair has one luma, 52 colours are not clamped, 53 black is 0, 54 blue's chroma for green, 55 of float the planes
// in another order, 56 of float all planes begin at the same byte of a word, 57 pairs that begin with their second pixel.
#pragma once

#include "line.cuh"

// What is not rgb8, as its host says.
struct Format {
    // Bytes of a picture.
    uint64_t item;
    uint32_t step, order;
    float black, luma, cb[3], cr[3];
};

// Some pixels of a row: lines, and where in them the first pixel's bytes begin.
template <int LINES>
struct Row {
    const Line* lines;
    uint32_t begin[LINES];
};

struct Rgb8 {
    // Lines of a row; pixels that share bytes, which a line begins with the first of.
    static constexpr int LINES = 1, SHARING = 1;
    const uint8_t* photo;
    uint32_t height, width;

    template <typename Params>
    __device__ __forceinline__ explicit Rgb8(const Params& p) : photo(p.photo), height(p.photo_height), width(p.photo_width) {}

    // Where pixel i of a row begins, as `at` takes it; below 65536.
    __device__ __forceinline__ uint32_t place(uint32_t i) const { return i * 3; }

    __device__ __forceinline__ Row<1> load(Line* lines, uint32_t item, uint32_t y, uint32_t left, uint32_t count) const {
        const uint8_t* from = photo + ((static_cast<size_t>(item) * height + y) * width + left) * 3;
        return {lines, {lines[0].load(from, count * 3)}};
    }

    __device__ __forceinline__ float at(const Row<1>& row, uint32_t place, uint32_t c) const {
        return row.lines[0].at(row.begin[0] + place + c);
    }
};

// A photo of another format.
struct Photo {
    const uint8_t* photo;
    uint32_t height, width;
    const Format& format;

    template <typename Params>
    __device__ __forceinline__ explicit Photo(const Params& p)
        : photo(p.photo), height(p.photo_height), width(p.photo_width), format(p.format) {}

    __device__ __forceinline__ const uint8_t* item(uint32_t i) const { return photo + (mutant(44) ? 0 : i * format.item); }

    // Bytes of a row of `of` for each two pixels.
    __device__ __forceinline__ size_t pairs(uint32_t of) const { return static_cast<size_t>(ceil_div(width, 2)) * of; }
};

struct Bytes : Photo {
    static constexpr int LINES = 1, SHARING = 1;
    using Photo::Photo;

    __device__ __forceinline__ uint32_t step() const { return mutant(43) ? 3 : format.step; }

    __device__ __forceinline__ uint32_t place(uint32_t i) const { return i * step(); }

    __device__ __forceinline__ Row<1> load(Line* lines, uint32_t i, uint32_t y, uint32_t left, uint32_t count) const {
        const uint8_t* from = item(i) + (static_cast<size_t>(y) * width + left) * step();
        return {lines, {lines[0].load(from, count * step())}};
    }

    __device__ __forceinline__ float at(const Row<1>& row, uint32_t place, uint32_t c) const {
        return row.lines[0].at(row.begin[0] + place + (mutant(42) ? c : format.order >> 8 * c & 255));
    }
};

struct LumaChroma : Photo {
    static constexpr int SHARING = mutant(57) ? 1 : 2;
    using Photo::Photo;

    __device__ __forceinline__ float colour(float y, float cb, float cr, uint32_t c) const {
        const float of_cb = of_colour(format.cb, mutant(54) && c == 1 ? 2 : c), of_cr = of_colour(format.cr, c);
        const float chroma = fmaf(of_cb, cb - 128.0f, of_cr * (cr - 128.0f));
        const float value = fmaf(format.luma, y - (mutant(53) ? 0.0f : format.black), chroma);
        return mutant(52) ? value : fminf(fmaxf(value, 0.0f), 255.0f);
    }
};

struct Nv12 : LumaChroma {
    static constexpr int LINES = 2;
    using LumaChroma::LumaChroma;

    __device__ __forceinline__ uint32_t place(uint32_t i) const { return i; }

    __device__ __forceinline__ Row<2> load(Line* lines, uint32_t i, uint32_t y, uint32_t left, uint32_t count) const {
        const uint8_t* luma = item(i);
        const uint8_t* chroma = luma + static_cast<size_t>(height) * width;
        const uint32_t bytes = mutant(46) ? count / 2 * 2 : (count + 1) / 2 * 2;
        const uint32_t luma_begin = lines[0].load(luma + static_cast<size_t>(y) * width + left, count);
        return {lines, {luma_begin, lines[1].load(chroma + (mutant(45) ? y : y / 2) * pairs(2) + left, bytes)}};
    }

    __device__ __forceinline__ float at(const Row<2>& row, uint32_t place, uint32_t c) const {
        const uint32_t pair = row.begin[1] + (mutant(48) ? place + 1 : place) / 2 * 2, cb = mutant(47) ? 1 : 0;
        return colour(row.lines[0].at(row.begin[0] + place), row.lines[1].at(pair + cb), row.lines[1].at(pair + 1 - cb), c);
    }
};

struct Yuyv : LumaChroma {
    static constexpr int LINES = 1;
    using LumaChroma::LumaChroma;

    __device__ __forceinline__ uint32_t place(uint32_t i) const { return 2 * i; }

    __device__ __forceinline__ Row<1> load(Line* lines, uint32_t i, uint32_t y, uint32_t left, uint32_t count) const {
        const size_t row = mutant(50) ? 2 * static_cast<size_t>(width) : pairs(4);
        return {lines, {lines[0].load(item(i) + y * row + 2 * left, (count + 1) / 2 * 4)}};
    }

    __device__ __forceinline__ float at(const Row<1>& row, uint32_t place, uint32_t c) const {
        const uint32_t pair = row.begin[0] + place / 4 * 4, cb = mutant(49) ? 3 : 1;
        const uint32_t luma = mutant(51) ? pair : row.begin[0] + place;
        return colour(row.lines[0].at(luma), row.lines[0].at(pair + cb), row.lines[0].at(pair + 4 - cb), c);
    }
};

// float or half
template <typename T>
struct Planes : Photo {
    static constexpr int LINES = 3, SHARING = 1;
    using Photo::Photo;

    __device__ __forceinline__ uint32_t place(uint32_t i) const { return i * sizeof(T); }

    __device__ __forceinline__ Row<3> load(Line* lines, uint32_t i, uint32_t y, uint32_t left, uint32_t count) const {
        Row<3> row = {lines, {}};
#pragma unroll
        for (uint32_t c = 0; c < 3; c++) {
            const size_t pixel = (static_cast<size_t>(mutant(55) ? 2 - c : c) * height + y) * width + left;
            row.begin[c] = lines[c].load(item(i) + pixel * sizeof(T), count * sizeof(T));
        }
        return row;
    }

    __device__ __forceinline__ float at(const Row<3>& row, uint32_t place, uint32_t c) const {
        const uint32_t byte = (mutant(56) ? row.begin[0] : of_colour(row.begin, c)) + place;
        return static_cast<float>(reinterpret_cast<const T*>(row.lines[c].words)[byte / sizeof(T)]);
    }
};
