// The host half: lines of JSON.

#pragma once

#include "driver.h"

namespace {

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
    return out + "\"";
}

std::string number(double value) {
    if (!std::isfinite(value)) return "null";
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

struct Params {
    std::string text;

    Params&& raw(const char* key, const std::string& value) && {
        text += (text.empty() ? "" : ",") + quoted(key) + ":" + value;
        return std::move(*this);
    }
    Params&& with(const char* key, const std::string& value) && { return std::move(*this).raw(key, quoted(value)); }
    Params&& with(const char* key, const char* value) && { return std::move(*this).raw(key, quoted(value)); }
    Params&& with(const char* key, bool value) && { return std::move(*this).raw(key, value ? "true" : "false"); }
    Params&& with(const char* key, double value) && { return std::move(*this).raw(key, number(value)); }
    Params&& with(const char* key, int value) && { return std::move(*this).raw(key, number(value)); }
    Params&& with(const char* key, unsigned value) && { return std::move(*this).raw(key, number(value)); }
};

std::string current_probe; // whose lines these are

void print_line(const std::string& rest) {
    std::printf("{\"probe\":%s,%s}\n", quoted(current_probe).c_str(), rest.c_str());
    std::fflush(stdout);
}

// `mhz`: 0 where it was not measured.
void say(const Params& params, std::vector<double> values, const char* unit, double mhz) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    const double median = (values[(n - 1) / 2] + values[n / 2]) / 2;
    print_line("\"params\":{" + params.text + "},\"median\":" + number(median) + ",\"min\":" + number(values.front()) +
               ",\"max\":" + number(values.back()) + ",\"unit\":" + quoted(unit) +
               ",\"sm_mhz\":" + (mhz > 0 ? number(mhz) : "null"));
}

void say_absent(const Params& params, const std::string& why) {
    print_line("\"params\":{" + params.text + "},\"absent\":" + quoted(why));
}

} // namespace
