// The probe of results bit by bit.

#pragma once

#include "random.h"

namespace {

// Kinds of tiles: BIT_ROWS rows of A, BIT_COLUMNS of B (columns of the product), and C to begin the sums with. All
// values come from one `Random` of seed (format << 40 | kind << 20 | tile), format 0: f16, 1: e4m3; A row by row, then
// B, then C.
const char* const KINDS[] = {
    "random",    // sizes around 1
    "wide",      // all exponents
    "cancel",    // the second half of each row takes back the first; odd rows but for one last bit
    "ladder",    // one large product, the others 2^0 to 2^-34 (e4m3: 2^-19) of it; C 0
    "ladder_c",  // products around 1, C from 2^-32 to 2^31
    "subnormal", // half of A subnormal; rows 0, 8, … zeros; C subnormal or zero
    "special",   // infinities, NaN, zeros, largest values now and then, in A, B and C
    "large",     // C up to 2^127 on products of the largest size
    "pair",      // one product alone with a C of 2^-32 to 2^31 of it
};
constexpr int KIND_COUNT = sizeof KINDS / sizeof *KINDS, SPECIAL = 6;

struct Tiles {
    std::vector<uint8_t> a, b;
    std::vector<uint32_t> c; // bits of float32
};

class TileMaker {
public:
    TileMaker(const Format& f, int k, int t)
        : format(f), kind(k), depth(BIT_DEPTH_BYTES / f.bytes), large_at(t % depth),
          random{uint64_t(f.bytes == 1) << 40 | uint64_t(k) << 20 | uint64_t(t)} {}

    void append_to(Tiles& tiles) {
        std::vector<uint32_t> row(depth);
        for (int r = 0; r < BIT_ROWS; r++) {
            row_of_a(row, r);
            append(tiles.a, row);
        }
        for (int n = 0; n < BIT_COLUMNS; n++) {
            row_of_b(row, n);
            append(tiles.b, row);
        }
        for (int r = 0; r < BIT_ROWS; r++) {
            for (int n = 0; n < BIT_COLUMNS; n++) tiles.c.push_back(start(r, n));
        }
    }

private:
    // Of the largest exponent e4m3's last mantissa is NaN; no kind but "special" goes there.
    uint32_t normal(int low, int high) {
        const uint32_t sign = random.below(2);
        const int exponent = random.between(low, high);
        return format.make(sign, exponent, random.below(1u << format.mantissa_bits));
    }

    uint32_t any_subnormal() {
        const uint32_t sign = random.below(2);
        return format.subnormal(sign, 1 + random.below((1u << format.mantissa_bits) - 1));
    }

    uint32_t special() {
        const uint32_t sign = random.below(2), largest = (1u << format.mantissa_bits) - 1;
        const uint32_t choice = random.below(4);
        if (choice == 0) return format.subnormal(sign, 0);
        // e4m3: 448 and NaN.
        if (!format.has_infinity) return format.make(sign, format.most, choice == 1 ? largest - 1 : largest);
        if (choice == 1) return format.make(sign, format.most, largest);
        return format.make(sign, format.most + 1, choice == 2 ? 0 : 1 + random.below(largest)); // infinity, NaN
    }

    void row_of_a(std::vector<uint32_t>& row, int r) {
        const int range = format.most - 1 - format.least, last = std::max(0, depth / 2);
        for (int k = 0; k < depth; k++) {
            switch (kind) {
            case 1: row[k] = normal(format.least, format.most - 1); break;
            case 2: row[k] = k < last ? normal(-3, 1) : row[k - last] ^ 1u << (8 * format.bytes - 1); break;
            case 3:
                row[k] = k == large_at ? format.make(random.below(2), format.most - 1, 0)
                                       : normal_at(format.most - 1 - r / 4 * range / 15);
                break;
            case 4: row[k] = normal(0, 0); break;
            case 5:
                row[k] = r % 8 == 0 ? format.subnormal(random.below(2), 0)
                         : random.below(2) ? any_subnormal() : normal(format.least, format.least + 3);
                break;
            case 7: row[k] = normal(format.most - 2, format.most - 1); break;
            case 8: row[k] = k == (large_at + r) % depth ? normal(-2, 2) : format.subnormal(0, 0); break;
            default: row[k] = normal(-3, 1);
            }
            if (kind == SPECIAL && random.below(32) == 0) row[k] = special();
        }
        if (kind == 2 && r % 2 == 1) row[last + static_cast<int>(random.below(static_cast<uint32_t>(last)))] ^= 1;
    }

