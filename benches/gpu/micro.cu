// Microbenchmarks of an NVIDIA GPU, Hopper (H100, H200) above all: memory, tensor cores, what lies between two kernels.
// One source, with its parts in micro/: nvcc compiles its device half, g++ its host half. The host half opens the driver
// (libcuda.so.1) by hand and needs neither cudart nor any library but libdl.
//
// Build (CUDA 12.3 or newer; INC: the folder of cuda.h; DIR exists):
//
//   NVCC=/usr/local/cuda/bin/nvcc; CXX=g++; INC=/usr/local/cuda/include; SRC=micro.cu; DIR=.; ARCH=90
//   CU="$NVCC -O3 -std=c++17"
//   $CU -cubin -gencode arch=compute_90a,code=sm_90a -DMICRO_HOPPER -o $DIR/micro_hopper.sm_90a.cubin $SRC
//   $CU -cubin -gencode arch=compute_$ARCH,code=sm_$ARCH -o $DIR/micro_portable.sm_$ARCH.cubin $SRC
//   $CU -ptx -arch=compute_80 -o $DIR/micro_portable.ptx $SRC
//   $CXX -O2 -std=c++17 -Wall -Wextra -x c++ -I$INC -o $DIR/micro $SRC -ldl
//
// ARCH is the GPU's own (89, …): without its cubin the driver compiles the PTX, and every line says so ("image"). The
// first cubin loads on compute capability 9.0 alone; elsewhere what needs it is absent. With -Xptxas -v there must be
// no warning (C7510: "wgmma serialized") and no spill.
//
// Run:  micro --list                                      name, most seconds, what
//       micro --modules DIR PROBE... [--dry] [--out DIR]  best one process a probe: a fault spoils the process
//
// Each measurement is one line of JSON on stdout:
//   {"probe","params":{...},"median","min","max","unit","sm_mhz"}  min, max: of repetitions, in `unit`; null: unknown
//   {"probe","params":{...},"absent":"why"}                        cannot run here (`params` or not); no failure
//   {"probe","error":"why"}                                        then the exit status is 1
// sm_mhz is the clock of a multiprocessor right after the timed work, %clock64 against %globaltimer over 200 µs.
// A time is printed only if the kernel's results were right. --dry: tiny sizes, no warming up, for a virtual GPU, where
// times mean nothing; what needs Hopper is absent there, but its cubin must exist.

#if defined(MICRO_HOPPER)
#include "micro/hopper.cuh"
#elif defined(__CUDACC__)
#include "micro/portable.cuh"
#else
#include "micro/bits.h"
#include "micro/gelu.h"
#include "micro/launches.h"
#include "micro/memory.h"
#include "micro/peak.h"

// Which probes there are.

namespace {

struct Probe {
    const char* name;
    unsigned seconds; // most that it takes; then it is ended
    const char* what;
    void (*run)(Gpu&);
};

const Probe PROBES[] = {
    {"hbm", 15, "device memory: read, write, copy 1 GB", probe_hbm},
    {"l2", 20, "L2 to multiprocessors, one CTA each, a set of 20 MiB: ld, cp.async, TMA, TMA multicast", probe_l2},
    {"latency", 15, "pointer chase in L2 and device memory", probe_latency},
    {"peak", 25, "tensor cores: mma.sync, wgmma f16, e4m3, s8, random data", probe_peak},
    {"edge", 25, "time between the 200 kernels of a graph: plain, programmatic, shared memory, carve-out", probe_edge},
    {"gridbar", 10, "barrier of the whole grid", probe_gridbar},
    {"clusters", 10, "clusters of 2, 4, 8, 16 that run at once", probe_clusters},
    {"copy", 25, "0.46, 0.69 and 0.92 MB between page-locked memory and GPU", probe_copy},
    {"gelu", 10, "GELU by erff and by short polynomials", probe_gelu},
    {"bits", 15, "results of wgmma and mma bit by bit: writes wgmma_bits.bin", probe_bits},
};

char late_line[256]; // printed by the signal's handler, so made before

void end_late(int) {
    const ssize_t written = write(STDOUT_FILENO, late_line, std::strlen(late_line));
    _exit(written < 0 ? 3 : 1);
}

// Whether it went well; what is absent did.
bool run_probe(const Probe& probe, std::unique_ptr<Gpu>& gpu, const std::string& modules, const std::string& out,
               bool dry) {
    current_probe = probe.name;
    const unsigned seconds = dry ? 60 : probe.seconds;
    std::snprintf(late_line, sizeof late_line, "{\"probe\":\"%s\",\"error\":\"not done after %u s\"}\n", probe.name,
                  seconds);
    signal(SIGALRM, end_late);
    alarm(seconds);
    bool good = true;
    try {
        if (!gpu) gpu = std::make_unique<Gpu>(modules, out, dry);
        probe.run(*gpu);
    } catch (const Absent& why) {
        print_line("\"absent\":" + quoted(why.what()));
    } catch (const std::exception& why) {
        print_line("\"error\":" + quoted(why.what()));
        good = false;
    }
    alarm(0);
    return good;
}

int usage(const char* why) {
    std::fprintf(stderr, "%s\nmicro --list\nmicro --modules DIR PROBE... [--dry] [--out DIR]\n", why);
    return 2;
}

} // namespace

int main(int count, char** arguments) {
    std::string modules, out = ".";
    bool dry = false, list = false;
    std::vector<const Probe*> chosen;
    for (int i = 1; i < count; i++) {
        const std::string word = arguments[i];
        if (word == "--dry") dry = true;
        else if (word == "--list") list = true;
        else if (word == "--modules" && i + 1 < count) modules = arguments[++i];
        else if (word == "--out" && i + 1 < count) out = arguments[++i];
        else {
            const auto named = [&](const Probe& p) { return word == p.name; };
            const Probe* probe = std::find_if(std::begin(PROBES), std::end(PROBES), named);
            if (probe == std::end(PROBES)) return usage(("unknown: " + word).c_str());
            chosen.push_back(probe);
        }
    }
    if (list) {
        for (const Probe& probe : PROBES) std::printf("%s\t%u\t%s\n", probe.name, probe.seconds, probe.what);
        return 0;
    }
    if (modules.empty() || chosen.empty()) return usage("--modules and a probe are needed");
    std::unique_ptr<Gpu> gpu;
    bool good = true;
    for (const Probe* probe : chosen) good &= run_probe(*probe, gpu, modules, out, dry);
    std::fflush(stdout);
    // A context that a fault has spoiled is better left to the process's end than taken down.
    _exit(good ? 0 : 1);
}

#endif
