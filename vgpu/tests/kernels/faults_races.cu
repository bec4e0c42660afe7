// Accesses that nothing orders.

#include "faults.cuh"

// Two warps. The first one's loads come before the second one's stores, or after: nobody knows.
FAULT_KERNEL(shared_store_without_barrier) {
    __shared__ unsigned s[64];
    s[threadIdx.x] = 0;
    __syncthreads();
    s[threadIdx.x] = threadIdx.x; // fault: shared_store_without_barrier
    if (!fault) __syncthreads();
    out[threadIdx.x] = s[63 - threadIdx.x];
}

// Two warps; a barrier follows the stores but none the loads.
FAULT_KERNEL(shared_reuse_without_barrier) {
    __shared__ unsigned s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    const unsigned value = s[63 - threadIdx.x]; // fault: shared_reuse_without_barrier
    if (!fault) __syncthreads();
    s[threadIdx.x] = value + 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

// Two warps; the barrier of one warp orders nothing between two.
FAULT_KERNEL(shared_syncwarp_for_syncthreads) {
    __shared__ unsigned s[64];
    s[threadIdx.x] = 0;
    __syncthreads();
    s[threadIdx.x] += threadIdx.x; // fault: shared_syncwarp_for_syncthreads
    if (fault) __syncwarp();
    else __syncthreads();
    out[threadIdx.x] = s[threadIdx.x ^ 32];
}

FAULT_KERNEL(shared_lanes_collide) {
    __shared__ unsigned s[32];
    s[fault ? threadIdx.x / 2 : threadIdx.x] = threadIdx.x; // fault: shared_lanes_collide
    __syncwarp();
    out[threadIdx.x] = s[0];
}

// Two blocks store to one word.
FAULT_KERNEL(global_stores_race) {
    if (threadIdx.x == 3) out[fault ? 0 : blockIdx.x] = blockIdx.x; // fault: global_stores_race
}

// Block 1 loads what block 0 stores.
FAULT_KERNEL(global_load_races) {
    if (blockIdx.x == 0) in[threadIdx.x] = 1;
    else out[threadIdx.x] = in[threadIdx.x + (fault ? 0 : 32)]; // fault: global_load_races
}

// One block counts in a word that others add to atomically.
FAULT_KERNEL(global_plain_and_atomic) {
    if (threadIdx.x != 0) return;
    if (blockIdx.x == 0 || !fault) atomicAdd(in, 1);
    else *in = 5; // fault: global_plain_and_atomic
}

FAULT_KERNEL(read_only_load_of_written) {
    in[threadIdx.x] = threadIdx.x;
    unsigned value;
    if (fault) asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(in + threadIdx.x) : "memory"); // fault: read_only_load_of_written
    else asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(in + threadIdx.x) : "memory");
    out[threadIdx.x] = value;
}
