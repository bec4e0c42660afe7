// Values that nobody wrote. Copying them is no fault, computing with them is. One warp unless said. Registers are left
// undefined in PTX, since C++ would let the compiler choose a value.

#include "faults.cuh"

FAULT_KERNEL(undefined_register_added) {
    unsigned value;
    asm volatile("{ .reg .pred p; .reg .u32 r; setp.eq.s32 p, %1, 0; @p mov.u32 r, 7; add.u32 %0, r, 1; }"
                 : "=r"(value) : "r"(fault)); // fault: undefined_register_added
    out[threadIdx.x] = value;
}

FAULT_KERNEL(undefined_register_as_address) {
    unsigned value;
    asm volatile("{ .reg .pred p; .reg .u64 r; setp.eq.s32 p, %1, 0; @p mov.u64 r, %2; ld.global.u32 %0, [r]; }"
                 : "=r"(value) : "r"(fault), "l"(in)); // fault: undefined_register_as_address
    out[threadIdx.x] = value;
}

// Lanes 8 to 31 alone: the report must not name the others.
FAULT_KERNEL(undefined_register_compared) {
    unsigned value;
    asm volatile("{ .reg .pred p, q; .reg .u32 r; setp.lt.s32 p, %2, %1; @p mov.u32 r, 3; setp.eq.u32 q, r, 3; selp.u32 %0, 1, 2, q; }"
                 : "=r"(value) : "r"(fault ? 8 : 32), "r"(threadIdx.x)); // fault: undefined_register_compared
    out[threadIdx.x] = value;
}

// A predicate that no instruction set.
FAULT_KERNEL(undefined_predicate_branch) {
    unsigned value;
    asm volatile("{ .reg .pred p, q; setp.eq.s32 p, %1, 0; @p setp.eq.s32 q, %1, 0; mov.u32 %0, 1; @q mov.u32 %0, 2; }"
                 : "=r"(value) : "r"(fault)); // fault: undefined_predicate_branch
    out[threadIdx.x] = value;
}

// The host leaves `in` unwritten for the faulty launch.
FAULT_KERNEL(undefined_global_added) {
    out[threadIdx.x] = in[threadIdx.x] + 1; // fault: undefined_global_added
}

// The same, copied: allowed.
FAULT_KERNEL(undefined_global_copied) {
    out[threadIdx.x] = in[threadIdx.x];
}

FAULT_KERNEL(undefined_global_in_atomic) {
    atomicAdd((fault ? out : in) + threadIdx.x, 1); // fault: undefined_global_in_atomic
}

FAULT_KERNEL(undefined_shared_multiplied) {
    __shared__ unsigned s[64];
    if (!fault || threadIdx.x != 5) s[threadIdx.x] = in[threadIdx.x];
    __syncwarp();
    const unsigned value = s[threadIdx.x ^ 1];
    out[threadIdx.x] = value * in[threadIdx.x]; // fault: undefined_shared_multiplied
}

FAULT_KERNEL(undefined_shared_copied) {
    __shared__ unsigned s[64];
    if (!fault || threadIdx.x != 5) s[threadIdx.x] = in[threadIdx.x];
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}

FAULT_KERNEL(undefined_local_added) {
    unsigned table[8];
    if (!fault)
        for (int i = 0; i < 8; i++) table[(i * 3) % 8] = in[i];
    asm volatile("" :: "l"(table) : "memory");
    out[threadIdx.x] = table[in[threadIdx.x % 8]] + in[3]; // fault: undefined_local_added
}

// One matrix row of an mma operand is missing.
FAULT_KERNEL(undefined_shared_in_mma) {
    __shared__ __align__(16) half tile[32][8];
    if (!fault || threadIdx.x != 9)
        for (int i = 0; i < 8; i++) tile[threadIdx.x][i] = __float2half(1.0f);
    __syncwarp();
    uint32_t a[4];
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    ptx::ldmatrix(a, tile[threadIdx.x]);
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%4, %5}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])); // fault: undefined_shared_in_mma
    out[threadIdx.x] = __float_as_uint(c[0]);
}
