// The probe of GELU.

#pragma once

#include "gpu.h"

namespace {

struct GeluError {
    double most, units; // absolute, and in units of f16 of the result
};

GeluError gelu_error(const Gpu& gpu, const std::string& kind) {
    std::vector<float> x;
    const int steps = gpu.dry ? 1000 : 60000;
    for (int i = -steps; i <= steps; i++) x.push_back(12.0f * i / steps);
    for (float far : {13.0f, 20.0f, 50.0f, 1000.0f, 65504.0f}) x.push_back(far), x.push_back(-far);
    Memory from(x.size() * 4), to(x.size() * 4);
    from.write(x);
    const uint32_t values = static_cast<uint32_t>(x.size());
    gpu.launch(gpu.function(gpu.portable, "gelu_values_" + kind), gpu.blocks(), 256, 0, from.at, to.at, values);
    gpu.synchronize();
    const std::vector<float> y = to.read<float>(x.size());
    GeluError error = {};
    for (size_t i = 0; i < x.size(); i++) {
        const double right = 0.5 * x[i] * std::erfc(-double(x[i]) * 0.70710678118654752440);
        const double off = std::fabs(y[i] - right);
        const double unit = std::ldexp(1.0, std::max(std::ilogb(right == 0 ? 1e-30 : right), -14) - 10);
        expect(std::isfinite(y[i]), "gelu of " + number(x[i]));
        // Further out float32 itself is coarser than that.
        if (std::fabs(x[i]) <= 12) error.most = std::max(error.most, off);
        error.units = std::max(error.units, off / unit);
    }
    return error;
}

void probe_gelu(Gpu& gpu) {
    const uint32_t turns = gpu.dry ? 2 : 4000;
    const unsigned ctas = gpu.blocks();
    for (const std::string kind : {"none", "erff", "fine", "fast"}) {
        const CUfunction f = gpu.function(gpu.portable, "gelu_loop_" + kind);
        GeluError error = {};
        if (kind != "none") {
            error = gelu_error(gpu, kind);
            // The left tail of 1 + erff cancels: some units of f16's smallest numbers.
            expect(error.most < (kind == "fast" ? 2e-5 : 2e-6) && (kind == "erff" || error.units < 0.25),
                   "gelu_" + kind + ": " + number(error.most) + " off, " + number(error.units) + " units of f16");
        }
        for (unsigned threads : {256u, 1024u}) {
            if (gpu.dry && threads > 256) continue;
            Memory out(size_t(ctas) * threads * 4);
            const Timing timing = gpu.time([&] { gpu.launch(f, ctas, threads, 0, turns, out.at); });
            const double millions = double(ctas) * threads * 8 * turns / 1e6;
            std::vector<double> ns;
            for (double us : timing.us) ns.push_back(us * 1000 / millions);
            say(Params().with("function", kind).with("ctas", ctas).with("threads", threads).with("most_off", error.most)
                    .with("most_off_in_f16_units", error.units).with("image", gpu.portable.image),
                ns, "ns per 1e6 values", timing.mhz);
        }
    }
}

} // namespace
