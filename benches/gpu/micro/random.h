// Random numbers, and formats of small floats.

#pragma once

#include "gpu.h"

namespace {

// splitmix64 (public domain).
struct Random {
    uint64_t state;
    uint64_t next() {
        state += 0x9e3779b97f4a7c15u;
        uint64_t z = state;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
    // 0 to n − 1; the upper half of the word modulo n.
    uint32_t below(uint32_t n) { return static_cast<uint32_t>(next() >> 32) % n; }
    int between(int low, int high) { return low + static_cast<int>(below(static_cast<uint32_t>(high - low + 1))); }
};

// A small float format with IEEE-like exponents. e4m3 has no infinity, and of its largest exponent only the last
// mantissa is NaN.
struct Format {
    const char* name;
    int bytes, mantissa_bits, bias, least, most; // exponents of normal numbers
    bool has_infinity;

    uint32_t make(uint32_t sign, int exponent, uint32_t mantissa) const {
        return sign << (8 * bytes - 1) | static_cast<uint32_t>(exponent + bias) << mantissa_bits | mantissa;
    }
    uint32_t subnormal(uint32_t sign, uint32_t mantissa) const { return sign << (8 * bytes - 1) | mantissa; }

    double value(uint32_t bits) const {
        const uint32_t fields = bits & ((1u << (8 * bytes - 1)) - 1), mantissa = fields & ((1u << mantissa_bits) - 1);
        const int exponent = static_cast<int>(fields >> mantissa_bits);
        const double sign = bits >> (8 * bytes - 1) & 1 ? -1 : 1;
        if (has_infinity && exponent - bias > most) return mantissa ? NAN : sign * INFINITY;
        if (!has_infinity && exponent - bias == most && mantissa == (1u << mantissa_bits) - 1) return NAN;
        if (exponent == 0) return sign * std::ldexp(mantissa, least - mantissa_bits);
        return sign * std::ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
    }
};

constexpr Format F16 = {"f16", 2, 10, 15, -14, 15, true};
constexpr Format E4M3 = {"e4m3", 1, 3, 7, -6, 8, false};

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

uint32_t float_bits(uint32_t sign, int exponent, uint32_t mantissa) {
    return sign << 31 | static_cast<uint32_t>(exponent + 127) << 23 | mantissa;
}

} // namespace
