// cp.async: bytes on their way. One warp.

#include "faults.cuh"

FAULT_KERNEL(async_load_in_flight) {
    __shared__ __align__(16) uint4 s[32];
    ptx::cp_async(s + threadIdx.x, in + 4 * threadIdx.x);
    ptx::cp_async_commit();
    if (!fault) ptx::cp_async_wait<0>();
    out[threadIdx.x] = s[threadIdx.x].x; // fault: async_load_in_flight
    ptx::cp_async_wait<0>();
}

// The newest group may still be under way.
FAULT_KERNEL(async_wait_for_too_few) {
    __shared__ __align__(16) uint4 s[2][16];
    if (threadIdx.x < 16) {
        for (int stage = 0; stage < 2; stage++) {
            ptx::cp_async(&s[stage][threadIdx.x], in + 64 * stage + 4 * threadIdx.x);
            ptx::cp_async_commit();
        }
        ptx::cp_async_wait<1>();
        out[threadIdx.x] = s[fault][threadIdx.x].x; // fault: async_wait_for_too_few
        ptx::cp_async_wait<0>();
    }
}

FAULT_KERNEL(async_store_in_flight) {
    __shared__ __align__(16) uint4 s[32];
    ptx::cp_async(s + threadIdx.x, in + 4 * threadIdx.x);
    ptx::cp_async_commit();
    if (!fault) ptx::cp_async_wait<0>();
    s[threadIdx.x] = make_uint4(0, 0, 0, 0); // fault: async_store_in_flight
    ptx::cp_async_wait<0>();
}

FAULT_KERNEL(async_pending_at_exit) {
    __shared__ __align__(16) uint4 s[32];
    ptx::cp_async(s + threadIdx.x, in + 4 * threadIdx.x);
    ptx::cp_async_commit();
    if (fault) return;
    ptx::cp_async_wait<0>();
}

FAULT_KERNEL(async_past_end) {
    __shared__ __align__(16) uint4 s[32];
    const uint32_t to = ptx::shared_address(s + threadIdx.x);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(in + 4 * threadIdx.x + fault * 192) : "memory"); // fault: async_past_end
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
}

FAULT_KERNEL(async_misaligned) {
    __shared__ __align__(16) uint4 s[32];
    const uint32_t to = ptx::shared_address(s + threadIdx.x);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(in + 4 * threadIdx.x + fault) : "memory"); // fault: async_misaligned
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
}

// Two warps: the second reads what the first has waited for, without a barrier between.
FAULT_KERNEL(async_without_barrier) {
    __shared__ __align__(16) uint4 s[32];
    if (threadIdx.x < 32) {
        ptx::cp_async(s + threadIdx.x, in + 4 * threadIdx.x);
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
    }
    if (!fault) __syncthreads();
    if (threadIdx.x >= 32) out[threadIdx.x] = s[threadIdx.x - 32].x; // fault: async_without_barrier
}
