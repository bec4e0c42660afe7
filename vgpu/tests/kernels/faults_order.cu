// Accesses of global memory that nothing orders, among the warps of a block; locks; barriers of too few lanes.

#include "faults.cuh"

// Two warps of one block exchange words through global memory.
FAULT_KERNEL(block_stores_and_reads) {
    out[threadIdx.x] = threadIdx.x; // other: block_stores_and_reads
    if (!fault) __syncthreads();
    in[threadIdx.x] = out[threadIdx.x ^ 32]; // fault: block_stores_and_reads
}

// Both warps store to one word.
FAULT_KERNEL(block_stores_collide) {
    const unsigned place = fault ? threadIdx.x % 32 : threadIdx.x;
    if (threadIdx.x % 32 == 0) out[place] = threadIdx.x; // fault: block_stores_collide
}

// What was written in order is read, then overwritten too early.
FAULT_KERNEL(block_reuses_too_early) {
    out[threadIdx.x] = threadIdx.x;
    __syncthreads();
    const unsigned value = out[threadIdx.x ^ 32];
    if (!fault) __syncthreads();
    out[threadIdx.x] = value + 1; // reuse
    in[threadIdx.x] = value;
}

// A histogram: without atomics, counts get lost.
FAULT_KERNEL(block_counts_without_atomics) {
    if (threadIdx.x % 32 != 0) return;
    const unsigned bin = in[128 + threadIdx.x] % 32;
    if (fault) in[bin] += 1; // fault: block_counts_without_atomics
    else atomicAdd(in + bin, 1);
}

// One of two warps hands a word to the other by a flag.
FAULT_KERNEL(block_flag_without_fence) {
    volatile unsigned* flag = in + 128;
    if (threadIdx.x == 0) *flag = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        out[0] = 7;
        if (!fault) __threadfence();
        *flag = 1;
    }
    if (threadIdx.x == 32) {
        while (*flag == 0) {}
        __threadfence();
        in[1] = out[0]; // fault: block_flag_without_fence
    }
}

__device__ void take(unsigned* lock) {
    while (atomicCAS(lock, 0, 1) != 0) {}
    __threadfence();
}

__device__ void leave(unsigned* lock, int fault) {
    if (!fault) __threadfence();
    atomicExch(lock, 0);
}

// Two blocks add to a word under a lock.
FAULT_KERNEL(lock_of_blocks_without_fence) {
    if (threadIdx.x != 0) return;
    take(in);
    in[64] += 1; // fault: lock_of_blocks_without_fence
    leave(in, fault);
}

// Two warps of a block do, in global memory.
FAULT_KERNEL(lock_of_warps_without_fence) {
    if (threadIdx.x % 32 != 0) return;
    take(in);
    in[64] += 1; // fault: lock_of_warps_without_fence
    leave(in, fault);
}

// And in shared memory.
FAULT_KERNEL(lock_in_shared_without_fence) {
    __shared__ unsigned lock, sum[4];
    if (threadIdx.x == 0) lock = sum[0] = 0;
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        take(&lock);
        sum[0] += 1; // fault: lock_in_shared_without_fence
        leave(&lock, fault);
    }
    __syncthreads();
    out[threadIdx.x] = sum[0];
}

// No fence at all: neither after the lock is taken nor before it is left.
FAULT_KERNEL(lock_without_any_fence) {
    if (threadIdx.x != 0) return;
    if (fault) {
        while (atomicCAS(in, 0, 1) != 0) {}
        in[64] += 1; // fault: lock_without_any_fence
        atomicExch(in, 0);
    } else {
        take(in);
        in[64] += 1;
        leave(in, 0);
    }
}

// The barrier leaves out the lane that reads.
FAULT_KERNEL(syncwarp_without_the_reader) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    if (fault) {
        if (threadIdx.x < 31) __syncwarp(0x7fffffff);
    } else __syncwarp();
    out[threadIdx.x] = s[(threadIdx.x + 1) % 32]; // fault: syncwarp_without_the_reader
}

// Each of two sets is in order in itself, and reads what the other wrote.
FAULT_KERNEL(syncwarp_of_two_sets) {
    __shared__ unsigned s[32];
    if (threadIdx.x >= 16) return;
    s[threadIdx.x] = 0;
    __syncwarp(0x0000ffff);
    if (threadIdx.x < 8) {
        s[threadIdx.x] = threadIdx.x;
        __syncwarp(fault ? 0x0f << (threadIdx.x & 4) : 0xff);
        out[threadIdx.x] = s[threadIdx.x ^ 4]; // fault: syncwarp_of_two_sets
    }
    __syncwarp(0x0000ffff);
    in[threadIdx.x] = s[threadIdx.x];
}

// All lanes read one word; the barrier leaves out the one that then writes it.
FAULT_KERNEL(syncwarp_without_the_writer) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    const unsigned value = s[0];
    if (fault) {
        if (threadIdx.x != 31) __syncwarp(0x7fffffff);
    } else __syncwarp();
    if (threadIdx.x == 31) s[0] = 5; // fault: syncwarp_without_the_writer
    out[threadIdx.x] = value;
}

// The halves of a reduction: after one barrier of the lower half, its lanes write and read on without another.
FAULT_KERNEL(syncwarp_once_for_two_steps) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    if (threadIdx.x < 16) {
        s[threadIdx.x] += s[threadIdx.x + 16];
        __syncwarp(0x0000ffff);
        if (threadIdx.x < 8) {
            s[threadIdx.x] += s[threadIdx.x + 8];
            if (!fault) __syncwarp(0x000000ff);
            out[threadIdx.x] = s[threadIdx.x ^ 1]; // fault: syncwarp_once_for_two_steps
        }
    }
    // The upper half is still there.
    __syncwarp();
    in[threadIdx.x] = s[threadIdx.x];
}
