// Threads that wait for others that do not come, and other ways not to end.

#include "faults.cuh"

FAULT_KERNEL(barrier_in_divergent_code) {
    if (threadIdx.x < 16 || !fault) __syncthreads(); // fault: barrier_in_divergent_code
    out[threadIdx.x] = 1;
    __syncthreads();
}

// Two warps wait for each other at two barriers.
FAULT_KERNEL(barriers_deadlock) {
    if (threadIdx.x < 32 || !fault) asm volatile("bar.sync 1, 64;" ::: "memory"); // fault: barriers_deadlock
    __syncthreads();
    out[threadIdx.x] = 1;
}

FAULT_KERNEL(shuffle_by_a_non_member) {
    unsigned value;
    asm volatile("shfl.sync.bfly.b32 %0, %1, 1, 31, %2;"
                 : "=r"(value) : "r"(threadIdx.x), "r"(fault ? 0x0000ffff : 0xffffffff)); // fault: shuffle_by_a_non_member
    out[threadIdx.x] = value;
}

// Each half of the warp waits for the other at a shuffle of its own.
FAULT_KERNEL(shuffles_at_two_places) {
    unsigned value;
    if (threadIdx.x < 16 || !fault)
        asm volatile("shfl.sync.bfly.b32 %0, %1, 1, 31, 0xffffffff;" : "=r"(value) : "r"(threadIdx.x)); // fault: shuffles_at_two_places
    else
        asm volatile("shfl.sync.bfly.b32 %0, %1, 2, 31, 0xffffffff;" : "=r"(value) : "r"(threadIdx.x));
    out[threadIdx.x] = value;
}

FAULT_KERNEL(mma_in_divergent_code) {
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const uint32_t one = 0x3c003c00;
    if (threadIdx.x != 7 || !fault)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%4, %4}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(one)); // fault: mma_in_divergent_code
    out[threadIdx.x] = __float_as_uint(c[0]);
}

FAULT_KERNEL(trapped) {
    if (fault && threadIdx.x == 2) asm volatile("trap;"); // fault: trapped
    out[threadIdx.x] = 1;
}

// The report names whatever line the limit of instructions struck.
FAULT_KERNEL(endless) {
    volatile unsigned* flag = in;
    while (*flag < static_cast<unsigned>(fault)) { }
    out[threadIdx.x] = 1;
}
