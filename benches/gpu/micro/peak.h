// The probe of tensor cores.

#pragma once

#include "random.h"

namespace {

enum class Type { F16, E4M3, S8 };

// Random, finite, below 1 in size (s8: any but −128); never zero but by chance.
std::vector<uint8_t> random_operand(Type type, size_t bytes, uint64_t seed) {
    Random random{seed};
    std::vector<uint8_t> out(bytes);
    for (size_t i = 0; i < bytes; i += type == Type::F16 ? 2 : 1) {
        if (type == Type::S8) {
            out[i] = static_cast<uint8_t>(random.between(-127, 127));
        } else {
            const Format& format = type == Type::F16 ? F16 : E4M3;
            const uint32_t sign = random.below(2);
            const int exponent = random.between(-4, -1);
            const uint32_t bits = format.make(sign, exponent, random.below(1u << format.mantissa_bits));
            std::memcpy(&out[i], &bits, format.bytes);
        }
    }
    return out;
}

double value_at(Type type, const uint8_t* from) {
    if (type == Type::S8) return static_cast<int8_t>(*from);
    uint32_t bits = 0;
    std::memcpy(&bits, from, type == Type::F16 ? 2 : 1);
    return (type == Type::F16 ? F16 : E4M3).value(bits);
}

std::vector<double> values_of(Type type, const std::vector<uint8_t>& bytes) {
    std::vector<double> out;
    for (size_t i = 0; i < bytes.size(); i += type == Type::F16 ? 2 : 1) out.push_back(value_at(type, &bytes[i]));
    return out;
}

// Of two rows of values: the sum of products and the sum of their sizes.
std::pair<double, double> dot(const double* a, const double* b, int depth) {
    double sum = 0, size = 0;
    for (int i = 0; i < depth; i++) {
        const double product = a[i] * b[i];
        sum += product, size += std::fabs(product);
    }
    return {sum, size};
}

// How far a sum may be off, for its terms' sizes. e4m3 through wgmma keeps 13 bits of fraction.
double allowed(Type type, double size) {
    return type == Type::S8 ? 0 : size * (type == Type::E4M3 ? 1.0 / 256 : 1.0 / 8192);
}

struct Peak {
    const char* instruction;
    const char* kernel;
    Type type;
    unsigned columns, groups; // of wgmma
    bool a_in_registers;
};

// Tiles of a launch of about 10 ms at the dense peak of Hopper.
uint32_t tiles_of_10_ms(const Gpu& gpu, double flop_per_tile, double flop_per_clock) {
    return gpu.dry ? 1 : static_cast<uint32_t>(0.010 * 1.8e9 * flop_per_clock / flop_per_tile) + 1;
}

void peak_of_mma(Gpu& gpu, unsigned warps) {
    constexpr size_t TILE_BYTES = 32 * 64; // 32 rows of 32 halves
    const std::vector<uint8_t> a = random_operand(Type::F16, warps * TILE_BYTES, 1),
                               b = random_operand(Type::F16, warps * TILE_BYTES, 2);
    Memory on_a(a.size()), on_b(b.size()), d(warps * 1024 * 4);
    on_a.write(a), on_b.write(b);
    const CUfunction f = gpu.function(gpu.portable, "peak_mma");
    const double flop = 2.0 * 32 * 32 * 32 * MMA_STEPS * warps; // of a CTA and tile
    const unsigned ctas = gpu.blocks();
    const uint32_t tiles = tiles_of_10_ms(gpu, flop, 2600), last = ctas - 1, keep = 0;
    const auto run = [&] { gpu.launch(f, ctas, warps * 32, 0, on_a.at, on_b.at, tiles, d.at, last, keep); };
    const Timing timing = gpu.time(run, 40, 5);
    const std::vector<float> got = d.read<float>(warps * 1024);
    const std::vector<double> rows = values_of(Type::F16, a), columns = values_of(Type::F16, b);
    for (size_t i = 0; i < got.size(); i++) {
        const auto [sum, size] = dot(&rows[i / 32 * 32], &columns[i / 1024 * 1024 + i % 32 * 32], 32);
        expect(std::fabs(got[i] - sum * MMA_STEPS) <= allowed(Type::F16, size * MMA_STEPS), "peak_mma");
    }
    say(Params().with("instruction", "mma.sync m16n8k16 f16").with("warps", warps).with("ctas", ctas)
            .with("image", gpu.portable.image),
        rates(timing, flop * tiles * ctas / 1e6), "TFLOP/s", timing.mhz);
}

void peak_of_wgmma(Gpu& gpu, const Peak& peak) {
    const Module& module = gpu.hopper();
    const CUfunction f = gpu.function(module, peak.kernel);
    const unsigned rows = peak.groups * 64, shared = ALIGNMENT + PEAK_STAGES * 128 * (rows + peak.columns);
    gpu.dynamic_shared(f, shared);
    const std::vector<uint8_t> a = random_operand(peak.type, PEAK_STAGES * rows * 128, 3),
                               b = random_operand(peak.type, PEAK_STAGES * peak.columns * 128, 4);
    Memory on_a(a.size()), on_b(b.size()), d(rows * peak.columns * 4);
    on_a.write(a), on_b.write(b);
    const double depth = PEAK_STAGES * (peak.type == Type::F16 ? 64 : 128), flop = 2.0 * rows * peak.columns * depth;
    const unsigned ctas = gpu.blocks();
    const uint32_t tiles = tiles_of_10_ms(gpu, flop, peak.type == Type::F16 ? 4096 : 8192), last = ctas - 1, keep = 0;
    gpu.zero(d, rows * peak.columns);
    const auto run = [&] { gpu.launch(f, ctas, peak.groups * 128, shared, on_a.at, on_b.at, tiles, d.at, last, keep); };
    const Timing timing = gpu.time(run, 40, 5);
    const std::vector<uint32_t> got = d.read<uint32_t>(rows * peak.columns);
    const std::vector<double> values_a = values_of(peak.type, a), values_b = values_of(peak.type, b);
    const int width = peak.type == Type::F16 ? 64 : 128; // values in a row of a stage
    for (unsigned r = 0; r < rows; r++) {
        for (unsigned c = 0; c < peak.columns; c++) {
            double sum = 0, size = 0;
            for (unsigned stage = 0; stage < PEAK_STAGES; stage++) {
                const size_t at_a = ((peak.a_in_registers ? 0 : stage) * rows + r) * width;
                const size_t at_b = (stage * peak.columns + c) * width;
                const auto [s, z] = dot(&values_a[at_a], &values_b[at_b], width);
                sum += s, size += z;
            }
            const uint32_t bits = got[r * peak.columns + c];
            const double value = peak.type == Type::S8 ? double(static_cast<int32_t>(bits)) : double(float_of(bits));
            // So that NaN fails.
            if (std::fabs(value - sum) <= allowed(peak.type, size)) continue;
            expect(false, std::string(peak.kernel) + ": " + number(value) + " instead of " + number(sum) + " at row " +
                              std::to_string(r) + ", column " + std::to_string(c));
        }
    }
    say(Params().with("instruction", peak.instruction).with("rows", rows).with("columns", peak.columns)
            .with("groups", peak.groups).with("ctas", ctas).with("image", module.image),
        rates(timing, flop * tiles * ctas / 1e6), peak.type == Type::S8 ? "TOP/s" : "TFLOP/s", timing.mhz);
}

void probe_peak(Gpu& gpu) {
    for (unsigned warps : {8u, 16u}) peak_of_mma(gpu, warps);
    gpu.hopper();
    const Peak peaks[] = {
        {"wgmma m64n64k16 f16 SS", "peak_ss_64", Type::F16, 64, 2, false},
        {"wgmma m64n96k16 f16 SS", "peak_ss_96", Type::F16, 96, 2, false},
        {"wgmma m64n128k16 f16 SS", "peak_ss_128", Type::F16, 128, 2, false},
        {"wgmma m64n192k16 f16 SS", "peak_ss_192", Type::F16, 192, 2, false},
        {"wgmma m64n192k16 f16 SS", "peak_ss_192x3", Type::F16, 192, 3, false},
        {"wgmma m64n256k16 f16 SS", "peak_ss_256", Type::F16, 256, 2, false},
        {"wgmma m64n64k16 f16 RS", "peak_rs_64", Type::F16, 64, 2, true},
        {"wgmma m64n256k16 f16 RS", "peak_rs_256", Type::F16, 256, 2, true},
        {"wgmma m64n128k32 e4m3 SS", "peak_e4m3_128", Type::E4M3, 128, 2, false},
        {"wgmma m64n256k32 e4m3 SS", "peak_e4m3_256", Type::E4M3, 256, 2, false},
        {"wgmma m64n128k32 s8 SS", "peak_s8_128", Type::S8, 128, 2, false},
        {"wgmma m64n256k32 s8 SS", "peak_s8_256", Type::S8, 256, 2, false},
    };
    for (const Peak& peak : peaks) peak_of_wgmma(gpu, peak);
}

} // namespace
