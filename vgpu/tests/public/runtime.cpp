// The CUDA runtime's functions that a program's host code calls, on the driver: its kernels come from a module that the test loads.
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <string>
#include <cuda.h>

static CUmodule module_in_use;
static std::map<const void*, std::string>& names() { static std::map<const void*, std::string> all; return all; }
static std::map<const void*, int> shared;
static CUresult last;
template <typename F> static F* driver(const char* name) {
    return reinterpret_cast<F*>(dlsym(dlopen("libcuda.so", RTLD_LAZY | RTLD_NOLOAD), name));
}

struct Size { unsigned x, y, z; };
struct Call { Size grid, block; size_t shared; void* stream; } call;

extern "C" {
void use_module(CUmodule module) { module_in_use = module; }
int last_error() { return last; }
void** __cudaRegisterFatBinary(void*) { static void* handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*, void*, void*, int*) {
    names()[host] = name;
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 1; }
int __cudaGetKernel(const void** kernel, const void* host) { return *kernel = host, 0; }
unsigned __cudaPushCallConfiguration(Size grid, Size block, size_t shared, void* stream) {
    call = {grid, block, shared, stream};
    return 0;
}
int __cudaPopCallConfiguration(Size* grid, Size* block, size_t* shared, void* stream) {
    *grid = call.grid, *block = call.block, *shared = call.shared, *static_cast<void**>(stream) = call.stream;
    return 0;
}
int cudaDriverGetVersion(int* version) { return driver<decltype(cuDriverGetVersion)>("cuDriverGetVersion")(version); }
int cudaGetDevice(int* device) { return *device = 0; }
int cudaGetLastError() { return last; }
int cudaPeekAtLastError() { return last; }
const char* cudaGetErrorString(int) { return "see last_error"; }
int cudaFuncSetAttribute(const void* function, int, int value) { shared[function] = value; return 0; }
int cudaDeviceGetAttribute(int* value, int attribute, int) {
    return driver<decltype(cuDeviceGetAttribute)>("cuDeviceGetAttribute")(value, CUdevice_attribute(attribute), 0);
}
int cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long, int* found) {
    *function = reinterpret_cast<void*>(driver<int>(name));
    if (found) *found = 0;
    return *function ? 0 : 1;
}
int cudaLaunchKernel(const void* host, Size grid, Size block, void** arguments, size_t bytes, void* stream) {
    const auto find = driver<decltype(cuModuleGetFunction)>("cuModuleGetFunction");
    const auto allow = driver<decltype(cuFuncSetAttribute)>("cuFuncSetAttribute");
    const auto launch = driver<decltype(cuLaunchKernel)>("cuLaunchKernel");
    CUfunction kernel;
    last = find(&kernel, module_in_use, names()[host].c_str());
    if (!last) last = allow(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared[host]);
    if (!last)
        last = launch(kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z, bytes, static_cast<CUstream>(stream), arguments,
                      nullptr);
    return last;
}

int __cudaLaunchKernel(const void* kernel, Size grid, Size block, void** arguments, size_t bytes, void* stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, bytes, stream);
}

struct Config { Size grid, block; size_t shared; void* stream; void* attributes; unsigned count; };
int cudaLaunchKernelExC(const Config* config, const void* host, void** arguments) {
    return cudaLaunchKernel(host, config->grid, config->block, arguments, config->shared, config->stream);
}
}
