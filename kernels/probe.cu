// What measuring needs beside the operations: an empty L2 cache, and the clock that the multiprocessors run at.

#include "common.cuh"

struct EvictParams {
    const uint4* from;
    uint64_t chunks;
    uint32_t* out;
};

// Reads `chunks` times 16 bytes, none of which is dirty then: a cache that is filled by writing would have to write them back
// in the time of the kernel that is measured. Nothing is written unless the bytes' exclusive or has one value of 2^32.
// Launch: 256 threads, as many blocks as one likes.
SPEC(evict, Spec())
extern "C" __global__ void __launch_bounds__(256) evict(const __grid_constant__ EvictParams p) {
    begin_kernel();
    uint32_t sum = 0;
    const uint64_t step = static_cast<uint64_t>(gridDim.x) * 256;
    for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * 256 + threadIdx.x; i < p.chunks; i += step) {
        const uint4 v = p.from[i];
        sum ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (sum == 0x5eed1e55) *p.out = sum;
}

struct SmClockParams {
    uint64_t* out; // clocks, nanoseconds
    uint64_t nanoseconds;
};

// Clocks that pass while so many nanoseconds do, as the first thread sees it.  Launch: 32 threads.
SPEC(sm_clock, Spec())
extern "C" __global__ void __launch_bounds__(32) sm_clock(const __grid_constant__ SmClockParams p) {
    begin_kernel();
    auto now = [] {
        uint64_t t;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t) :: "memory");
        return t;
    };
    const uint64_t begin = now();
    const long long first = clock64();
    uint64_t end = begin;
    while (end - begin < p.nanoseconds) end = now();
    const long long last = clock64();
    if (threadIdx.x == 0) {
        p.out[0] = last - first;
        p.out[1] = end - begin;
    }
}
