// The host half: the GPU, its memory, and timed launches.

#pragma once

#include "lines.h"

namespace {

struct Module {
    CUmodule module = nullptr;
    std::string image; // "cubin sm_90", "PTX"
};

class Memory {
public:
    explicit Memory(size_t bytes) { check(cuda.cuMemAlloc(&at, bytes), "cuMemAlloc"); }
    ~Memory() { cuda.cuMemFree(at); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    template <typename T>
    void write(const std::vector<T>& from) {
        check(cuda.cuMemcpyHtoD(at, from.data(), from.size() * sizeof(T)), "cuMemcpyHtoD");
    }
    template <typename T>
    std::vector<T> read(size_t count, size_t first = 0) const {
        std::vector<T> to(count);
        check(cuda.cuMemcpyDtoH(to.data(), at + first * sizeof(T), count * sizeof(T)), "cuMemcpyDtoH");
        return to;
    }

    CUdeviceptr at = 0;
};

struct Timing {
    std::vector<double> us; // of one piece of work, each repetition
    double mhz = 0;
};

std::vector<char> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double now_ms() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Gpu {
public:
    Gpu(std::string folder, std::string out, bool is_dry)
        : modules(std::move(folder)), out_folder(std::move(out)), dry(is_dry) {
        open_driver();
        check(cuda.cuInit(0), "cuInit");
        check(cuda.cuDeviceGet(&device, 0), "cuDeviceGet");
        char text[256] = "";
        check(cuda.cuDeviceGetName(text, sizeof text, device), "cuDeviceGetName");
        name = text;
        is_virtual = name.rfind("Virtual GPU", 0) == 0;
        major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        CUcontext context;
        check(cuda.cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
        check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent");
        check(cuda.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
        load_portable();
        clocks = std::make_unique<Memory>(16);
    }

    int attribute(CUdevice_attribute which) const {
        int value = 0;
        check(cuda.cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
        return value;
    }

    // Grid of a kernel that fills the GPU: tiny where the blocks are run by a CPU.
    unsigned blocks(unsigned per_multiprocessor = 1) const { return dry ? 4 : multiprocessors * per_multiprocessor; }

    CUfunction function(const Module& from, const std::string& kernel) const {
        CUfunction f = nullptr;
        need(cuda.cuModuleGetFunction(&f, from.module, kernel.c_str()), ("kernel " + kernel).c_str());
        return f;
    }

    // The module of sm_90a kernels.
    const Module& hopper() {
        if (hopper_module.module) return hopper_module;
        const std::string path = modules + "/micro_hopper.sm_90a.cubin";
        const std::vector<char> image = read_file(path);
        if (image.empty() && (is_virtual || (major == 9 && minor == 0))) throw std::runtime_error(path + " is missing");
        if (is_virtual) return virtual_hopper();
        if (major != 9 || minor != 0) {
            throw Absent("needs compute capability 9.0, not " + std::to_string(major) + "." + std::to_string(minor));
        }
        check(cuda.cuModuleLoadData(&hopper_module.module, image.data()), path.c_str());
        hopper_module.image = "cubin sm_90a";
        return hopper_module;
    }

    void dynamic_shared(CUfunction f, unsigned bytes) const {
        if (bytes <= 48 * 1024) return;
        need(cuda.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(bytes)),
             (std::to_string(bytes) + " bytes of shared memory").c_str());
    }

    // The arguments' types must be the kernel's own.
    template <typename... Arguments>
    void launch(CUfunction f, unsigned grid, unsigned block, unsigned shared, const Arguments&... arguments) const {
        void* each[] = {address(arguments)...};
        check(cuda.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, stream, each, nullptr), "cuLaunchKernel");
    }

    template <typename... Arguments>
    CUresult launch_with(CUlaunchAttribute* attributes, unsigned count, CUfunction f, unsigned grid, unsigned block,
                         unsigned shared, const Arguments&... arguments) const {
        if (!cuda.cuLaunchKernelEx) return CUDA_ERROR_NOT_SUPPORTED;
        void* each[] = {address(arguments)...};
        CUlaunchConfig config = {};
        config.gridDimX = grid, config.gridDimY = 1, config.gridDimZ = 1;
        config.blockDimX = block, config.blockDimY = 1, config.blockDimZ = 1;
        config.sharedMemBytes = shared, config.hStream = stream;
        config.attrs = attributes, config.numAttrs = count;
        return cuda.cuLaunchKernelEx(&config, f, each, nullptr);
    }

    void synchronize() const { check(cuda.cuStreamSynchronize(stream), "cuStreamSynchronize"); }

    void fill(const Memory& memory, uint64_t words, uint32_t mask) const {
        launch(function(portable, "fill_words"), blocks(8), 256, 0, memory.at, words, mask);
        synchronize();
    }

    void zero(const Memory& memory, size_t words) const {
        check(cuda.cuMemsetD32Async(memory.at, 0, words, stream), "cuMemsetD32Async");
        synchronize();
    }

    // Runs `work` until the clocks are up: 300 ms the first time, less when the GPU was busy just before. The time of
    // one run as the host sees it, in µs.
    double warm_up(const std::function<void()>& work) {
        const double enough = dry ? 0 : is_warm ? 80 : 300, begin = now_ms();
        double us = 0;
        for (int runs = 1; ; runs = std::min(2 * runs, 4096)) {
            const double batch = now_ms();
            for (int i = 0; i < runs; i++) work();
            synchronize();
            us = (now_ms() - batch) * 1000 / runs;
            if (now_ms() - begin >= enough) break;
            if (us * 2 * runs > 100000) runs = std::max(1, runs / 2);
        }
        is_warm = true;
        return us;
    }

    // The repetitions follow each other without a pause, each about `ms` long, then the clock is measured.
    Timing time(const std::function<void()>& work, double ms = 5, int repetitions = 9) {
        const double estimate = warm_up(work);
        const int runs = dry ? 1 : std::clamp(static_cast<int>(ms * 1000 / std::max(estimate, 0.5)), 1, 2000);
        if (dry) repetitions = 2;
        std::vector<CUevent> events(repetitions + 1);
        for (CUevent& event : events) check(cuda.cuEventCreate(&event, CU_EVENT_DEFAULT), "cuEventCreate");
        check(cuda.cuEventRecord(events[0], stream), "cuEventRecord");
        for (int r = 0; r < repetitions; r++) {
            for (int i = 0; i < runs; i++) work();
            check(cuda.cuEventRecord(events[r + 1], stream), "cuEventRecord");
        }
        Timing timing;
        timing.mhz = clock_mhz();
        for (int r = 0; r < repetitions; r++) timing.us.push_back(elapsed_us(events[r], events[r + 1]) / runs);
        for (CUevent event : events) cuda.cuEventDestroy(event);
        return timing;
    }

    // One at a time, with the host waiting for each: `host` by its clock, else by events around it.
    Timing time_alone(const std::function<void()>& work, bool host) {
        warm_up(work);
        CUevent begin, end;
        check(cuda.cuEventCreate(&begin, CU_EVENT_DEFAULT), "cuEventCreate");
        check(cuda.cuEventCreate(&end, CU_EVENT_DEFAULT), "cuEventCreate");
        Timing timing;
        for (int r = 0; r < (dry ? 2 : 50); r++) {
            const double before = now_ms();
            if (!host) check(cuda.cuEventRecord(begin, stream), "cuEventRecord");
            work();
            if (!host) check(cuda.cuEventRecord(end, stream), "cuEventRecord");
            synchronize();
            timing.us.push_back(host ? (now_ms() - before) * 1000 : elapsed_us(begin, end));
        }
        timing.mhz = clock_mhz();
        cuda.cuEventDestroy(begin);
        cuda.cuEventDestroy(end);
        return timing;
    }

    // Waits for the stream, too. 0: unknown.
    double clock_mhz() const {
        const uint64_t ns = dry ? 100 : 200000;
        const uint32_t limit = dry ? 1000 : 1 << 22;
        launch(function(portable, "clock_probe"), 1, 32, 0, clocks->at, ns, limit);
        synchronize();
        const std::vector<uint64_t> passed = clocks->read<uint64_t>(2);
        return is_virtual || passed[1] == 0 ? 0 : 1000.0 * passed[0] / passed[1];
    }

    std::string modules, out_folder;
    bool dry;
    bool is_virtual = false;
    CUdevice device = 0;
    CUstream stream = nullptr;
    std::string name;
    int major = 0, minor = 0;
    unsigned multiprocessors = 0;
    Module portable;

private:
    // A cubin for this very GPU, else PTX.
    // The virtual GPU runs PTX alone: micro_hopper.ptx, as the cubin but for `-ptx -arch=compute_90a`, by hand.
    const Module& virtual_hopper() {
        std::vector<char> ptx = read_file(modules + "/micro_hopper.ptx");
        if (ptx.empty()) throw Absent("not on the virtual GPU");
        ptx.push_back(0);
        check(cuda.cuModuleLoadData(&hopper_module.module, ptx.data()), "micro_hopper.ptx");
        hopper_module.image = "PTX";
        return hopper_module;
    }

    void load_portable() {
        const std::string arch = "sm_" + std::to_string(major) + std::to_string(minor);
        std::string refused = "no " + modules + "/micro_portable." + arch + ".cubin";
        const std::vector<char> cubin = read_file(modules + "/micro_portable." + arch + ".cubin");
        if (!cubin.empty()) {
            const CUresult code = cuda.cuModuleLoadData(&portable.module, cubin.data());
            portable.image = "cubin " + arch;
            if (code == CUDA_SUCCESS) return;
            refused = "its cubin: " + name_of(code);
        }
        std::vector<char> ptx = read_file(modules + "/micro_portable.ptx");
        if (ptx.empty()) throw std::runtime_error(refused + "; no " + modules + "/micro_portable.ptx either");
        ptx.push_back(0);
        check(cuda.cuModuleLoadData(&portable.module, ptx.data()), (refused + "; micro_portable.ptx").c_str());
        portable.image = "PTX";
    }

    template <typename T>
    static void* address(const T& argument) {
        return const_cast<void*>(static_cast<const void*>(&argument));
    }

    static double elapsed_us(CUevent from, CUevent to) {
        float ms = 0;
        check(cuda.elapsed(&ms, from, to), "cuEventElapsedTime");
        return ms * 1000.0;
    }

    bool is_warm = false;
    Module hopper_module;
    std::unique_ptr<Memory> clocks;
};

std::vector<double> rates(const Timing& timing, double amount_per_us) {
    std::vector<double> out;
    for (double us : timing.us) out.push_back(amount_per_us / us);
    return out;
}

void expect(bool right, const std::string& what) {
    if (!right) throw std::runtime_error("wrong results, so no times: " + what);
}

// The sum of fill_words' words, mod 2^32.
uint32_t sum_of_words(uint64_t words, uint32_t mask) {
    const uint64_t period = std::min<uint64_t>(words, uint64_t(mask) + 1);
    uint32_t sum = 0;
    for (uint64_t i = 0; i < period; i++) sum += hash_word(static_cast<uint32_t>(i));
    return static_cast<uint32_t>(words / period) * sum;
}

// Whether a window of memory holds fill_words' words.
void expect_words(const Memory& memory, uint64_t words, uint32_t mask, const std::string& what) {
    const uint64_t window = std::min<uint64_t>(words, 1 << 18);
    for (uint64_t first : {uint64_t(0), (words - window) / 2, words - window}) {
        const std::vector<uint32_t> got = memory.read<uint32_t>(window, first);
        for (uint64_t i = 0; i < window; i++) {
            if (got[i] == hash_word(static_cast<uint32_t>(first + i) & mask)) continue;
            expect(false, what + ", word " + std::to_string(first + i));
        }
    }
}

} // namespace
