// One PTX instruction a function, under its own name. What each does: PTX ISA, section "Instruction Set".
#pragma once

#include <cstdint>
#include <cuda_fp16.h>

namespace ptx {

// Address of shared memory as the instructions below take it.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Until all earlier launches of the stream that this one may overlap have ended, and what they wrote is here. Every thread that
// reads or writes global memory of a pass comes here first. Launched without that permission it costs nothing.
__device__ __forceinline__ void grid_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next launch may begin, as far as it waits by `grid_wait`, when every block has come here or ended. One thread is enough.
__device__ __forceinline__ void grid_launch_dependents() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#if __CUDA_ARCH__ >= 900
// Brings bytes of global memory to the L2 cache. Address and number: multiples of 16.
__device__ __forceinline__ void prefetch_l2(uint64_t address, uint32_t bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"(address), "r"(bytes) : "memory");
}
#endif

// Copies 16 bytes from global to shared memory, or writes 16 zeros where `take` is false. Both addresses: multiples of 16.
__device__ __forceinline__ void cp_async_16(uint32_t to, const void* from, bool take) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(__cvta_generic_to_global(from)), "r"(take ? 16 : 0) : "memory");
}

__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's newest groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

// Four 8×8 matrices of 16-bit values; lane 8·m + r gives the address of row r of matrix m. Lane l gets of each matrix
// the elements (l / 4, 2·(l % 4)) and the one right of it.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&d)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(from) : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&d)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(from) : "memory");
}

// c += a·b: a 16×16 (row), b 16×8 (column), c 16×8 in float32. Lane l holds of c the elements (l / 4, 2·(l % 4)), the
// one right of it, and both again eight rows further down.
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x to 2 units in the last place; 0 for −infinity.
__device__ __forceinline__ float ex2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1/x to one unit in the last place; 0 where it is below 2⁻¹²⁶. Volatile: several under way at once take registers that
// gemm_128x128_half has not on sm_120.
__device__ __forceinline__ float rcp(float x) {
    float y;
    asm volatile("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The larger; NaN where one is.
__device__ __forceinline__ float max_nan(float a, float b) {
    float d;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

// Two floats rounded to a pair of halves, the first in the low one.
__device__ __forceinline__ uint32_t pack_half2(float low, float high) {
    uint32_t d;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

// The two halves of a word as floats, the low one first.
__device__ __forceinline__ float2 unpack_half2(uint32_t d) {
    return __half22float2(reinterpret_cast<const half2&>(d));
}

// Writes 16 bytes to shared memory; the address a multiple of 16.
__device__ __forceinline__ void store_shared_16(uint32_t to, const uint32_t (&v)[4]) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" :: "r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}

// Writes 8 bytes to shared memory; the address a multiple of 8.
__device__ __forceinline__ void store_shared_8(uint32_t to, uint32_t low, uint32_t high) {
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" :: "r"(to), "r"(low), "r"(high) : "memory");
}

// Reads 8 bytes of shared memory; the address a multiple of 8.
__device__ __forceinline__ float2 load_shared_float2(uint32_t from) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(from) : "memory");
    return v;
}

// Reads 16 bytes of shared memory; the address a multiple of 16.
__device__ __forceinline__ void load_shared_16(uint32_t (&v)[4], uint32_t from) {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(from) : "memory");
}

} // namespace ptx
