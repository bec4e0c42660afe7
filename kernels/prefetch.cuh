// Memory that the kernels behind this one read first, brought to the L2 cache while this one leaves it idle: attention computes for
// 10 µs and reads 7 MB, the products behind it wait for 10 MB of weights. From compute capability 9.0 on, where one instruction
// asks for any number of bytes.
#pragma once

#include "common.cuh"

struct Prefetch {
    uint64_t address; // a multiple of 16
    uint64_t bytes;   // a multiple of 16
};

constexpr int PREFETCHES = 2;

// Each block asks for its share, by one thread. Weights are nobody's result: it may come before `begin_kernel`.
__device__ __forceinline__ void prefetch(const Prefetch (&all)[PREFETCHES]) {
#if __CUDA_ARCH__ >= 900
    constexpr uint64_t LINE = 128;
    if (threadIdx.x != 0) return;
    const uint32_t blocks = gridDim.x * gridDim.y, block = blockIdx.y * gridDim.x + blockIdx.x;
#pragma unroll
    for (const Prefetch& next : all) {
        const uint64_t share = ((next.bytes + blocks - 1) / blocks + LINE - 1) / LINE * LINE;
        const uint64_t begin = share * block, end = begin + share;
        const uint64_t last = end < next.bytes ? end : next.bytes;
        if (begin < last) ptx::prefetch_l2(next.address + begin, static_cast<uint32_t>(last - begin));
    }
#endif
}
