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

// One warp: that its lanes go together is promised by __syncwarp alone.
FAULT_KERNEL(shared_lanes_without_syncwarp) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    if (!fault) __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1]; // fault: shared_lanes_without_syncwarp
}

// The loads of some lanes come before the stores of others, or after.
FAULT_KERNEL(shared_lanes_reuse_without_syncwarp) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    const unsigned value = s[threadIdx.x ^ 1];
    if (!fault) __syncwarp();
    s[threadIdx.x] = value; // fault: shared_lanes_reuse_without_syncwarp
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 3];
}

// A shuffle waits for its lanes but orders no memory.
FAULT_KERNEL(shared_lanes_shuffle_for_syncwarp) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    const unsigned value = __shfl_xor_sync(0xffffffff, threadIdx.x, 1);
    if (!fault) __syncwarp();
    out[threadIdx.x] = s[value]; // fault: shared_lanes_shuffle_for_syncwarp
}

// Each half of the warp is in order in itself: that is enough for a neighbour's word, not for one of the other half.
FAULT_KERNEL(shared_lanes_of_another_half) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp(threadIdx.x < 16 ? 0x0000ffff : 0xffff0000);
    out[threadIdx.x] = s[threadIdx.x ^ (fault ? 16 : 1)]; // fault: shared_lanes_of_another_half
}

FAULT_KERNEL(matrix_without_syncwarp) {
    __shared__ __align__(16) uint4 rows[32];
    rows[threadIdx.x] = make_uint4(0, 0, 0, 0);
    if (!fault) __syncwarp();
    uint32_t a[4];
    const uint32_t from = ptx::shared_address(&rows[threadIdx.x]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(from) : "memory"); // fault: matrix_without_syncwarp
    out[threadIdx.x] = a[0];
}

// wait_group makes a lane's own copies visible to itself alone.
FAULT_KERNEL(async_without_syncwarp) {
    __shared__ __align__(16) uint4 s[32];
    ptx::cp_async(s + threadIdx.x, in + 4 * threadIdx.x);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    if (!fault) __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1].x; // fault: async_without_syncwarp
}

// Nothing of this is a race: own words, words that all read, one word by turns under a lock, atomics, words that a matrix
// instruction has read.
FAULT_KERNEL(lanes_in_order) {
    __shared__ __align__(16) unsigned own[32], sum, guarded, lock;
    own[threadIdx.x] = in[threadIdx.x];
    own[threadIdx.x] += 1;
    if (threadIdx.x == 0) sum = guarded = lock = 0;
    __syncwarp();
    atomicAdd(&sum, own[threadIdx.x]);
    bool done = false;
    while (!done) {
        if (atomicCAS(&lock, 0, 1) == 0) {
            guarded += own[threadIdx.x];
            __threadfence_block();
            atomicExch(&lock, 0);
            done = true;
        }
    }
    __syncwarp();
    uint32_t row;
    const uint32_t from = ptx::shared_address(own + threadIdx.x % 8 * 4);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(row) : "r"(from) : "memory");
    own[threadIdx.x ^ 5] = row;
    __syncwarp();
    out[threadIdx.x] = sum + guarded + own[threadIdx.x];
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

// An atomic addition among the threads of a block, to which two blocks come.
FAULT_KERNEL(global_atomic_of_block_scope) {
    if (threadIdx.x != 0) return;
    if (!fault) atomicAdd(in, 1);
    else atomicAdd_block(in, 1); // fault: global_atomic_of_block_scope
}

// The second to come reads what the first left; a fence among the threads of a block is none to another.
FAULT_KERNEL(global_fence_of_block_scope) {
    if (threadIdx.x != 0) return;
    out[blockIdx.x] = blockIdx.x;
    if (fault) __threadfence_block();
    else __threadfence();
    if (atomicInc(in, 1) == 0) return;
    __threadfence();
    in[1] = out[1 - blockIdx.x]; // fault: global_fence_of_block_scope
}

// Every block reads what its neighbour writes; the lower its number, the later.
FAULT_KERNEL(global_neighbours_race) {
    unsigned value = 0;
    for (int i = 0; i < 1000 * (gridDim.x - blockIdx.x); i++) value += in[(threadIdx.x + i) % 32];
    out[blockIdx.x] = value;
    if (fault) out[blockIdx.x] = out[(blockIdx.x + 1) % gridDim.x]; // fault: global_neighbours_race
}

FAULT_KERNEL(read_only_load_of_written) {
    in[threadIdx.x] = threadIdx.x;
    unsigned value;
    if (fault) asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(in + threadIdx.x) : "memory"); // fault: read_only_load_of_written
    else asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(in + threadIdx.x) : "memory");
    out[threadIdx.x] = value;
}
