// Kernels for every GPU.

#pragma once

#include "device.cuh"

namespace {

__device__ __forceinline__ uint64_t nanoseconds_now() {
    uint64_t t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t) :: "memory");
    return t;
}

__device__ __forceinline__ uint64_t thread_index() {
    return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ uint64_t thread_count() {
    return static_cast<uint64_t>(gridDim.x) * blockDim.x;
}

} // namespace

// Clocks and nanoseconds that passed from one change of the timer to the first one at least `ns` later. Zeros if
// `limit` readings were not enough: the timer stands still.
extern "C" __global__ void clock_probe(uint64_t* out, uint64_t ns, uint32_t limit) {
    if (threadIdx.x != 0 || blockIdx.x != 0) return;
    uint32_t readings = 0;
    const uint64_t before = nanoseconds_now();
    uint64_t begin = before, now = before;
    while (begin == before && readings++ < limit) begin = nanoseconds_now();
    const uint64_t first = clock64_now();
    while (now < begin + ns && readings++ < limit) now = nanoseconds_now();
    const uint64_t last = clock64_now();
    out[0] = readings < limit ? last - first : 0;
    out[1] = readings < limit ? now - begin : 0;
}

extern "C" __global__ void fill_words(uint32_t* to, uint64_t count, uint32_t mask) {
    for (uint64_t i = thread_index(); i < count; i += thread_count()) {
        to[i] = hash_word(static_cast<uint32_t>(i) & mask);
    }
}

// ---- hbm

extern "C" __global__ void __launch_bounds__(256) hbm_read(const uint4* from, uint64_t count, uint32_t* sums) {
    constexpr int UNROLL = 8;
    const uint64_t step = thread_count();
    uint32_t sum = 0;
    uint64_t i = thread_index();
    for (; i + (UNROLL - 1) * step < count; i += UNROLL * step) {
        uint4 v[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) v[u] = __ldcs(from + i + u * step);
#pragma unroll
        for (int u = 0; u < UNROLL; u++) sum += sum_of(v[u]);
    }
    for (; i < count; i += step) sum += sum_of(__ldcs(from + i));
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256) hbm_copy(const uint4* from, uint4* to, uint64_t count) {
    constexpr int UNROLL = 4;
    const uint64_t step = thread_count();
    uint64_t i = thread_index();
    for (; i + (UNROLL - 1) * step < count; i += UNROLL * step) {
        uint4 v[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) v[u] = __ldcs(from + i + u * step);
#pragma unroll
        for (int u = 0; u < UNROLL; u++) __stcs(to + i + u * step, v[u]);
    }
    for (; i < count; i += step) __stcs(to + i, __ldcs(from + i));
}

// Word i becomes hash_word(i & mask): the hash is far cheaper than the store.
extern "C" __global__ void __launch_bounds__(256) hbm_write(uint4* to, uint64_t count, uint32_t mask) {
    for (uint64_t i = thread_index(); i < count; i += thread_count()) {
        const uint32_t w = static_cast<uint32_t>(i) * 4;
        __stcs(to + i, make_uint4(hash_word(w & mask), hash_word((w + 1) & mask), hash_word((w + 2) & mask),
                                  hash_word((w + 3) & mask)));
    }
}

// ---- l2. Each CTA reads the whole set `passes` times, in order, from its own place on; `share` neighbouring CTAs
// begin at one place, as tiles of a product do that read the same rows.