    void row_of_b(std::vector<uint32_t>& row, int n) {
        for (int k = 0; k < depth; k++) {
            switch (kind) {
            case 1: row[k] = normal(format.least, format.most - 1); break;
            case 2: row[k] = k < depth / 2 ? normal(-3, 1) : row[k - depth / 2]; break;
            case 3: row[k] = k == large_at ? format.make(0, 0, 0) : normal_at(-(n * 6 / 7)); break;
            case 4: row[k] = normal(0, 0); break;
            case 5: row[k] = normal(format.least, format.most - 1); break;
            case 7: row[k] = normal(format.most - 2, format.most - 1); break;
            case 8: row[k] = normal(-2, 2); break;
            default: row[k] = normal(-3, 1);
            }
            if (kind == SPECIAL && random.below(128) == 0) row[k] = special();
        }
    }

    uint32_t normal_at(int exponent) { return normal(exponent, exponent); }

    uint32_t start(int r, int n) {
        const uint32_t sign = random.below(2), mantissa = static_cast<uint32_t>(random.next() >> 41);
        switch (kind) {
        case 1: return float_bits(sign, random.between(2 * format.least - 4, 2 * format.most + 4), mantissa);
        case 2: return float_bits(sign, random.between(-20, 0), mantissa);
        case 3: return sign << 31;
        case 4: return float_bits(sign, r - 32, mantissa);
        case 5: return n % 2 ? sign << 31 : sign << 31 | mantissa;
        case SPECIAL: {
            const uint32_t choice = random.below(64);
            if (choice == 0) return sign << 31 | 0x7f800000u;
            if (choice == 1) return sign << 31 | 0x7f800000u | (mantissa | 1);
            if (choice == 2) return sign << 31;
            return float_bits(sign, random.between(-3, 3), mantissa);
        }
        case 7: {
            const int products = 2 * format.most;
            const int exponent = n < 4 ? random.between(100, 127) : random.between(products - 4, products + 30);
            return float_bits(sign, exponent, mantissa);
        }
        case 8: return float_bits(sign, r - 32, mantissa);
        default: return float_bits(sign, random.between(-4, 4), mantissa);
        }
    }

    void append(std::vector<uint8_t>& to, const std::vector<uint32_t>& row) const {
        for (uint32_t bits : row) {
            for (int i = 0; i < format.bytes; i++) to.push_back(static_cast<uint8_t>(bits >> 8 * i));
        }
    }

    const Format& format;
    int kind, depth, large_at;
    Random random;
};

Tiles make_tiles(const Format& format, int tiles_of_kind) {
    Tiles tiles;
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        for (int tile = 0; tile < tiles_of_kind; tile++) TileMaker(format, kind, tile).append_to(tiles);
    }
    return tiles;
}

// Dots that are further from float64's result than any order of adding explains: a wrong layout, no bits of interest.
size_t wrong_dots(const Format& format, const Tiles& tiles, const std::vector<uint32_t>& d) {
    const auto value = [&](const std::vector<uint8_t>& from, size_t i) {
        uint32_t bits = 0;
        std::memcpy(&bits, &from[i * format.bytes], format.bytes);
        return format.value(bits);
    };
    const size_t depth = BIT_DEPTH_BYTES / format.bytes;
    size_t wrong = 0;
    for (size_t i = 0; i < d.size(); i++) {
        const size_t row = i / BIT_COLUMNS, column = i / (BIT_ROWS * BIT_COLUMNS) * BIT_COLUMNS + i % BIT_COLUMNS;
        double sum = float_of(tiles.c[i]), most = std::fabs(sum);
        for (size_t k = 0; k < depth; k++) {
            const double product = value(tiles.a, row * depth + k) * value(tiles.b, column * depth + k);
            sum += product;
            most = std::max(most, std::fabs(product));
        }
        const double got = float_of(d[i]);
        if (std::isnan(sum)) wrong += !std::isnan(got);
        else if (std::isinf(sum)) wrong += got != sum;
        else wrong += !(std::fabs(got - sum) <= most / 128 + 0x1p-126);
    }
    return wrong;
}

class BitsFile {
public:
    void add(const std::string& name, const char* type, const std::string& shape, const void* data, size_t bytes) {
        arrays += (arrays.empty() ? "" : ",") + quoted(name) + ":{\"dtype\":" + quoted(type) + ",\"shape\":" + shape +
                  ",\"offset\":" + std::to_string(raw.size()) + "}";
        raw.append(static_cast<const char*>(data), bytes);
    }
    // Offsets count from behind the first line.
    void write(const std::string& path, const std::string& head) const {
        std::ofstream file(path, std::ios::binary);
        file << "{" << head << ",\"arrays\":{" << arrays << "}}\n" << raw;
        file.close();
        if (!file) throw std::runtime_error("cannot write " + path);
    }

private:
    std::string arrays, raw;
};

