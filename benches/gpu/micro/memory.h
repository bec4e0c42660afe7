// Probes of memory: hbm, l2, latency, copy.

#pragma once

#include "graph.h"

namespace {

// ---------------------------------------------------------------------------------------- hbm

void probe_hbm(Gpu& gpu) {
    const uint64_t bytes = gpu.dry ? 1 << 18 : 1 << 30, words = bytes / 4, chunks = bytes / 16;
    const uint32_t mask = static_cast<uint32_t>(std::min<uint64_t>(words, 1 << 20) - 1);
    const unsigned grid = gpu.blocks(8);
    Memory from(bytes), to(bytes), sums(grid * 4);
    const CUfunction read = gpu.function(gpu.portable, "hbm_read"), copy = gpu.function(gpu.portable, "hbm_copy"),
                     write = gpu.function(gpu.portable, "hbm_write");
    gpu.fill(from, words, mask);
    const auto params = [&](const char* what) {
        return Params().with("what", what).with("mb", bytes / 1e6).with("ctas", grid).with("image", gpu.portable.image);
    };

    Timing timing = gpu.time([&] { gpu.launch(read, grid, 256, 0, from.at, chunks, sums.at); });
    uint32_t sum = 0;
    for (uint32_t part : sums.read<uint32_t>(grid)) sum += part;
    expect(sum == sum_of_words(words, mask), "hbm_read");
    say(params("read"), rates(timing, bytes / 1e3), "GB/s", timing.mhz);

    gpu.zero(to, words);
    timing = gpu.time([&] { gpu.launch(write, grid, 256, 0, to.at, chunks, mask); });
    expect_words(to, words, mask, "hbm_write");
    say(params("write"), rates(timing, bytes / 1e3), "GB/s", timing.mhz);

    gpu.zero(to, words);
    timing = gpu.time([&] { gpu.launch(copy, grid, 256, 0, from.at, to.at, chunks); });
    expect_words(to, words, mask, "hbm_copy");
    say(params("copy, read + written"), rates(timing, 2 * bytes / 1e3), "GB/s", timing.mhz);

    timing = gpu.time([&] { check(cuda.cuMemcpyDtoDAsync(to.at, from.at, bytes, gpu.stream), "cuMemcpyDtoDAsync"); });
    say(params("the driver's copy, read + written"), rates(timing, 2 * bytes / 1e3), "GB/s", timing.mhz);
}

// ---------------------------------------------------------------------------------------- l2

constexpr int ANY_WORD = -1; // fill_words' mask: all bits

// What all three kinds of kernel read: 20 MiB, or in a rehearsal what the largest TMA box needs, 256 rows.
struct L2Set {
    explicit L2Set(const Gpu& gpu)
        : bytes(gpu.dry ? 8 * BLOCK_WORDS16 * 16 : 20 << 20), memory(bytes), sum(sum_of_words(bytes / 4, ANY_WORD)) {
        gpu.fill(memory, bytes / 4, ANY_WORD);
    }
    uint64_t bytes;
    Memory memory;
    uint32_t sum;
};

Params l2_params(const char* how, const L2Set& set, unsigned ctas, uint32_t share, const std::string& image) {
    return Params().with("how", how).with("set_mb", set.bytes / 1e6).with("ctas", ctas).with("share", share)
        .with("image", image);
}

void expect_sums(const Memory& sums, unsigned ctas, uint32_t each, const std::string& what) {
    for (uint32_t sum : sums.read<uint32_t>(ctas)) expect(sum == each, what);
}

void l2_by_loads(Gpu& gpu, const L2Set& set, uint32_t share) {
    const uint32_t passes = 1, blocks = static_cast<uint32_t>(set.bytes / (BLOCK_WORDS16 * 16));
    const unsigned ctas = gpu.blocks();
    Memory sums(ctas * 4);
    for (unsigned threads : {512u, 1024u}) {
        const CUfunction f = gpu.function(gpu.portable, "l2_load_" + std::to_string(threads));
        const Timing timing = gpu.time([&] {
            gpu.launch(f, ctas, threads, 0, set.memory.at, blocks, passes, share, sums.at);
        });
        expect_sums(sums, ctas, set.sum * passes, "l2_load");
        say(l2_params("ld", set, ctas, share, gpu.portable.image).with("threads", threads),
            rates(timing, ctas * passes * (set.bytes / 1e3)), "GB/s", timing.mhz);
    }
}

void l2_by_cp_async(Gpu& gpu, const L2Set& set, uint32_t share) {
    const uint32_t passes = 1, blocks = static_cast<uint32_t>(set.bytes / ASYNC_STAGE_BYTES);
    const unsigned ctas = gpu.blocks(), shared = ASYNC_STAGES * ASYNC_STAGE_BYTES;
    Memory sums(ctas * 4);
    const CUfunction f = gpu.function(gpu.portable, "l2_cp_async");
    // Older GPUs have less shared memory: half a ring is another measurement, none is honest.
    gpu.dynamic_shared(f, shared);
    const auto run = [&](uint32_t look) {
        gpu.launch(f, ctas, ASYNC_THREADS, shared, set.memory.at, blocks, passes, share, sums.at, look);
    };
    run(1);
    gpu.synchronize();
    expect_sums(sums, ctas, set.sum, "l2_cp_async");
    const Timing timing = gpu.time([&] { run(0); });
    say(l2_params("cp.async", set, ctas, share, gpu.portable.image).with("threads", ASYNC_THREADS)
            .with("in_flight_kb", shared / 1024),
        rates(timing, ctas * passes * (set.bytes / 1e3)), "GB/s", timing.mhz);
}

// The set as a matrix of SET_COLUMNS halves a row.
CUtensorMap box_map(const L2Set& set, unsigned box_rows) {
    if (!cuda.cuTensorMapEncodeTiled) throw Absent("the driver has no cuTensorMapEncodeTiled");
    CUtensorMap map;
    const cuuint64_t sizes[2] = {SET_COLUMNS, set.bytes / (SET_COLUMNS * 2)}, steps[1] = {SET_COLUMNS * 2};
    const cuuint32_t box[2] = {BOX_COLUMNS, box_rows}, strides[2] = {1, 1};
    check(cuda.cuTensorMapEncodeTiled(
              &map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, reinterpret_cast<void*>(set.memory.at), sizes, steps, box,
              strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "cuTensorMapEncodeTiled");
    return map;
}

CUlaunchAttribute cluster_of(unsigned ctas) {
    CUlaunchAttribute attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim.x = ctas, attribute.value.clusterDim.y = 1, attribute.value.clusterDim.z = 1;
    return attribute;
}

// How many clusters of this kernel run at once.
int active_clusters(const Gpu& gpu, CUfunction f, unsigned cluster, unsigned threads, unsigned shared) {
    if (!cuda.cuOccupancyMaxActiveClusters) throw Absent("the driver has no cuOccupancyMaxActiveClusters");
    CUlaunchAttribute attribute = cluster_of(cluster);
    CUlaunchConfig config = {};
    config.gridDimX = gpu.multiprocessors / cluster * cluster, config.gridDimY = 1, config.gridDimZ = 1;
    config.blockDimX = threads, config.blockDimY = 1, config.blockDimZ = 1;
    config.sharedMemBytes = shared, config.hStream = gpu.stream;
    config.attrs = &attribute, config.numAttrs = 1;
    int clusters = 0;
    need(cuda.cuOccupancyMaxActiveClusters(&clusters, f, &config), "cuOccupancyMaxActiveClusters");
    return clusters;
}

// What every CTA sums up: each word by its place in its box.
uint32_t weighed_sum(const L2Set& set, uint32_t box_rows) {
    constexpr uint32_t ROW_WORDS = SET_COLUMNS / 2, BOX_WORDS = BOX_COLUMNS / 2;
    uint32_t sum = 0;
    for (uint64_t i = 0; i < set.bytes / 4; i++) {
        const uint32_t row = static_cast<uint32_t>(i / ROW_WORDS) % box_rows, column = i % ROW_WORDS % BOX_WORDS;
        sum += hash_word(static_cast<uint32_t>(i)) * (2 * (row * BOX_WORDS + column) + 1);
    }
    return sum;
}

void l2_by_tma(Gpu& gpu, const L2Set& set, unsigned rows, unsigned cluster, uint32_t share, uint32_t expected) {
    const Module& module = gpu.hopper();
    const CUfunction f = gpu.function(module, "l2_tma_" + std::to_string(rows) + "_" + std::to_string(cluster));
    constexpr unsigned THREADS = (TMA_CONSUMER_WARPS + 1) * 32, SHARED = ALIGNMENT + TMA_SLOT_BYTES + 1024;
    gpu.dynamic_shared(f, SHARED);
    const CUtensorMap map = box_map(set, rows / cluster);
    const unsigned clusters = cluster == 1 ? gpu.multiprocessors : active_clusters(gpu, f, cluster, THREADS, SHARED);
    if (clusters == 0) throw Absent("no such cluster fits");
    const unsigned ctas = std::min(clusters * cluster, gpu.blocks() / cluster * cluster);
    const uint32_t passes = 1, boxes = static_cast<uint32_t>(set.bytes / (rows * BOX_COLUMNS * 2));
    Memory sums(ctas * 4);
    gpu.zero(sums, ctas);
    CUlaunchAttribute attribute = cluster_of(cluster);
    const auto run = [&](uint32_t look) {
        const unsigned used = cluster > 1 ? 1 : 0;
        check(gpu.launch_with(&attribute, used, f, ctas, THREADS, SHARED, map, boxes, passes, share, sums.at, look),
              "cuLaunchKernelEx");
    };
    run(1);
    gpu.synchronize();
    expect_sums(sums, ctas, expected, "l2_tma");
    const Timing timing = gpu.time([&] { run(0); });
    say(l2_params(cluster > 1 ? "TMA, multicast" : "TMA", set, ctas, share, module.image)
            .with("box_columns", BOX_COLUMNS).with("box_rows", rows).with("cluster", cluster)
            .with("in_flight_kb", TMA_SLOT_BYTES / 1024).with("read_from_l2", 1.0 / cluster),
        rates(timing, ctas * passes * (set.bytes / 1e3)), "GB/s", timing.mhz);
}

// GB/s as they arrive in the multiprocessors; with multicast, the L2 reads 1 / cluster of it.
void probe_l2(Gpu& gpu) {
    const L2Set set(gpu);
    const auto attempt = [&](const char* how, uint32_t share, const std::function<void()>& part) {
        try {
            part();
        } catch (const Absent& why) {
            say_absent(Params().with("how", how).with("share", share), why.what());
        }
    };
    for (uint32_t share : {1u, 8u}) {
        attempt("ld", share, [&] { l2_by_loads(gpu, set, share); });
        attempt("cp.async", share, [&] { l2_by_cp_async(gpu, set, share); });
    }
    gpu.hopper();
    for (unsigned rows : {128u, 256u}) {
        const uint32_t expected = weighed_sum(set, rows);
        for (unsigned cluster : {1u, 2u, 4u}) {
            for (uint32_t share : {1u, 8u}) {
                attempt("TMA", share, [&] { l2_by_tma(gpu, set, rows, cluster, share, expected); });
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- latency

void probe_latency(Gpu& gpu) {
    constexpr uint32_t A = 1664525, C = 1013904223;
    const CUfunction fill = gpu.function(gpu.portable, "fill_chase"), chase = gpu.function(gpu.portable, "chase");
    Memory state(16);
    struct Case {
        const char* where;
        uint64_t bytes;
    };
    const std::vector<Case> all = {{"L2", 4 << 20}, {"L2", 16 << 20}, {"L2", 32 << 20}, {"HBM", 1 << 30}};
    const std::vector<Case> few = {{"L2", 64 << 10}};
    for (const Case& at : gpu.dry ? few : all) {
        const uint32_t lines = static_cast<uint32_t>(at.bytes / LINE_BYTES), steps = gpu.dry ? 200 : 20000;
        Memory memory(at.bytes);
        gpu.launch(fill, gpu.blocks(8), 256, 0, memory.at, lines, A, C);
        gpu.synchronize();
        gpu.zero(state, 4);
        uint64_t made = 0;
        const Timing timing = gpu.time([&] {
            gpu.launch(chase, 1, 1, 0, memory.at, steps, state.at);
            made += steps;
        });
        uint32_t line = 0;
        for (uint64_t i = 0; i < made; i++) line = (A * line + C) & (lines - 1);
        const std::vector<uint64_t> end = state.read<uint64_t>(2);
        expect(end[0] == uint64_t(line) * LINE_BYTES, "chase");
        std::vector<double> ns;
        for (double us : timing.us) ns.push_back(us * 1000 / steps);
        say(Params().with("where", at.where).with("mb", at.bytes / 1e6).with("steps", steps)
                .with("clocks", double(end[1]) / steps).with("image", gpu.portable.image),
            ns, "ns", timing.mhz);
    }
}

// ---------------------------------------------------------------------------------------- copy

// Page-locked memory that kernels see, too.
class Pinned {
public:
    explicit Pinned(size_t bytes) : count(bytes / 4) {
        void* memory = nullptr;
        check(cuda.cuMemHostAlloc(&memory, bytes, CU_MEMHOSTALLOC_DEVICEMAP), "cuMemHostAlloc");
        words = static_cast<uint32_t*>(memory);
        check(cuda.cuMemHostGetDevicePointer(&device, words, 0), "cuMemHostGetDevicePointer");
    }
    ~Pinned() { cuda.cuMemFreeHost(words); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;

    void set(bool zeros) {
        for (size_t i = 0; i < count; i++) words[i] = zeros ? 0 : hash_word(static_cast<uint32_t>(i));
    }
    void expect_set(const std::string& what) const {
        for (size_t i = 0; i < count; i++) expect(words[i] == hash_word(static_cast<uint32_t>(i)), what);
    }

    uint32_t* words = nullptr;
    CUdeviceptr device = 0;
    size_t count;
};

void copies(Gpu& gpu, size_t bytes, bool to_gpu) {
    Pinned host(bytes);
    Memory memory(bytes);
    const CUfunction mapped = gpu.function(gpu.portable, "copy_mapped");
    const uint32_t chunks = static_cast<uint32_t>(bytes / 16);
    const auto plain = [&] {
        check(to_gpu ? cuda.cuMemcpyHtoDAsync(memory.at, host.words, bytes, gpu.stream)
                     : cuda.cuMemcpyDtoHAsync(host.words, memory.at, bytes, gpu.stream), "cuMemcpyAsync");
    };
    const Graph graph(gpu, plain);
    const auto by_kernel = [&](unsigned ctas) {
        if (to_gpu) gpu.launch(mapped, ctas, 256, 0, host.device, memory.at, chunks);
        else gpu.launch(mapped, ctas, 256, 0, memory.at, host.device, chunks);
    };
    const unsigned ctas = gpu.blocks();
    const std::pair<const char*, std::function<void()>> ways[] = {
        {"copy", plain},
        {"copy in a graph", [&] { graph.launch(gpu); }},
        {"kernel on mapped memory", [&] { by_kernel(ctas); }},
        {"kernel on mapped memory, 16 CTAs", [&] { by_kernel(gpu.dry ? 2 : 16); }},
    };
    for (const auto& [how, work] : ways) {
        // The one side holds the words, the other zeros; the way must bring them over.
        host.set(!to_gpu);
        if (to_gpu) gpu.zero(memory, bytes / 4);
        else gpu.fill(memory, bytes / 4, ANY_WORD);
        work();
        gpu.synchronize();
        if (to_gpu) expect_words(memory, bytes / 4, ANY_WORD, how);
        else host.expect_set(how);
        for (bool by_host : {true, false}) {
            const Timing timing = gpu.time_alone(work, by_host);
            say(Params().with("how", how).with("direction", to_gpu ? "to GPU" : "to host").with("mb", bytes / 1e6)
                    .with("clock", by_host ? "host" : "events").with("image", gpu.portable.image),
                timing.us, "us", timing.mhz);
        }
    }
}

// The mask of 480×480 pixels in 16 bits, its photo, and a photo of 640×480.
void probe_copy(Gpu& gpu) {
    for (size_t bytes : {size_t(480 * 480 * 2), size_t(480 * 480 * 3), size_t(640 * 480 * 3)}) {
        for (bool to_gpu : {true, false}) copies(gpu, gpu.dry ? bytes / 64 : bytes, to_gpu);
    }
}

} // namespace
