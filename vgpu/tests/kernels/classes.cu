// One class of instruction a kernel, 64 of them in each of `rounds` rounds: what the virtual GPU takes for each.
//
//   data   1024 words, word i = i     out   one word a thread
//
// Launch: one block of 128 threads.

#include "instructions.cuh"

constexpr int REPEAT = 64;

// `step` runs REPEAT times a round on the accumulator `v`.
#define CLASS_KERNEL(name, step) \
    extern "C" __global__ void name(unsigned* data, unsigned* out, int rounds) { \
        __shared__ __align__(128) unsigned shared[1024]; \
        for (int i = threadIdx.x; i < 1024; i += blockDim.x) shared[i] = data[i]; \
        __syncthreads(); \
        const uint32_t at = ptx::shared_address(shared)+ threadIdx.x * 16; \
        const uint32_t word = ptx::shared_address(shared) + threadIdx.x * 4; \
        const unsigned *from = data + threadIdx.x * 4, *from_word = data + threadIdx.x; \
        unsigned v = threadIdx.x, w[4] = {1, 2, 3, 4}; \
        float f[4] = {0.0f, 0.0f, 0.0f, 0.0f}; \
        for (int round = 0; round < rounds; round++) { \
            _Pragma("unroll") for (int i = 0; i < REPEAT; i++) { step; } \
        } \
        asm volatile("cp.async.wait_all;" ::: "memory"); \
        out[threadIdx.x] = v + w[0] + w[1] + w[2] + w[3] + __float_as_uint(f[0] + f[1] + f[2] + f[3]) + (at & 0) + \
                           (word & 0) + (from == from_word); \
    }

CLASS_KERNEL(empty, )
CLASS_KERNEL(integer_add, asm volatile("add.u32 %0, %0, 3;" : "+r"(v)))
CLASS_KERNEL(integer_mad, asm volatile("mad.lo.u32 %0, %0, %1, %0;" : "+r"(v) : "r"(w[1])))
CLASS_KERNEL(float_fma, asm volatile("fma.rn.f32 %0, %0, %1, %1;" : "+f"(f[0]) : "f"(f[1])))
CLASS_KERNEL(half2_fma, asm volatile("fma.rn.f16x2 %0, %0, %1, %1;" : "+r"(v) : "r"(w[1])))
CLASS_KERNEL(exponential, asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(f[0])))
CLASS_KERNEL(convert_pair, asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(f[0]), "f"(f[1])))
CLASS_KERNEL(compare_select, asm volatile("{ .reg .pred p; setp.lt.u32 p, %0, %1; selp.u32 %0, %0, %1, p; }" : "+r"(v) : "r"(w[1])))
CLASS_KERNEL(shuffle, asm volatile("shfl.sync.bfly.b32 %0, %0, 1, 31, 0xffffffff;" : "+r"(v)))
CLASS_KERNEL(shared_load, asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(word) : "memory"))
CLASS_KERNEL(shared_load_vector, asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(at) : "memory"))
CLASS_KERNEL(shared_store, asm volatile("st.shared.u32 [%0], %1;" :: "r"(word), "r"(v) : "memory"))
CLASS_KERNEL(global_load, asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(from_word) : "memory"))
CLASS_KERNEL(global_load_vector, asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "l"(from) : "memory"))
CLASS_KERNEL(global_store, asm volatile("st.global.u32 [%0], %1;" :: "l"(out + threadIdx.x), "r"(v) : "memory"))
CLASS_KERNEL(ldmatrix, ptx::ldmatrix(w, shared + threadIdx.x * 4))
CLASS_KERNEL(mma, asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%4, %5}, {%0, %1, %2, %3};" : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3]) : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])))
CLASS_KERNEL(cp_async, ptx::cp_async(shared + threadIdx.x * 4, from); ptx::cp_async_commit(); ptx::cp_async_wait<0>())
CLASS_KERNEL(barrier, __syncthreads())
