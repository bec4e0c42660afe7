// The host half: the driver, opened by hand.

#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <signal.h>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "shared.h"

namespace {

// The macros of cuda.h turn names into those with a version (cuMemAlloc_v2): members and what is looked up are these.
#define REQUIRED(X) \
    X(cuInit) X(cuDeviceGet) X(cuDeviceGetName) X(cuDeviceGetAttribute) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent) \
    X(cuModuleLoadData) X(cuModuleGetFunction) X(cuFuncSetAttribute) X(cuMemAlloc) X(cuMemFree) X(cuMemHostAlloc) \
    X(cuMemFreeHost) X(cuMemHostGetDevicePointer) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyHtoDAsync) \
    X(cuMemcpyDtoHAsync) X(cuMemcpyDtoDAsync) X(cuMemsetD32Async) X(cuStreamCreate) X(cuStreamSynchronize) \
    X(cuEventCreate) X(cuEventRecord) X(cuEventDestroy) X(cuLaunchKernel) X(cuLaunchCooperativeKernel) \
    X(cuStreamBeginCapture) X(cuStreamEndCapture) \
    X(cuGraphInstantiateWithFlags) X(cuGraphLaunch) X(cuGraphUpload) X(cuGraphDestroy) X(cuGraphExecDestroy) \
    X(cuGetErrorName)

// Newer drivers only; null where they are missing.
#define OPTIONAL(X) X(cuLaunchKernelEx) X(cuOccupancyMaxActiveClusters) X(cuTensorMapEncodeTiled)

#define AS_TEXT(name) #name
#define NAME_OF(name) AS_TEXT(name)
#define MEMBER(name) decltype(&::name) name = nullptr;

struct Driver {
    REQUIRED(MEMBER)
    OPTIONAL(MEMBER)
    // Two that changed their names, but not their types: 12.8 and 13.0's headers.
    CUresult (*elapsed)(float*, CUevent, CUevent) = nullptr;
    CUresult (*edges)(CUgraph, CUgraphNode*, CUgraphNode*, CUgraphEdgeData*, size_t*) = nullptr;
};

Driver cuda;

void open_driver() {
    void* library = nullptr;
    for (const char* name : {"libcuda.so.1", "libcuda.so"}) {
        if (!library) library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    }
    if (!library) throw std::runtime_error(std::string("no CUDA driver: ") + dlerror());
    const auto find = [&](auto& function, const char* name, bool required) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
        if (!function && required) throw std::runtime_error(std::string("the CUDA driver has no ") + name);
    };
#define FIND_REQUIRED(name) find(cuda.name, NAME_OF(name), true);
#define FIND_OPTIONAL(name) find(cuda.name, NAME_OF(name), false);
    REQUIRED(FIND_REQUIRED)
    OPTIONAL(FIND_OPTIONAL)
    find(cuda.elapsed, "cuEventElapsedTime_v2", false);
    if (!cuda.elapsed) find(cuda.elapsed, "cuEventElapsedTime", true);
    find(cuda.edges, "cuGraphGetEdges_v2", false);
}

std::string name_of(CUresult code) {
    const char* name = nullptr;
    if (cuda.cuGetErrorName && cuda.cuGetErrorName(code, &name) == CUDA_SUCCESS && name) return name;
    return "CUDA error " + std::to_string(static_cast<int>(code));
}

void check(CUresult code, const char* what) {
    if (code != CUDA_SUCCESS) throw std::runtime_error(std::string(what) + ": " + name_of(code));
}

// A probe, or a part of one, that cannot run here.
struct Absent : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// For what this GPU or driver may not have.
void need(CUresult code, const char* what) {
    if (code != CUDA_SUCCESS) throw Absent(std::string(what) + ": " + name_of(code));
}

} // namespace
