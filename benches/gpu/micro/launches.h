// Probes of what lies between kernels and blocks: edge, gridbar, clusters.

#pragma once

#include "graph.h"
#include "memory.h"

namespace {

// ---------------------------------------------------------------------------------------- edge

// Kernels a and b take turns; b may be as a.
struct EdgeCase {
    const char* mode; // plain, wait, early, half
    unsigned shared_a, shared_b;
    int carveout_a, carveout_b; // percent of shared memory, −1: the driver's choice
};

struct EdgeRun {
    unsigned kernels, ctas;
    uint64_t clocks; // that each kernel spins
    std::vector<double> alone_us; // one kernel that spins as long as all of them
};

// The time between the end of one kernel's spinning and the begin of the next one's, µs.
void edge_case(Gpu& gpu, const EdgeRun& run, const Memory& count, const EdgeCase& at) {
    const bool dependent = std::string(at.mode) != "plain";
    CUfunction f[2];
    for (int i = 0; i < 2; i++) {
        f[i] = gpu.function(gpu.portable, std::string("edge_") + at.mode + (i ? "_b" : "_a"));
        gpu.dynamic_shared(f[i], i ? at.shared_b : at.shared_a);
        const int carveout = i ? at.carveout_b : at.carveout_a;
        need(cuda.cuFuncSetAttribute(f[i], CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, carveout), "carve-out");
    }
    CUlaunchAttribute attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    const Graph graph(gpu, [&] {
        for (unsigned k = 0; k < run.kernels; k++) {
            const unsigned shared = k % 2 ? at.shared_b : at.shared_a;
            if (dependent) {
                need(gpu.launch_with(&attribute, 1, f[k % 2], run.ctas, 128, shared, run.clocks, count.at),
                     "cuLaunchKernelEx");
            } else {
                gpu.launch(f[k % 2], run.ctas, 128, shared, run.clocks, count.at);
            }
        }
    });
    gpu.zero(count, 1);
    uint32_t made = 0;
    const Timing timing = gpu.time([&] { graph.launch(gpu), made += run.kernels; }, 4, 9);
    expect(count.read<uint32_t>(1)[0] == made, std::string(at.mode) + ": a kernel did not wait for the one before");
    std::vector<double> alone = run.alone_us, gaps;
    std::nth_element(alone.begin(), alone.begin() + alone.size() / 2, alone.end());
    for (double us : timing.us) gaps.push_back((us - alone[alone.size() / 2]) / (run.kernels - 1));
    say(Params().with("mode", at.mode).with("shared_kb_a", at.shared_a / 1024).with("shared_kb_b", at.shared_b / 1024)
            .with("carveout_a", at.carveout_a).with("carveout_b", at.carveout_b).with("kernels", run.kernels)
            .with("ctas", run.ctas).with("spin_clocks", double(run.clocks))
            .raw("programmatic_edges", graph.programmatic_edges()).with("image", gpu.portable.image),
        gaps, "us between kernels", timing.mhz);
}

void probe_edge(Gpu& gpu) {
    Memory count(4);
    gpu.zero(count, 1);
    EdgeRun run = {gpu.dry ? 6u : 200u, gpu.blocks(), 200, {}};
    const CUfunction plain = gpu.function(gpu.portable, "edge_plain_a");
    if (!gpu.dry) {
        gpu.warm_up([&] { gpu.launch(plain, run.ctas, 128, 0, uint64_t(100000), count.at); });
        const double mhz = gpu.clock_mhz();
        run.clocks = static_cast<uint64_t>(2 * (mhz > 0 ? mhz : 1700)); // 2 µs
    }
    // One kernel, itself in a graph, that spins as long as all together: what remains are the gaps.
    const Graph alone(gpu, [&] { gpu.launch(plain, run.ctas, 128, 0, run.clocks * run.kernels, count.at); });
    const Timing one = gpu.time([&] { alone.launch(gpu); }, 4, 9);
    run.alone_us = one.us;
    say(Params().with("mode", "one kernel for all").with("ctas", run.ctas)
            .with("spin_clocks", double(run.clocks * run.kernels)).with("image", gpu.portable.image),
        one.us, "us", one.mhz);

    constexpr unsigned KB = 1024;
    std::vector<EdgeCase> cases;
    for (const char* mode : {"plain", "wait", "early", "half"}) {
        for (unsigned shared : {1 * KB, 100 * KB, 200 * KB}) cases.push_back({mode, shared, shared, 100, 100});
    }
    // A small kernel between large ones: the same carve-out, the driver's choice, the least.
    for (const char* mode : {"plain", "early"}) {
        for (unsigned shared : {100 * KB, 200 * KB}) {
            for (int carveout : {100, -1, 0}) cases.push_back({mode, shared, 1 * KB, 100, carveout});
        }
    }
    for (const EdgeCase& at : cases) {
        try {
            edge_case(gpu, run, count, at);
        } catch (const Absent& why) {
            say_absent(Params().with("mode", at.mode).with("shared_kb_a", at.shared_a / 1024.0)
                           .with("shared_kb_b", at.shared_b / 1024.0).with("carveout_b", at.carveout_b), why.what());
        }
    }
}

// ---------------------------------------------------------------------------------------- gridbar

void probe_gridbar(Gpu& gpu) {
    const unsigned ctas = gpu.blocks();
    const uint32_t rounds = gpu.dry ? 4 : 1000, limit = 1 << 21; // polls of about 0.7 µs
    Memory counter(4), slots(ctas * 8), errors(8);
    const CUfunction f = gpu.function(gpu.portable, "gridbar");
    gpu.zero(counter, 1);
    gpu.zero(errors, 2);
    // A cooperative launch promises that all blocks are resident; one block a multiprocessor is anyway.
    bool cooperative = true;
    uint32_t base = 0;
    for (unsigned threads : {128u, 384u}) {
        const auto run = [&](uint32_t look) {
            uint32_t many = rounds, most = limit;
            void* each[] = {&counter.at, &base, &many, &slots.at, &errors.at, &look, &most};
            if (cooperative) {
                const CUresult code = cuda.cuLaunchCooperativeKernel(f, ctas, 1, 1, threads, 1, 1, 0, gpu.stream, each);
                if (code == CUDA_ERROR_NOT_SUPPORTED) cooperative = false;
                else check(code, "cuLaunchCooperativeKernel");
            }
            if (!cooperative) {
                gpu.launch(f, ctas, threads, 0, counter.at, base, rounds, slots.at, errors.at, look, limit);
            }
            base += rounds * ctas;
        };
        const auto expect_none = [&] {
            const std::vector<uint32_t> got = errors.read<uint32_t>(2);
            expect(got[0] == 0, "gridbar: a block waited in vain");
            expect(got[1] == 0, "gridbar: a block went on before its neighbour had come");
        };
        run(1);
        gpu.synchronize();
        expect_none();
        const Timing timing = gpu.time([&] { run(0); });
        expect_none();
        std::vector<double> us;
        for (double all : timing.us) us.push_back(all / rounds);
        say(Params().with("ctas", ctas).with("threads", threads).with("rounds", rounds).with("cooperative", cooperative)
                .with("image", gpu.portable.image), us, "us", timing.mhz);
    }
}

// ---------------------------------------------------------------------------------------- clusters

void probe_clusters(Gpu& gpu) {
    const Module& module = gpu.hopper();
    const CUfunction f = gpu.function(module, "cluster_room");
    need(cuda.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1), "clusters of 16");
    Memory count(4);
    for (unsigned shared : {200u * 1024, 100u * 1024}) {
        gpu.dynamic_shared(f, 200 * 1024);
        for (unsigned cluster : {2u, 4u, 8u, 16u}) {
            const auto params = [&] {
                return Params().with("cluster", cluster).with("shared_kb", shared / 1024).with("image", module.image);
            };
            try {
                const int clusters = active_clusters(gpu, f, cluster, 128, shared);
                if (clusters > 0) {
                    gpu.zero(count, 1);
                    CUlaunchAttribute attribute = cluster_of(cluster);
                    check(gpu.launch_with(&attribute, 1, f, clusters * cluster, 128, shared, count.at),
                          "cuLaunchKernelEx");
                    gpu.synchronize();
                    expect(count.read<uint32_t>(1)[0] == clusters * cluster, "cluster_room");
                }
                say(params().with("ctas", clusters * cluster), {double(clusters)}, "clusters at once", 0);
            } catch (const Absent& why) {
                say_absent(params(), why.what());
            }
        }
    }
}

} // namespace