void probe_bits(Gpu& gpu) {
    const int tiles_of_kind = gpu.dry ? 4 : 16;
    const unsigned tiles = tiles_of_kind * KIND_COUNT;
    static_assert(4 % BIT_TILES_PER_CTA == 0, "blocks hold whole kinds");
    struct Way {
        const char* kernel;
        const Format& format;
        bool needs_hopper;
    };
    const Way ways[] = {{"mma_f16", F16, false}, {"wgmma_f16_ss", F16, true}, {"wgmma_f16_rs", F16, true},
                        {"wgmma_e4m3_ss", E4M3, true}, {"mma_e4m3", E4M3, true}};
    BitsFile file;
    std::string failures;
    std::map<std::string, Tiles> made;
    const auto shape = [&](int rows, int columns) {
        return "[" + std::to_string(tiles) + "," + std::to_string(rows) + "," + std::to_string(columns) + "]";
    };
    for (const Format* format : {&F16, &E4M3}) {
        const Tiles& in = made[format->name] = make_tiles(*format, tiles_of_kind);
        const char* type = format == &F16 ? "<u2" : "|u1";
        const int depth = BIT_DEPTH_BYTES / format->bytes;
        file.add(std::string(format->name) + ".a", type, shape(BIT_ROWS, depth), in.a.data(), in.a.size());
        file.add(std::string(format->name) + ".b", type, shape(BIT_COLUMNS, depth), in.b.data(), in.b.size());
        file.add(std::string(format->name) + ".c", "<u4", shape(BIT_ROWS, BIT_COLUMNS), in.c.data(), in.c.size() * 4);
    }
    for (const Way& way : ways) {
        try {
            const Module& module = way.needs_hopper ? gpu.hopper() : gpu.portable;
            const bool wgmma = way.kernel[0] == 'w';
            const Tiles& in = made[way.format.name];
            Memory a(in.a.size()), b(in.b.size()), c(in.c.size() * 4), d(in.c.size() * 4);
            a.write(in.a), b.write(in.b), c.write(in.c);
            gpu.zero(d, in.c.size());
            const CUfunction f = gpu.function(module, std::string("bits_") + way.kernel);
            gpu.launch(f, wgmma ? tiles / BIT_TILES_PER_CTA : tiles, 128, 0, a.at, b.at, c.at, d.at);
            gpu.synchronize();
            const std::vector<uint32_t> got = d.read<uint32_t>(in.c.size());
            file.add(std::string(way.kernel) + ".d", "<u4", shape(BIT_ROWS, BIT_COLUMNS), got.data(), got.size() * 4);
            const size_t wrong = wrong_dots(way.format, in, got);
            if (wrong) failures += std::string(way.kernel) + ": " + std::to_string(wrong) + " dots far off; ";
            say(Params().with("way", way.kernel).with("far_off", double(wrong)).with("image", module.image),
                {double(got.size())}, "dots", 0);
        } catch (const Absent& why) {
            say_absent(Params().with("way", way.kernel), why.what());
        }
    }
    std::string kinds;
    for (int k = 0; k < KIND_COUNT; k++) {
        kinds += std::string(k ? "," : "") + "{\"name\":" + quoted(KINDS[k]) + ",\"first_tile\":" +
                 std::to_string(k * tiles_of_kind) + ",\"tiles\":" + std::to_string(tiles_of_kind) + "}";
    }
    const char* const what =
        "d[t,r,n] = c[t,r,n] + sum over k of a[t,r,k] * b[t,n,k], one instruction each; bits of f16, e4m3, float32; "
        "offsets: bytes behind this line; X.d: of the inputs of the format in its name";
    const char* const seed = "splitmix64, state = (e4m3 ? 1 : 0) << 40 | kind << 20 | tile in kind; micro.cu TileMaker";
    file.write(gpu.out_folder + "/wgmma_bits.bin", "\"device\":" + quoted(gpu.name) + ",\"what\":" + quoted(what) +
                                                       ",\"seed\":" + quoted(seed) + ",\"kinds\":[" + kinds + "]");
    if (!failures.empty()) throw std::runtime_error(failures + "wgmma_bits.bin is written all the same");
}

} // namespace
