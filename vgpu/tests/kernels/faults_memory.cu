// Addresses that a kernel has no business with. One warp unless said.

#include "faults.cuh"

FAULT_KERNEL(global_load_past_end) {
    out[threadIdx.x] = in[threadIdx.x + fault * 240]; // fault: global_load_past_end
}

FAULT_KERNEL(global_load_before_start) {
    out[threadIdx.x] = in[static_cast<int>(threadIdx.x) - 4 * fault]; // fault: global_load_before_start
}

FAULT_KERNEL(global_store_past_end) {
    out[threadIdx.x + fault * 252] = 1; // fault: global_store_past_end
}

FAULT_KERNEL(global_atomic_past_end) {
    atomicAdd(in + threadIdx.x + fault * 255, 1); // fault: global_atomic_past_end
}

FAULT_KERNEL(null_pointer) {
    // The compiler would take the address of a conditional null pointer for granted.
    const auto* from = reinterpret_cast<const unsigned*>(reinterpret_cast<uintptr_t>(in) * (1 - fault));
    out[threadIdx.x] = *from; // fault: null_pointer
}

// The host frees `in` before the faulty launch.
FAULT_KERNEL(use_after_free) {
    out[threadIdx.x] = in[threadIdx.x]; // fault: use_after_free
}

FAULT_KERNEL(shared_store_past_end) {
    __shared__ unsigned s[64];
    s[threadIdx.x + fault * 48] = threadIdx.x; // fault: shared_store_past_end
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}

// Launched with 128 bytes of dynamic shared memory.
FAULT_KERNEL(dynamic_shared_past_end) {
    extern __shared__ unsigned dynamic[];
    dynamic[threadIdx.x + fault] = threadIdx.x; // fault: dynamic_shared_past_end
}

FAULT_KERNEL(local_load_past_end) {
    unsigned table[8];
    for (int i = 0; i < 8; i++) table[(i * 3) % 8] = in[i];
    out[threadIdx.x] = table[in[threadIdx.x % 8] + 8 * fault]; // fault: local_load_past_end
}

FAULT_KERNEL(misaligned_load) {
    const char* from = reinterpret_cast<const char*>(in + threadIdx.x) + 2 * fault;
    out[threadIdx.x] = *reinterpret_cast<const unsigned*>(from); // fault: misaligned_load
}

FAULT_KERNEL(misaligned_vector) {
    const uint4 v = *reinterpret_cast<const uint4*>(in + 4 * threadIdx.x + fault); // fault: misaligned_vector
    out[threadIdx.x] = v.x + v.y + v.z + v.w;
}

FAULT_KERNEL(misaligned_shared) {
    __shared__ __align__(16) char s[256];
    *reinterpret_cast<unsigned*>(s + 4 * threadIdx.x + fault) = 1; // fault: misaligned_shared
    out[threadIdx.x] = *reinterpret_cast<const unsigned*>(s + 4 * threadIdx.x);
}

// A pointer to global memory taken for one to shared memory.
FAULT_KERNEL(global_taken_for_shared) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    const unsigned* from = (fault ? in : s) + threadIdx.x;
    unsigned value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "l"(__cvta_generic_to_shared(from)) : "memory"); // fault: global_taken_for_shared
    out[threadIdx.x] = value;
}

// The same, of a pointer whose kind was asked first; the compiler converts it before it knows.
FAULT_KERNEL(pointer_kind_asked_first) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    const unsigned* from = (fault ? in : s) + threadIdx.x;
    uint32_t address = 0;
    if (__isShared(from)) address = static_cast<uint32_t>(__cvta_generic_to_shared(from));
    unsigned value = 0;
    if (address) asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
    out[threadIdx.x] = value;
}

// And the other way round.
FAULT_KERNEL(shared_taken_for_global) {
    __shared__ unsigned s[32];
    s[threadIdx.x] = threadIdx.x;
    const unsigned* from = (fault ? s : in) + threadIdx.x;
    unsigned value;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory"); // fault: shared_taken_for_global
    out[threadIdx.x] = value;
}