namespace {

__device__ __forceinline__ uint32_t first_place(uint32_t places, uint32_t readers, uint32_t reader, uint32_t share) {
    return static_cast<uint64_t>(reader / share * share) * places / readers;
}

template <int UNROLL>
__device__ __forceinline__ void l2_load(const uint4* set, uint32_t blocks, uint32_t passes, uint32_t share,
                                        uint32_t* sums) {
    constexpr int THREADS = BLOCK_WORDS16 / UNROLL;
    uint32_t sum = 0, block = first_place(blocks, gridDim.x, blockIdx.x, share);
    for (uint32_t turn = 0; turn < blocks * passes; turn++) {
        const uint4* from = set + static_cast<uint64_t>(block) * BLOCK_WORDS16 + threadIdx.x;
        uint4 v[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) v[u] = __ldcg(from + u * THREADS);
#pragma unroll
        for (int u = 0; u < UNROLL; u++) sum += sum_of(v[u]);
        block = block + 1 == blocks ? 0 : block + 1;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

} // namespace

extern "C" __global__ void __launch_bounds__(1024, 1)
l2_load_1024(const uint4* set, uint32_t blocks, uint32_t passes, uint32_t share, uint32_t* sums) {
    l2_load<4>(set, blocks, passes, share, sums);
}

extern "C" __global__ void __launch_bounds__(512, 1)
l2_load_512(const uint4* set, uint32_t blocks, uint32_t passes, uint32_t share, uint32_t* sums) {
    l2_load<8>(set, blocks, passes, share, sums);
}

// A ring of stages; every thread waits for its own copies alone, so no barrier is needed. `check`: what arrived is
// summed.
extern "C" __global__ void __launch_bounds__(ASYNC_THREADS, 1)
l2_cp_async(const char* set, uint32_t blocks, uint32_t passes, uint32_t share, uint32_t* sums, uint32_t check) {
    extern __shared__ __align__(ALIGNMENT) char ring[];
    constexpr int COPIES = ASYNC_STAGE_BYTES / 16 / ASYNC_THREADS;
    const uint32_t turns = blocks * passes;
    uint32_t sum = 0, block = first_place(blocks, gridDim.x, blockIdx.x, share);
    for (uint32_t turn = 0; turn < turns + ASYNC_STAGES - 1; turn++) {
        if (turn < turns) {
            char* to = ring + turn % ASYNC_STAGES * ASYNC_STAGE_BYTES + threadIdx.x * 16;
            const char* from = set + static_cast<uint64_t>(block) * ASYNC_STAGE_BYTES + threadIdx.x * 16;
#pragma unroll
            for (int c = 0; c < COPIES; c++) {
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                             :: "r"(shared_address(to + c * ASYNC_THREADS * 16)),
                                "l"(__cvta_generic_to_global(from + c * ASYNC_THREADS * 16)) : "memory");
            }
            block = block + 1 == blocks ? 0 : block + 1;
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        asm volatile("cp.async.wait_group %0;" :: "n"(ASYNC_STAGES - 1) : "memory");
        if (check && turn >= ASYNC_STAGES - 1) {
            const uint32_t stage = (turn - (ASYNC_STAGES - 1)) % ASYNC_STAGES;
            const uint4* arrived = reinterpret_cast<const uint4*>(ring + stage * ASYNC_STAGE_BYTES) + threadIdx.x;
            for (int c = 0; c < COPIES; c++) sum += sum_of(arrived[c * ASYNC_THREADS]);
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// ---- latency

// One cycle through all lines: a linear congruential generator of full period (lines: a power of two, a ≡ 1 mod 4, c
// odd).
extern "C" __global__ void fill_chase(char* memory, uint32_t lines, uint32_t a, uint32_t c) {
    for (uint64_t i = thread_index(); i < lines; i += thread_count()) {
        const uint32_t next = (a * static_cast<uint32_t>(i) + c) & (lines - 1);
        *reinterpret_cast<uint32_t*>(memory + i * LINE_BYTES) = next * LINE_BYTES;
    }
}

// out: where the chase stands after `steps`, clocks that it took. Past L1 (.cg).
extern "C" __global__ void chase(const char* memory, uint32_t steps, uint64_t* out) {
    uint32_t at = static_cast<uint32_t>(out[0]);
    const uint64_t begin = clock64_now();
#pragma unroll 4
    for (uint32_t i = 0; i < steps; i++) {
        asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(at) : "l"(__cvta_generic_to_global(memory + at)) : "memory");
    }
    const uint64_t end = clock64_now();
    out[0] = at;
    out[1] = end - begin;
}

// ---- peak of mma.sync: a warp makes 32×32 sums from operands in registers

// a: [warp][32 rows][32 f16], b: [warp][32 columns][32 f16], d: [warp][32][32] of block `check_block`'s last sums.
// `keep`, how much of the sums is left when they begin anew, is 0; as an argument, since ptxas removes products whose
// sums it sees dropped.
extern "C" __global__ void __launch_bounds__(512, 1)
peak_mma(const char* a, const char* b, uint32_t tiles, float* d, uint32_t check_block, uint32_t keep) {
    const uint32_t warp = threadIdx.x / 32;
    uint32_t fragment_a[2][2][4], fragment_b[2][4][2]; // [16 values of depth][tile]
#pragma unroll
    for (int k = 0; k < 2; k++) {
#pragma unroll
        for (int m = 0; m < 2; m++) load_a(fragment_a[k][m], a + warp * 2048 + m * 16 * 64 + k * 32, 64);
#pragma unroll
        for (int n = 0; n < 4; n++) load_b(fragment_b[k][n], b + warp * 2048 + n * 8 * 64 + k * 32, 64);
    }
    float sums[2][4][4] = {};
#pragma unroll 1
    for (uint32_t tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (int i = 0; i < 32; i++) sums[i / 16][i / 4 % 4][i % 4] *= static_cast<float>(keep);
#pragma unroll 1
        for (int step = 0; step < MMA_STEPS; step++) {
#pragma unroll
            for (int k = 0; k < 2; k++) {
#pragma unroll
                for (int t = 0; t < 8; t++) mma_f16(sums[t / 4][t % 4], fragment_a[k][t / 4], fragment_b[k][t % 4]);
            }
        }
    }
    if (blockIdx.x != check_block) return;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const uint32_t row = i / 16 * 16 + row_of(i % 4), column = i / 4 % 4 * 8 + column_of(i % 4);
        d[(warp * 32 + row) * 32 + column] = sums[i / 16][i / 4 % 4][i % 4];
    }
}

// ---- edge: kernels that spin, one after the other

namespace {

// When dependents may start: with the end, at the begin, half-way.
enum Edge { PLAIN, WAIT, EARLY, HALF };

__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void spin_until(uint64_t end) {
    while (clock64_now() < end) {}
}

// Block 0 counts kernels without atomics: a kernel that starts its work before its predecessor has ended loses a count.
template <Edge EDGE>
__device__ __forceinline__ void spin(uint64_t clocks, uint32_t* count) {
    if (EDGE == EARLY) launch_dependents();
    if (EDGE != PLAIN) wait_for_predecessor();
    const uint64_t begin = clock64_now();
    if (blockIdx.x == 0 && threadIdx.x == 0) __stcg(count, __ldcg(count) + 1);
    if (EDGE == HALF) {
        spin_until(begin + clocks / 2);
        launch_dependents();
    }
    spin_until(begin + clocks);
}

} // namespace

// Two of each, since the carve-out is an attribute of the function.
#define ONE_EDGE_KERNEL(NAME, EDGE) \
    extern "C" __global__ void __launch_bounds__(128) NAME(uint64_t clocks, uint32_t* count) { \
        spin<EDGE>(clocks, count); \
    }
#define EDGE_KERNEL(NAME, EDGE) ONE_EDGE_KERNEL(NAME##_a, EDGE) ONE_EDGE_KERNEL(NAME##_b, EDGE)

EDGE_KERNEL(edge_plain, PLAIN)
#if __CUDA_ARCH__ >= 900
EDGE_KERNEL(edge_wait, WAIT)
EDGE_KERNEL(edge_early, EARLY)
EDGE_KERNEL(edge_half, HALF)
#endif

// ---- gridbar: all blocks are resident; `counter` only grows, `base` is what it was before

// errors[0]: waits that timed out. errors[1]: neighbours that were not there yet (looked at with `check`).
extern "C" __global__ void gridbar(uint32_t* counter, uint32_t base, uint32_t rounds, uint32_t* slots, uint32_t* errors,
                                   uint32_t check, uint32_t limit) {
    __shared__ uint32_t broken;
    if (threadIdx.x == 0) broken = 0;
    __syncthreads();
    for (uint32_t round = 0; round < rounds; round++) {
        // Two sets of slots: a neighbour may be one round ahead.
        if (check && threadIdx.x == 0) __stcg(slots + round % 2 * gridDim.x + blockIdx.x, round + 1);
        __syncthreads();
        if (threadIdx.x == 0) {
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;"
                         :: "l"(__cvta_generic_to_global(counter)) : "memory");
            const uint32_t target = base + (round + 1) * gridDim.x;
            uint32_t value, tries = 0;
            do {
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                             : "=r"(value) : "l"(__cvta_generic_to_global(counter)) : "memory");
            } while (static_cast<int32_t>(value - target) < 0 && tries++ < limit);
            if (tries > limit) {
                atomicAdd(errors, 1);
                broken = 1;
            }
        }
        __syncthreads();
        if (broken) return;
        if (check && threadIdx.x == 0) {
            const uint32_t neighbour = (blockIdx.x + 1) % gridDim.x;
            if (__ldcg(slots + round % 2 * gridDim.x + neighbour) != round + 1) atomicAdd(errors + 1, 1);
        }
    }
}

// ---- copy: 16 bytes a thread and turn, either side in host memory

extern "C" __global__ void __launch_bounds__(256) copy_mapped(const uint4* from, uint4* to, uint32_t count) {
    for (uint32_t i = thread_index(); i < count; i += thread_count()) to[i] = from[i];
}

// ---- gelu

namespace {

enum Gelu { IDENTITY, ERFF, FINE, FAST };

// Today's: kernels/epilogue.cuh.
__device__ __forceinline__ float gelu_erff(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

__device__ __forceinline__ float ex2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ==== the cheap GELU: take it from here ====
// 0.5·x·(1 + erf(x/√2)) = max(x, 0) − |x|·Q(|x|) with Q(t) = 0.5·erfc(t/√2), and log2 Q is so smooth that a short
// polynomial gives it: no cancellation in the left tail, as 1 + erf has. Beyond |x| = 6 the polynomials fall to
// −infinity, as they must; ±infinity gives NaN (∞·0), as 0.5·x·(1 + erff) does for −infinity. NaN: both give NaN.
// Coefficients: least squares with reweighting on [0, 6], weight: units of f16 of the result. Probe `gelu` measures the
// errors again.

// Most 1.4e-5 off, and 0.16 units of f16 of the result: 6 FMA and 1 MUFU.
__device__ __forceinline__ float gelu_fast(float x) {
    const float t = fabsf(x);
    float p = -0.00032988577731885016f;
    p = fmaf(p, t, 0.005916069261729717f);
    p = fmaf(p, t, -0.04852856695652008f);
    p = fmaf(p, t, -0.4637290835380554f);
    p = fmaf(p, t, -1.1493688821792603f);
    p = fmaf(p, t, -1.0001121759414673f);
    return fmaf(-t, ex2(p), fmaxf(x, 0.0f));
}

// Most 6e-7 off, and 0.006 units of f16: 8 FMA and 1 MUFU.
__device__ __forceinline__ float gelu_fine(float x) {
    const float t = fabsf(x);
    float p = -1.0623982689139666e-06f;
    p = fmaf(p, t, 4.9952279368881136e-05f);
    p = fmaf(p, t, -0.0008622855530120432f);
    p = fmaf(p, t, 0.008312197402119637f);
    p = fmaf(p, t, -0.05367634817957878f);
    p = fmaf(p, t, -0.45865723490715027f);
    p = fmaf(p, t, -1.1512024402618408f);
    p = fmaf(p, t, -0.9999967813491821f);
    return fmaf(-t, ex2(p), fmaxf(x, 0.0f));
}
// ==== to here ====

template <Gelu KIND>
__device__ __forceinline__ float gelu(float x) {
    return KIND == ERFF ? gelu_erff(x) : KIND == FINE ? gelu_fine(x) : KIND == FAST ? gelu_fast(x) : x;
}

// Eight values a thread; each goes to and fro between two places, so that nothing can be hoisted.
template <Gelu KIND>
__device__ __forceinline__ void gelu_loop(uint32_t turns, float* out) {
    float x[8], other[8], sum[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t random = hash_word(threadIdx.x * 8 + i);
        x[i] = static_cast<float>(random % 8192) * (1.0f / 1024.0f) - 4.0f;
        other[i] = static_cast<float>(random / 8192 % 8192) * (1.0f / 4096.0f) - 1.0f;
        sum[i] = 0.0f;
    }
#pragma unroll 2
    for (uint32_t turn = 0; turn < turns; turn++) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            sum[i] += gelu<KIND>(x[i]);
            x[i] = other[i] - x[i];
        }
    }
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) total += sum[i];
    out[static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x] = total;
}

template <Gelu KIND>
__device__ __forceinline__ void gelu_values(const float* x, float* y, uint32_t count) {
    for (uint64_t i = thread_index(); i < count; i += thread_count()) y[i] = gelu<KIND>(x[i]);
}

} // namespace

#define GELU_KERNELS(NAME, KIND) \
    extern "C" __global__ void __launch_bounds__(1024) gelu_loop_##NAME(uint32_t turns, float* out) { \
        gelu_loop<KIND>(turns, out); \
    } \
    extern "C" __global__ void gelu_values_##NAME(const float* x, float* y, uint32_t count) { \
        gelu_values<KIND>(x, y, count); \
    }

GELU_KERNELS(none, IDENTITY)
GELU_KERNELS(erff, ERFF)
GELU_KERNELS(fine, FINE)
GELU_KERNELS(fast, FAST)

// ---- bits

extern "C" __global__ void __launch_bounds__(128) bits_mma_f16(const char* a, const char* b, const float* c, float* d) {
    mma_tile(a, b, c, d, mma_f16);
}
