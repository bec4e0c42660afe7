// Microbenchmarks of an NVIDIA GPU, Hopper (H100, H200) above all: memory, tensor cores, what lies between two kernels.
// One file holds all: nvcc compiles its device half, g++ its host half. The host half opens the driver (libcuda.so.1)
// by hand and needs neither cudart nor any library but libdl.
//
// Build (CUDA 12.3 or newer; INC: the folder of cuda.h; DIR exists):
//
//   NVCC=/usr/local/cuda/bin/nvcc; CXX=g++; INC=/usr/local/cuda/include; SRC=micro.cu; DIR=.; ARCH=90
//   CU="$NVCC -O3 -std=c++17"
//   $CU -cubin -gencode arch=compute_90a,code=sm_90a -DMICRO_HOPPER -o $DIR/micro_hopper.sm_90a.cubin $SRC
//   $CU -cubin -gencode arch=compute_$ARCH,code=sm_$ARCH -o $DIR/micro_portable.sm_$ARCH.cubin $SRC
//   $CU -ptx -arch=compute_80 -o $DIR/micro_portable.ptx $SRC
//   $CXX -O2 -std=c++17 -Wall -Wextra -x c++ -I$INC -o $DIR/micro $SRC -ldl
//
// ARCH is the GPU's own (89, …): without its cubin the driver compiles the PTX, and every line says so ("image"). The
// first cubin loads on compute capability 9.0 alone; elsewhere what needs it is absent. With -Xptxas -v there must be
// no warning (C7510: "wgmma serialized") and no spill.
//
// Run:  micro --list                                      name, most seconds, what
//       micro --modules DIR PROBE... [--dry] [--out DIR]  best one process a probe: a fault spoils the process
//
// Each measurement is one line of JSON on stdout:
//   {"probe","params":{...},"median","min","max","unit","sm_mhz"}  min, max: of repetitions, in `unit`; null: unknown
//   {"probe","params":{...},"absent":"why"}                        cannot run here (`params` or not); no failure
//   {"probe","error":"why"}                                        then the exit status is 1
// sm_mhz is the clock of a multiprocessor right after the timed work, %clock64 against %globaltimer over 200 µs.
// A time is printed only if the kernel's results were right. --dry: tiny sizes, no warming up, for a virtual GPU, where
// times mean nothing; what needs Hopper is absent there, but its cubin must exist.

#include <cstdint>
#include <cuda.h>

// What both halves know. `inline`: not every build uses all of it.

// Contents of test memory: word i of a buffer is hash_word(i & mask). Public-domain mixing constants ("lowbias32").
#ifdef __CUDACC__
#define BOTH __host__ __device__ __forceinline__
#else
#define BOTH inline
#endif

BOTH uint32_t hash_word(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

inline constexpr int LINE_BYTES = 128;         // one step of the pointer chase
inline constexpr int BLOCK_WORDS16 = 4096;     // l2: 16-byte words that a CTA reads with ld in one turn
inline constexpr int ASYNC_THREADS = 256;      // l2: threads of the cp.async kernel
inline constexpr int ASYNC_STAGE_BYTES = 16384;
inline constexpr int ASYNC_STAGES = 8;
inline constexpr int BOX_COLUMNS = 64;         // l2: f16 values in a row of a TMA box, 128 bytes
inline constexpr int SET_COLUMNS = 1024;       // l2: f16 values in a row of the matrix that TMA reads
inline constexpr int TMA_SLOT_BYTES = 196608;  // l2: shared memory for boxes
inline constexpr int TMA_CONSUMER_WARPS = 4;
inline constexpr int ALIGNMENT = 1024;         // of tiles with the 128-byte swizzle
inline constexpr int PEAK_STAGES = 4;          // peak: tiles of 128 bytes of depth that lie in shared memory
inline constexpr int MMA_STEPS = 32;           // peak, mma.sync: times its depth of 32 before sums begin anew
inline constexpr int BIT_ROWS = 64, BIT_COLUMNS = 8, BIT_DEPTH_BYTES = 32; // bits: one instruction's tile
inline constexpr int BIT_TILES_PER_CTA = 4;

#ifdef __CUDACC__
// ==================================================================================================== device half

namespace common {

__device__ __forceinline__ uint64_t clock64_now() {
    uint64_t t;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(t) :: "memory");
    return t;
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ uint32_t sum_of(uint4 v) {
    return v.x + v.y + v.z + v.w;
}

// The sum over the block, in thread 0.
__device__ __forceinline__ uint32_t block_sum(uint32_t value) {
    __shared__ uint32_t of_warp[32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    uint32_t sum = 0;
    if (threadIdx.x == 0) {
        for (uint32_t w = 0; w < blockDim.x / 32; w++) sum += of_warp[w];
    }
    return sum;
}

// Bytes from a tile's start at which a 16-byte chunk of a row of 128 bytes lies: the 128-byte swizzle of TMA and wgmma.
__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t chunk) {
    return row * 128 + ((chunk ^ row % 8) << 4);
}

// A warp's part of a 16-row A tile and an 8-row B tile whose rows are 32 bytes of depth: 16 f16 or 32 e4m3 values. The
// registers of mma and of wgmma's A operand hold the same bytes for both types. `step`: bytes from row to row.
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const char* tile, uint32_t step) {
    const uint32_t lane = threadIdx.x % 32;
    const char* from = tile + lane / 4 * step + lane % 4 * 4;
    a[0] = *reinterpret_cast<const uint32_t*>(from);
    a[1] = *reinterpret_cast<const uint32_t*>(from + 8 * step);
    a[2] = *reinterpret_cast<const uint32_t*>(from + 16);
    a[3] = *reinterpret_cast<const uint32_t*>(from + 8 * step + 16);
}

__device__ __forceinline__ void load_b(uint32_t (&b)[2], const char* tile, uint32_t step) {
    const uint32_t lane = threadIdx.x % 32;
    const char* from = tile + lane / 4 * step + lane % 4 * 4;
    b[0] = *reinterpret_cast<const uint32_t*>(from);
    b[1] = *reinterpret_cast<const uint32_t*>(from + 16);
}

// Where element i of a warp's accumulators lies: mma m16n8 and wgmma m64nN alike.
__device__ __forceinline__ uint32_t row_of(int i) {
    return threadIdx.x % 32 / 4 + (i / 2 % 2) * 8;
}

__device__ __forceinline__ uint32_t column_of(int i) {
    return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
}

__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// bits: each warp makes 16 rows of a tile by mma.sync; a block is one tile.
template <typename Mma>
__device__ __forceinline__ void mma_tile(const char* a, const char* b, const float* c, float* d, Mma mma) {
    const uint32_t warp = threadIdx.x / 32, tile = blockIdx.x;
    uint32_t fragment_a[4], fragment_b[2];
    load_a(fragment_a, a + (tile * BIT_ROWS + warp * 16) * BIT_DEPTH_BYTES, BIT_DEPTH_BYTES);
    load_b(fragment_b, b + tile * BIT_COLUMNS * BIT_DEPTH_BYTES, BIT_DEPTH_BYTES);
    float sums[4];
    const uint32_t first = (tile * BIT_ROWS + warp * 16) * BIT_COLUMNS;
#pragma unroll
    for (int i = 0; i < 4; i++) sums[i] = c[first + row_of(i) * BIT_COLUMNS + column_of(i)];
    mma(sums, fragment_a, fragment_b);
#pragma unroll
    for (int i = 0; i < 4; i++) d[first + row_of(i) * BIT_COLUMNS + column_of(i)] = sums[i];
}

} // namespace common

using namespace common;

#ifndef MICRO_HOPPER
// ---------------------------------------------------------------------------------------- kernels for every GPU

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

#else
// -------------------------------------------------------------------------------- kernels for sm_90a and no other

namespace {

// ---- barriers in shared memory, clusters, TMA

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}

// The one arrival of the phase; `bytes` must come before it ends.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}

// Arrives at the barrier that lies at the same place in the shared memory of CTA `rank` of the cluster.
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile("{\n"
                 ".reg .b32 remote;\n"
                 "mapa.shared::cluster.u32 remote, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
                 "}" :: "r"(barrier), "r"(rank) : "memory");
}

__device__ __forceinline__ bool barrier_passed(uint32_t barrier, uint32_t parity) {
    uint32_t passed;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}" : "=r"(passed) : "r"(barrier), "r"(parity) : "memory");
    return passed != 0;
}

// Ends the kernel with a fault after about two seconds: better than a process that hangs.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    if (barrier_passed(barrier, parity)) return;
    const uint64_t begin = clock64_now();
    while (!barrier_passed(barrier, parity)) {
        if (clock64_now() - begin > 4000000000u) __trap();
    }
}

__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ void tma_load(uint32_t to, const CUtensorMap* map, uint32_t x, uint32_t y,
                                         uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];"
                 :: "r"(to), "l"(map), "r"(x), "r"(y), "r"(barrier) : "memory");
}

// The box and its bytes' completion go to the same places in every CTA of `mask`.
__device__ __forceinline__ void tma_load_to_all(uint32_t to, const CUtensorMap* map, uint32_t x, uint32_t y,
                                                uint32_t barrier, uint16_t mask) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(to), "l"(map), "r"(x), "r"(y), "r"(barrier), "h"(mask) : "memory");
}

// Ordinary writes to shared memory come before what TMA and wgmma do there after the next barrier.
__device__ __forceinline__ void fence_for_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The first tile in dynamic shared memory.
__device__ __forceinline__ char* aligned_shared(char* begin) {
    const uint32_t at = shared_address(begin);
    return begin + ((at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT - at);
}

// ---- l2 by TMA

// Sum of an arrived box's words, each times 2 · (its index in the box) + 1: sees misplaced rows and a wrong swizzle.
__device__ __forceinline__ uint32_t weighed(const char* box, uint32_t rows) {
    uint32_t sum = 0;
    for (uint32_t i = threadIdx.x; i < rows * 32; i += TMA_CONSUMER_WARPS * 32) {
        const uint32_t word = *reinterpret_cast<const uint32_t*>(box + swizzled(i / 32, i % 32 / 4) + i % 4 * 4);
        sum += word * (2 * i + 1);
    }
    return sum;
}

// Four warps that take boxes, and one lane that orders them. Every cluster reads the whole set `passes` times from its
// own place on; each of its CTAs fetches its share of a box's rows for all of them. sums: of every CTA, with `check`.
template <int ROWS, int CLUSTER>
__device__ __forceinline__ void l2_tma(const CUtensorMap* map, uint32_t boxes, uint32_t passes, uint32_t share,
                                       uint32_t* sums, uint32_t check) {
    extern __shared__ char dynamic[];
    constexpr int BOX_BYTES = ROWS * BOX_COLUMNS * 2, SLOTS = TMA_SLOT_BYTES / BOX_BYTES;
    constexpr int ROWS_EACH = ROWS / CLUSTER;
    static_assert(ROWS_EACH % 8 == 0, "a CTA's share begins with a whole swizzle atom");
    char* slots = aligned_shared(dynamic);
    const uint32_t slot0 = shared_address(slots), full = slot0 + TMA_SLOT_BYTES, empty = full + SLOTS * 8;
    if (threadIdx.x == 0) {
        for (int s = 0; s < SLOTS; s++) {
            barrier_init(full + s * 8, 1);
            barrier_init(empty + s * 8, TMA_CONSUMER_WARPS * CLUSTER);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    cluster_sync();

    const uint32_t turns = boxes * passes, rank = CLUSTER == 1 ? 0 : cluster_rank();
    if (threadIdx.x >= TMA_CONSUMER_WARPS * 32) {
        if (threadIdx.x % 32 == 0) {
            const uint32_t readers = gridDim.x / CLUSTER, reader = blockIdx.x / CLUSTER;
            uint32_t box = static_cast<uint64_t>(reader / share * share) * boxes / readers;
            for (uint32_t turn = 0; turn < turns; turn++) {
                const uint32_t slot = turn % SLOTS, round = turn / SLOTS;
                // All CTAs of the cluster are done with what this slot held before: their arrivals all come here.
                if (round > 0) barrier_wait(empty + slot * 8, (round - 1) % 2);
                barrier_expect(full + slot * 8, BOX_BYTES);
                constexpr uint32_t BOXES_ACROSS = SET_COLUMNS / BOX_COLUMNS;
                const uint32_t x = box % BOXES_ACROSS * BOX_COLUMNS, y = box / BOXES_ACROSS * ROWS + rank * ROWS_EACH;
                const uint32_t to = slot0 + slot * BOX_BYTES + rank * ROWS_EACH * 128;
                if (CLUSTER == 1) {
                    tma_load(to, map, x, y, full + slot * 8);
                } else {
                    tma_load_to_all(to, map, x, y, full + slot * 8, (1 << CLUSTER) - 1);
                }
                box = box + 1 == boxes ? 0 : box + 1;
            }
        }
        __syncwarp();
    } else {
        uint32_t sum = 0;
        for (uint32_t turn = 0; turn < turns; turn++) {
            const uint32_t slot = turn % SLOTS;
            barrier_wait(full + slot * 8, turn / SLOTS % 2);
            if (check) sum += weighed(slots + slot * BOX_BYTES, ROWS);
            __syncwarp();
            if (threadIdx.x % 32 < CLUSTER) barrier_arrive_at(empty + slot * 8, threadIdx.x % 32);
        }
        if (check) atomicAdd(sums + blockIdx.x, sum);
        __syncwarp();
    }
    // No CTA may end while another still arrives at its barriers.
    cluster_sync();
}

} // namespace

#define L2_TMA(ROWS, CLUSTER) \
    extern "C" __global__ void __launch_bounds__((TMA_CONSUMER_WARPS + 1) * 32, 1) \
    l2_tma_##ROWS##_##CLUSTER(const __grid_constant__ CUtensorMap map, uint32_t boxes, uint32_t passes, \
                              uint32_t share, uint32_t* sums, uint32_t check) { \
        l2_tma<ROWS, CLUSTER>(&map, boxes, passes, share, sums, check); \
    }

L2_TMA(128, 1)
L2_TMA(128, 2)
L2_TMA(128, 4)
L2_TMA(256, 1)
L2_TMA(256, 2)
L2_TMA(256, 4)

// ---- clusters: a kernel for the occupancy query, and to start once

extern "C" __global__ void __launch_bounds__(128, 1) cluster_room(uint32_t* count) {
    cluster_sync();
    if (threadIdx.x == 0) atomicAdd(count, 1);
}

// ---- wgmma

namespace {

__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(PENDING) : "memory");
}

// Descriptor of an operand whose rows are 128 bytes of depth, 128-byte swizzle: eight rows make an atom of 1024 bytes,
// the next eight lie right behind it. 32 bytes further in depth: + 2.
__device__ __forceinline__ uint64_t descriptor(uint32_t address) {
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) // where it starts
           | 1ull << 16                                    // the step along depth: not used with this swizzle
           | static_cast<uint64_t>(1024 >> 4) << 32        // from eight rows to the next
           | 1ull << 62;                                   // 128-byte swizzle
}

// Names of operands 0 to n − 1, and what they are: accumulators of the constraint K ("+f", "+r").
#define TEN(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9"
#define NAMES_4 "%0, %1, %2, %3"
#define NAMES_30 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " TEN(1) ", " TEN(2)
#define NAMES_60 NAMES_30 ", " TEN(3) ", " TEN(4) ", " TEN(5)
#define NAMES_32 NAMES_30 ", %30, %31"
#define NAMES_48 NAMES_30 ", " TEN(3) ", %40, %41, %42, %43, %44, %45, %46, %47"
#define NAMES_64 NAMES_60 ", %60, %61, %62, %63"
#define NAMES_90 NAMES_60 ", " TEN(6) ", " TEN(7) ", " TEN(8)
#define NAMES_96 NAMES_90 ", %90, %91, %92, %93, %94, %95"
#define NAMES_128 NAMES_90 ", " TEN(9) ", " TEN(10) ", " TEN(11) ", %120, %121, %122, %123, %124, %125, %126, %127"

#define SUMS_4_AT(K, i) K(d[(i)]), K(d[(i) + 1]), K(d[(i) + 2]), K(d[(i) + 3])
#define SUMS_16_AT(K, i) SUMS_4_AT(K, i), SUMS_4_AT(K, (i) + 4), SUMS_4_AT(K, (i) + 8), SUMS_4_AT(K, (i) + 12)
#define SUMS_4(K) SUMS_4_AT(K, 0)
#define SUMS_32(K) SUMS_16_AT(K, 0), SUMS_16_AT(K, 16)
#define SUMS_48(K) SUMS_32(K), SUMS_16_AT(K, 32)
#define SUMS_64(K) SUMS_32(K), SUMS_16_AT(K, 32), SUMS_16_AT(K, 48)
#define SUMS_96(K) SUMS_64(K), SUMS_16_AT(K, 64), SUMS_16_AT(K, 80)
#define SUMS_128(K) SUMS_96(K), SUMS_16_AT(K, 96), SUMS_16_AT(K, 112)

// d = a·b, plus d where `add` is not 0. R: registers of d a thread, N / 2. A, B, P: the numbers that follow them.
#define WGMMA_SS(TYPE, TAIL, K, N, R, A, B, P) \
    if constexpr (COLUMNS == N) \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P ", 0;\n" \
                     "wgmma.mma_async.sync.aligned.m64n" #N TYPE " {" NAMES_##R "}, %" #A ", %" #B ", p" TAIL ";\n}" \
                     : SUMS_##R(K) : "l"(a), "l"(b), "r"(add))

// The same with a's rows in registers.
#define WGMMA_RS(TYPE, TAIL, K, N, R, A0, A1, A2, A3, B, P) \
    if constexpr (COLUMNS == N) \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P ", 0;\n" \
                     "wgmma.mma_async.sync.aligned.m64n" #N TYPE " {" NAMES_##R "}, " \
                     "{%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", p" TAIL ";\n}" \
                     : SUMS_##R(K) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add))

template <int COLUMNS>
__device__ __forceinline__ void wgmma_f16(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b, uint32_t add) {
    WGMMA_SS("k16.f32.f16.f16", ", 1, 1, 0, 0", "+f", 8, 4, 4, 5, 6);
    WGMMA_SS("k16.f32.f16.f16", ", 1, 1, 0, 0", "+f", 64, 32, 32, 33, 34);
    WGMMA_SS("k16.f32.f16.f16", ", 1, 1, 0, 0", "+f", 96, 48, 48, 49, 50);
    WGMMA_SS("k16.f32.f16.f16", ", 1, 1, 0, 0", "+f", 128, 64, 64, 65, 66);
    WGMMA_SS("k16.f32.f16.f16", ", 1, 1, 0, 0", "+f", 192, 96, 96, 97, 98);
    WGMMA_SS("k16.f32.f16.f16", ", 1, 1, 0, 0", "+f", 256, 128, 128, 129, 130);
}

template <int COLUMNS>
__device__ __forceinline__ void wgmma_f16(float (&d)[COLUMNS / 2], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
    WGMMA_RS("k16.f32.f16.f16", ", 1, 1, 0", "+f", 8, 4, 4, 5, 6, 7, 8, 9);
    WGMMA_RS("k16.f32.f16.f16", ", 1, 1, 0", "+f", 64, 32, 32, 33, 34, 35, 36, 37);
    WGMMA_RS("k16.f32.f16.f16", ", 1, 1, 0", "+f", 256, 128, 128, 129, 130, 131, 132, 133);
}

template <int COLUMNS>
__device__ __forceinline__ void wgmma_e4m3(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b, uint32_t add) {
    WGMMA_SS("k32.f32.e4m3.e4m3", ", 1, 1", "+f", 8, 4, 4, 5, 6);
    WGMMA_SS("k32.f32.e4m3.e4m3", ", 1, 1", "+f", 128, 64, 64, 65, 66);
    WGMMA_SS("k32.f32.e4m3.e4m3", ", 1, 1", "+f", 256, 128, 128, 129, 130);
}

template <int COLUMNS>
__device__ __forceinline__ void wgmma_s8(int32_t (&d)[COLUMNS / 2], uint64_t a, uint64_t b, uint32_t add) {
    WGMMA_SS("k32.s32.s8.s8", "", "+r", 128, 64, 64, 65, 66);
    WGMMA_SS("k32.s32.s8.s8", "", "+r", 256, 128, 128, 129, 130);
}

// Rows of 128 bytes from global memory, plain, to shared memory, swizzled.
__device__ __forceinline__ void fill_tile(char* to, const char* from, uint32_t rows) {
    for (uint32_t i = threadIdx.x; i < rows * 8; i += blockDim.x) {
        *reinterpret_cast<uint4*>(to + swizzled(i / 8, i % 8)) = *reinterpret_cast<const uint4*>(from + i * 16);
    }
}

enum Operands { F16_SS, F16_RS, E4M3_SS, S8_SS };

// GROUPS warp groups of 64 rows each share B. Operands lie in shared memory from the begin: PEAK_STAGES tiles of 128
// bytes of depth, gone through `tiles` times; each time the sums begin anew, so that they stay as random as their
// operands. RS: A's first stage in registers is used with all of B's. a: [stage][64·GROUPS][128 bytes],
// b: [stage][COLUMNS][128 bytes], d: [64·GROUPS][COLUMNS], the last sums of block `check_block`. `keep`, whether sums
// are kept when they begin anew, is 0; as an argument, since ptxas removes products whose sums it sees dropped (seen:
// half of them, replaced by empty ones).
template <Operands OPERANDS, int COLUMNS, int GROUPS, typename Sum>
__device__ __forceinline__ void peak_wgmma(const char* a, const char* b, uint32_t tiles, Sum* d, uint32_t check_block,
                                           uint32_t keep) {
    extern __shared__ char dynamic[];
    constexpr uint32_t A_BYTES = GROUPS * 64 * 128, B_BYTES = COLUMNS * 128;
    char* tile_a = aligned_shared(dynamic);
    char* tile_b = tile_a + PEAK_STAGES * A_BYTES;
    fill_tile(tile_a, a, PEAK_STAGES * GROUPS * 64);
    fill_tile(tile_b, b, PEAK_STAGES * COLUMNS);
    fence_for_async();
    __syncthreads();

    const uint32_t group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4;
    const uint64_t a0 = descriptor(shared_address(tile_a) + group * 64 * 128), b0 = descriptor(shared_address(tile_b));
    [[maybe_unused]] uint32_t rows[4][4];
    if constexpr (OPERANDS == F16_RS) {
#pragma unroll
        for (int k = 0; k < 4; k++) load_a(rows[k], a + (group * 64 + warp * 16) * 128 + k * 32, 128);
    }
    Sum sums[COLUMNS / 2];
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; i++) sums[i] = 0;
#pragma unroll 1
    for (uint32_t tile = 0; tile < tiles; tile++) {
        wgmma_fence();
#pragma unroll
        for (int stage = 0; stage < PEAK_STAGES; stage++) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const uint64_t at_a = a0 + stage * (A_BYTES >> 4) + k * 2, at_b = b0 + stage * (B_BYTES >> 4) + k * 2;
                const uint32_t add = stage + k > 0 ? 1 : keep;
                if constexpr (OPERANDS == F16_SS) wgmma_f16<COLUMNS>(sums, at_a, at_b, add);
                if constexpr (OPERANDS == F16_RS) wgmma_f16<COLUMNS>(sums, rows[k], at_b, add);
                if constexpr (OPERANDS == E4M3_SS) wgmma_e4m3<COLUMNS>(sums, at_a, at_b, add);
                if constexpr (OPERANDS == S8_SS) wgmma_s8<COLUMNS>(sums, at_a, at_b, add);
            }
            wgmma_commit();
            wgmma_wait<1>();
        }
    }
    wgmma_wait<0>();
    if (blockIdx.x != check_block) return;
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; i++) {
        d[(group * 64 + warp * 16 + row_of(i)) * COLUMNS + column_of(i)] = sums[i];
    }
}

} // namespace

#define PEAK(NAME, OPERANDS, COLUMNS, GROUPS, SUM) \
    extern "C" __global__ void __launch_bounds__(GROUPS * 128, 1) \
    peak_##NAME(const char* a, const char* b, uint32_t tiles, SUM* d, uint32_t check_block, uint32_t keep) { \
        peak_wgmma<OPERANDS, COLUMNS, GROUPS>(a, b, tiles, d, check_block, keep); \
    }

PEAK(ss_64, F16_SS, 64, 2, float)
PEAK(ss_96, F16_SS, 96, 2, float)
PEAK(ss_128, F16_SS, 128, 2, float)
PEAK(ss_192, F16_SS, 192, 2, float)
PEAK(ss_192x3, F16_SS, 192, 3, float)
PEAK(ss_256, F16_SS, 256, 2, float)
PEAK(rs_64, F16_RS, 64, 2, float)
PEAK(rs_256, F16_RS, 256, 2, float)
PEAK(e4m3_128, E4M3_SS, 128, 2, float)
PEAK(e4m3_256, E4M3_SS, 256, 2, float)
PEAK(s8_128, S8_SS, 128, 2, int32_t)
PEAK(s8_256, S8_SS, 256, 2, int32_t)

// ---- bits: a block makes BIT_TILES_PER_CTA tiles of 64×8 sums, each by one wgmma. Their operands lie side by side in
// depth.

namespace {

template <Operands OPERANDS>
__device__ __forceinline__ void bits_wgmma(const char* a, const char* b, const float* c, float* d) {
    __shared__ __align__(ALIGNMENT) char tile_a[BIT_ROWS * 128];
    __shared__ __align__(ALIGNMENT) char tile_b[BIT_COLUMNS * 128];
    const uint32_t first = blockIdx.x * BIT_TILES_PER_CTA;
    // 16-byte chunk i % 2 of row i / 2 % rows of tile i / (2 · rows).
    for (uint32_t i = threadIdx.x; i < BIT_TILES_PER_CTA * BIT_ROWS * 2; i += blockDim.x) {
        *reinterpret_cast<uint4*>(tile_a + swizzled(i / 2 % BIT_ROWS, i / (2 * BIT_ROWS) * 2 + i % 2)) =
            *reinterpret_cast<const uint4*>(a + static_cast<uint64_t>(first) * BIT_ROWS * BIT_DEPTH_BYTES + i * 16);
    }
    for (uint32_t i = threadIdx.x; i < BIT_TILES_PER_CTA * BIT_COLUMNS * 2; i += blockDim.x) {
        *reinterpret_cast<uint4*>(tile_b + swizzled(i / 2 % BIT_COLUMNS, i / (2 * BIT_COLUMNS) * 2 + i % 2)) =
            *reinterpret_cast<const uint4*>(b + static_cast<uint64_t>(first) * BIT_COLUMNS * BIT_DEPTH_BYTES + i * 16);
    }
    fence_for_async();
    __syncthreads();

    const uint32_t warp = threadIdx.x / 32;
    for (uint32_t t = 0; t < BIT_TILES_PER_CTA; t++) {
        const uint32_t begin = ((first + t) * BIT_ROWS + warp * 16) * BIT_COLUMNS;
        float sums[4];
        [[maybe_unused]] uint32_t rows[4];
        if constexpr (OPERANDS == F16_RS) {
            load_a(rows, a + ((first + t) * BIT_ROWS + warp * 16) * BIT_DEPTH_BYTES, BIT_DEPTH_BYTES);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) sums[i] = c[begin + row_of(i) * BIT_COLUMNS + column_of(i)];
        const uint64_t at_a = descriptor(shared_address(tile_a)) + t * 2;
        const uint64_t at_b = descriptor(shared_address(tile_b)) + t * 2;
        wgmma_fence();
        if constexpr (OPERANDS == F16_SS) wgmma_f16<BIT_COLUMNS>(sums, at_a, at_b, 1);
        if constexpr (OPERANDS == F16_RS) wgmma_f16<BIT_COLUMNS>(sums, rows, at_b, 1);
        if constexpr (OPERANDS == E4M3_SS) wgmma_e4m3<BIT_COLUMNS>(sums, at_a, at_b, 1);
        wgmma_commit();
        wgmma_wait<0>();
        // The sums are there only now: what reads them must not be moved above the wait.
#pragma unroll
        for (int i = 0; i < 4; i++) asm volatile("" : "+f"(sums[i]) :: "memory");
#pragma unroll
        for (int i = 0; i < 4; i++) d[begin + row_of(i) * BIT_COLUMNS + column_of(i)] = sums[i];
    }
}

__device__ __forceinline__ void mma_e4m3(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

} // namespace

#define BITS_WGMMA(NAME, OPERANDS) \
    extern "C" __global__ void __launch_bounds__(128) \
    bits_wgmma_##NAME(const char* a, const char* b, const float* c, float* d) { bits_wgmma<OPERANDS>(a, b, c, d); }

BITS_WGMMA(f16_ss, F16_SS)
BITS_WGMMA(f16_rs, F16_RS)
BITS_WGMMA(e4m3_ss, E4M3_SS)

extern "C" __global__ void __launch_bounds__(128)
bits_mma_e4m3(const char* a, const char* b, const float* c, float* d) {
    mma_tile(a, b, c, d, mma_e4m3);
}

#endif // MICRO_HOPPER

#else
// ==================================================================================================== host half

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <signal.h>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

// ---------------------------------------------------------------------------------------- the driver

// The macros of cuda.h turn names into those with a version (cuMemAlloc_v2): members and what is looked up are these.
#define REQUIRED(X) \
    X(cuInit) X(cuDeviceGet) X(cuDeviceGetName) X(cuDeviceGetAttribute) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent) \
    X(cuModuleLoadData) X(cuModuleGetFunction) X(cuFuncSetAttribute) X(cuMemAlloc) X(cuMemFree) X(cuMemHostAlloc) \
    X(cuMemFreeHost) X(cuMemHostGetDevicePointer) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyHtoDAsync) \
    X(cuMemcpyDtoHAsync) X(cuMemcpyDtoDAsync) X(cuMemsetD32Async) X(cuStreamCreate) X(cuStreamSynchronize) \
    X(cuEventCreate) X(cuEventRecord) X(cuEventDestroy) X(cuLaunchKernel) X(cuLaunchCooperativeKernel) \
    X(cuStreamBeginCapture) X(cuStreamEndCapture) \
    X(cuGraphInstantiateWithFlags) X(cuGraphLaunch) X(cuGraphUpload) X(cuGraphDestroy) X(cuGraphExecDestroy) \
    X(cuGetErrorName)

// Newer drivers only; null where they are missing.
#define OPTIONAL(X) X(cuLaunchKernelEx) X(cuOccupancyMaxActiveClusters) X(cuTensorMapEncodeTiled)

#define AS_TEXT(name) #name
#define NAME_OF(name) AS_TEXT(name)
#define MEMBER(name) decltype(&::name) name = nullptr;

struct Driver {
    REQUIRED(MEMBER)
    OPTIONAL(MEMBER)
    // Two that changed their names, but not their types: 12.8 and 13.0's headers.
    CUresult (*elapsed)(float*, CUevent, CUevent) = nullptr;
    CUresult (*edges)(CUgraph, CUgraphNode*, CUgraphNode*, CUgraphEdgeData*, size_t*) = nullptr;
};

Driver cuda;

void open_driver() {
    void* library = nullptr;
    for (const char* name : {"libcuda.so.1", "libcuda.so"}) {
        if (!library) library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    }
    if (!library) throw std::runtime_error(std::string("no CUDA driver: ") + dlerror());
    const auto find = [&](auto& function, const char* name, bool required) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
        if (!function && required) throw std::runtime_error(std::string("the CUDA driver has no ") + name);
    };
#define FIND_REQUIRED(name) find(cuda.name, NAME_OF(name), true);
#define FIND_OPTIONAL(name) find(cuda.name, NAME_OF(name), false);
    REQUIRED(FIND_REQUIRED)
    OPTIONAL(FIND_OPTIONAL)
    find(cuda.elapsed, "cuEventElapsedTime_v2", false);
    if (!cuda.elapsed) find(cuda.elapsed, "cuEventElapsedTime", true);
    find(cuda.edges, "cuGraphGetEdges_v2", false);
}

std::string name_of(CUresult code) {
    const char* name = nullptr;
    if (cuda.cuGetErrorName && cuda.cuGetErrorName(code, &name) == CUDA_SUCCESS && name) return name;
    return "CUDA error " + std::to_string(static_cast<int>(code));
}

void check(CUresult code, const char* what) {
    if (code != CUDA_SUCCESS) throw std::runtime_error(std::string(what) + ": " + name_of(code));
}

// A probe, or a part of one, that cannot run here.
struct Absent : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// For what this GPU or driver may not have.
void need(CUresult code, const char* what) {
    if (code != CUDA_SUCCESS) throw Absent(std::string(what) + ": " + name_of(code));
}

// ---------------------------------------------------------------------------------------- lines of JSON

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
    return out + "\"";
}

std::string number(double value) {
    if (!std::isfinite(value)) return "null";
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

struct Params {
    std::string text;

    Params&& raw(const char* key, const std::string& value) && {
        text += (text.empty() ? "" : ",") + quoted(key) + ":" + value;
        return std::move(*this);
    }
    Params&& with(const char* key, const std::string& value) && { return std::move(*this).raw(key, quoted(value)); }
    Params&& with(const char* key, const char* value) && { return std::move(*this).raw(key, quoted(value)); }
    Params&& with(const char* key, bool value) && { return std::move(*this).raw(key, value ? "true" : "false"); }
    Params&& with(const char* key, double value) && { return std::move(*this).raw(key, number(value)); }
    Params&& with(const char* key, int value) && { return std::move(*this).raw(key, number(value)); }
    Params&& with(const char* key, unsigned value) && { return std::move(*this).raw(key, number(value)); }
};

std::string current_probe; // whose lines these are

void print_line(const std::string& rest) {
    std::printf("{\"probe\":%s,%s}\n", quoted(current_probe).c_str(), rest.c_str());
    std::fflush(stdout);
}

// `mhz`: 0 where it was not measured.
void say(const Params& params, std::vector<double> values, const char* unit, double mhz) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    const double median = (values[(n - 1) / 2] + values[n / 2]) / 2;
    print_line("\"params\":{" + params.text + "},\"median\":" + number(median) + ",\"min\":" + number(values.front()) +
               ",\"max\":" + number(values.back()) + ",\"unit\":" + quoted(unit) +
               ",\"sm_mhz\":" + (mhz > 0 ? number(mhz) : "null"));
}

void say_absent(const Params& params, const std::string& why) {
    print_line("\"params\":{" + params.text + "},\"absent\":" + quoted(why));
}

// ---------------------------------------------------------------------------------------- the GPU

struct Module {
    CUmodule module = nullptr;
    std::string image; // "cubin sm_90", "PTX"
};

class Memory {
public:
    explicit Memory(size_t bytes) { check(cuda.cuMemAlloc(&at, bytes), "cuMemAlloc"); }
    ~Memory() { cuda.cuMemFree(at); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    template <typename T>
    void write(const std::vector<T>& from) {
        check(cuda.cuMemcpyHtoD(at, from.data(), from.size() * sizeof(T)), "cuMemcpyHtoD");
    }
    template <typename T>
    std::vector<T> read(size_t count, size_t first = 0) const {
        std::vector<T> to(count);
        check(cuda.cuMemcpyDtoH(to.data(), at + first * sizeof(T), count * sizeof(T)), "cuMemcpyDtoH");
        return to;
    }

    CUdeviceptr at = 0;
};

struct Timing {
    std::vector<double> us; // of one piece of work, each repetition
    double mhz = 0;
};

std::vector<char> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double now_ms() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Gpu {
public:
    Gpu(std::string folder, std::string out, bool is_dry)
        : modules(std::move(folder)), out_folder(std::move(out)), dry(is_dry) {
        open_driver();
        check(cuda.cuInit(0), "cuInit");
        check(cuda.cuDeviceGet(&device, 0), "cuDeviceGet");
        char text[256] = "";
        check(cuda.cuDeviceGetName(text, sizeof text, device), "cuDeviceGetName");
        name = text;
        is_virtual = name.rfind("Virtual GPU", 0) == 0;
        major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        CUcontext context;
        check(cuda.cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
        check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent");
        check(cuda.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
        load_portable();
        clocks = std::make_unique<Memory>(16);
    }

    int attribute(CUdevice_attribute which) const {
        int value = 0;
        check(cuda.cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
        return value;
    }

    // Grid of a kernel that fills the GPU: tiny where the blocks are run by a CPU.
    unsigned blocks(unsigned per_multiprocessor = 1) const { return dry ? 4 : multiprocessors * per_multiprocessor; }

    CUfunction function(const Module& from, const std::string& kernel) const {
        CUfunction f = nullptr;
        need(cuda.cuModuleGetFunction(&f, from.module, kernel.c_str()), ("kernel " + kernel).c_str());
        return f;
    }

    // The module of sm_90a kernels.
    const Module& hopper() {
        if (hopper_module.module) return hopper_module;
        const std::string path = modules + "/micro_hopper.sm_90a.cubin";
        const std::vector<char> image = read_file(path);
        if (image.empty() && (is_virtual || (major == 9 && minor == 0))) throw std::runtime_error(path + " is missing");
        if (is_virtual) throw Absent("not on the virtual GPU");
        if (major != 9 || minor != 0) {
            throw Absent("needs compute capability 9.0, not " + std::to_string(major) + "." + std::to_string(minor));
        }
        check(cuda.cuModuleLoadData(&hopper_module.module, image.data()), path.c_str());
        hopper_module.image = "cubin sm_90a";
        return hopper_module;
    }

    void dynamic_shared(CUfunction f, unsigned bytes) const {
        if (bytes <= 48 * 1024) return;
        need(cuda.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(bytes)),
             (std::to_string(bytes) + " bytes of shared memory").c_str());
    }

    // The arguments' types must be the kernel's own.
    template <typename... Arguments>
    void launch(CUfunction f, unsigned grid, unsigned block, unsigned shared, const Arguments&... arguments) const {
        void* each[] = {address(arguments)...};
        check(cuda.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, stream, each, nullptr), "cuLaunchKernel");
    }

    template <typename... Arguments>
    CUresult launch_with(CUlaunchAttribute* attributes, unsigned count, CUfunction f, unsigned grid, unsigned block,
                         unsigned shared, const Arguments&... arguments) const {
        if (!cuda.cuLaunchKernelEx) return CUDA_ERROR_NOT_SUPPORTED;
        void* each[] = {address(arguments)...};
        CUlaunchConfig config = {};
        config.gridDimX = grid, config.gridDimY = 1, config.gridDimZ = 1;
        config.blockDimX = block, config.blockDimY = 1, config.blockDimZ = 1;
        config.sharedMemBytes = shared, config.hStream = stream;
        config.attrs = attributes, config.numAttrs = count;
        return cuda.cuLaunchKernelEx(&config, f, each, nullptr);
    }

    void synchronize() const { check(cuda.cuStreamSynchronize(stream), "cuStreamSynchronize"); }

    void fill(const Memory& memory, uint64_t words, uint32_t mask) const {
        launch(function(portable, "fill_words"), blocks(8), 256, 0, memory.at, words, mask);
        synchronize();
    }

    void zero(const Memory& memory, size_t words) const {
        check(cuda.cuMemsetD32Async(memory.at, 0, words, stream), "cuMemsetD32Async");
        synchronize();
    }

    // Runs `work` until the clocks are up: 300 ms the first time, less when the GPU was busy just before. The time of
    // one run as the host sees it, in µs.
    double warm_up(const std::function<void()>& work) {
        const double enough = dry ? 0 : is_warm ? 80 : 300, begin = now_ms();
        double us = 0;
        for (int runs = 1; ; runs = std::min(2 * runs, 4096)) {
            const double batch = now_ms();
            for (int i = 0; i < runs; i++) work();
            synchronize();
            us = (now_ms() - batch) * 1000 / runs;
            if (now_ms() - begin >= enough) break;
            if (us * 2 * runs > 100000) runs = std::max(1, runs / 2);
        }
        is_warm = true;
        return us;
    }

    // The repetitions follow each other without a pause, each about `ms` long, then the clock is measured.
    Timing time(const std::function<void()>& work, double ms = 5, int repetitions = 9) {
        const double estimate = warm_up(work);
        const int runs = dry ? 1 : std::clamp(static_cast<int>(ms * 1000 / std::max(estimate, 0.5)), 1, 2000);
        if (dry) repetitions = 2;
        std::vector<CUevent> events(repetitions + 1);
        for (CUevent& event : events) check(cuda.cuEventCreate(&event, CU_EVENT_DEFAULT), "cuEventCreate");
        check(cuda.cuEventRecord(events[0], stream), "cuEventRecord");
        for (int r = 0; r < repetitions; r++) {
            for (int i = 0; i < runs; i++) work();
            check(cuda.cuEventRecord(events[r + 1], stream), "cuEventRecord");
        }
        Timing timing;
        timing.mhz = clock_mhz();
        for (int r = 0; r < repetitions; r++) timing.us.push_back(elapsed_us(events[r], events[r + 1]) / runs);
        for (CUevent event : events) cuda.cuEventDestroy(event);
        return timing;
    }

    // One at a time, with the host waiting for each: `host` by its clock, else by events around it.
    Timing time_alone(const std::function<void()>& work, bool host) {
        warm_up(work);
        CUevent begin, end;
        check(cuda.cuEventCreate(&begin, CU_EVENT_DEFAULT), "cuEventCreate");
        check(cuda.cuEventCreate(&end, CU_EVENT_DEFAULT), "cuEventCreate");
        Timing timing;
        for (int r = 0; r < (dry ? 2 : 50); r++) {
            const double before = now_ms();
            if (!host) check(cuda.cuEventRecord(begin, stream), "cuEventRecord");
            work();
            if (!host) check(cuda.cuEventRecord(end, stream), "cuEventRecord");
            synchronize();
            timing.us.push_back(host ? (now_ms() - before) * 1000 : elapsed_us(begin, end));
        }
        timing.mhz = clock_mhz();
        cuda.cuEventDestroy(begin);
        cuda.cuEventDestroy(end);
        return timing;
    }

    // Waits for the stream, too. 0: unknown.
    double clock_mhz() const {
        const uint64_t ns = dry ? 100 : 200000;
        const uint32_t limit = dry ? 1000 : 1 << 22;
        launch(function(portable, "clock_probe"), 1, 32, 0, clocks->at, ns, limit);
        synchronize();
        const std::vector<uint64_t> passed = clocks->read<uint64_t>(2);
        return is_virtual || passed[1] == 0 ? 0 : 1000.0 * passed[0] / passed[1];
    }

    std::string modules, out_folder;
    bool dry;
    bool is_virtual = false;
    CUdevice device = 0;
    CUstream stream = nullptr;
    std::string name;
    int major = 0, minor = 0;
    unsigned multiprocessors = 0;
    Module portable;

private:
    // A cubin for this very GPU, else PTX.
    void load_portable() {
        const std::string arch = "sm_" + std::to_string(major) + std::to_string(minor);
        std::string refused = "no " + modules + "/micro_portable." + arch + ".cubin";
        const std::vector<char> cubin = read_file(modules + "/micro_portable." + arch + ".cubin");
        if (!cubin.empty()) {
            const CUresult code = cuda.cuModuleLoadData(&portable.module, cubin.data());
            portable.image = "cubin " + arch;
            if (code == CUDA_SUCCESS) return;
            refused = "its cubin: " + name_of(code);
        }
        std::vector<char> ptx = read_file(modules + "/micro_portable.ptx");
        if (ptx.empty()) throw std::runtime_error(refused + "; no " + modules + "/micro_portable.ptx either");
        ptx.push_back(0);
        check(cuda.cuModuleLoadData(&portable.module, ptx.data()), (refused + "; micro_portable.ptx").c_str());
        portable.image = "PTX";
    }

    template <typename T>
    static void* address(const T& argument) {
        return const_cast<void*>(static_cast<const void*>(&argument));
    }

    static double elapsed_us(CUevent from, CUevent to) {
        float ms = 0;
        check(cuda.elapsed(&ms, from, to), "cuEventElapsedTime");
        return ms * 1000.0;
    }

    bool is_warm = false;
    Module hopper_module;
    std::unique_ptr<Memory> clocks;
};

std::vector<double> rates(const Timing& timing, double amount_per_us) {
    std::vector<double> out;
    for (double us : timing.us) out.push_back(amount_per_us / us);
    return out;
}

void expect(bool right, const std::string& what) {
    if (!right) throw std::runtime_error("wrong results, so no times: " + what);
}

// The sum of fill_words' words, mod 2^32.
uint32_t sum_of_words(uint64_t words, uint32_t mask) {
    const uint64_t period = std::min<uint64_t>(words, uint64_t(mask) + 1);
    uint32_t sum = 0;
    for (uint64_t i = 0; i < period; i++) sum += hash_word(static_cast<uint32_t>(i));
    return static_cast<uint32_t>(words / period) * sum;
}

// Whether a window of memory holds fill_words' words.
void expect_words(const Memory& memory, uint64_t words, uint32_t mask, const std::string& what) {
    const uint64_t window = std::min<uint64_t>(words, 1 << 18);
    for (uint64_t first : {uint64_t(0), (words - window) / 2, words - window}) {
        const std::vector<uint32_t> got = memory.read<uint32_t>(window, first);
        for (uint64_t i = 0; i < window; i++) {
            if (got[i] == hash_word(static_cast<uint32_t>(first + i) & mask)) continue;
            expect(false, what + ", word " + std::to_string(first + i));
        }
    }
}

// ---------------------------------------------------------------------------------------- hbm

void probe_hbm(Gpu& gpu) {
    const uint64_t bytes = gpu.dry ? 1 << 18 : 1 << 30, words = bytes / 4, chunks = bytes / 16;
    const uint32_t mask = static_cast<uint32_t>(std::min<uint64_t>(words, 1 << 20) - 1);
    const unsigned grid = gpu.blocks(8);
    Memory from(bytes), to(bytes), sums(grid * 4);
    const CUfunction read = gpu.function(gpu.portable, "hbm_read"), copy = gpu.function(gpu.portable, "hbm_copy"),
                     write = gpu.function(gpu.portable, "hbm_write");
    gpu.fill(from, words, mask);
    const auto params = [&](const char* what) {
        return Params().with("what", what).with("mb", bytes / 1e6).with("ctas", grid).with("image", gpu.portable.image);
    };

    Timing timing = gpu.time([&] { gpu.launch(read, grid, 256, 0, from.at, chunks, sums.at); });
    uint32_t sum = 0;
    for (uint32_t part : sums.read<uint32_t>(grid)) sum += part;
    expect(sum == sum_of_words(words, mask), "hbm_read");
    say(params("read"), rates(timing, bytes / 1e3), "GB/s", timing.mhz);

    gpu.zero(to, words);
    timing = gpu.time([&] { gpu.launch(write, grid, 256, 0, to.at, chunks, mask); });
    expect_words(to, words, mask, "hbm_write");
    say(params("write"), rates(timing, bytes / 1e3), "GB/s", timing.mhz);

    gpu.zero(to, words);
    timing = gpu.time([&] { gpu.launch(copy, grid, 256, 0, from.at, to.at, chunks); });
    expect_words(to, words, mask, "hbm_copy");
    say(params("copy, read + written"), rates(timing, 2 * bytes / 1e3), "GB/s", timing.mhz);

    timing = gpu.time([&] { check(cuda.cuMemcpyDtoDAsync(to.at, from.at, bytes, gpu.stream), "cuMemcpyDtoDAsync"); });
    say(params("the driver's copy, read + written"), rates(timing, 2 * bytes / 1e3), "GB/s", timing.mhz);
}

// ---------------------------------------------------------------------------------------- l2

constexpr int ANY_WORD = -1; // fill_words' mask: all bits

// What all three kinds of kernel read: 20 MiB, or in a rehearsal what the largest TMA box needs, 256 rows.
struct L2Set {
    explicit L2Set(const Gpu& gpu)
        : bytes(gpu.dry ? 8 * BLOCK_WORDS16 * 16 : 20 << 20), memory(bytes), sum(sum_of_words(bytes / 4, ANY_WORD)) {
        gpu.fill(memory, bytes / 4, ANY_WORD);
    }
    uint64_t bytes;
    Memory memory;
    uint32_t sum;
};

Params l2_params(const char* how, const L2Set& set, unsigned ctas, uint32_t share, const std::string& image) {
    return Params().with("how", how).with("set_mb", set.bytes / 1e6).with("ctas", ctas).with("share", share)
        .with("image", image);
}

void expect_sums(const Memory& sums, unsigned ctas, uint32_t each, const std::string& what) {
    for (uint32_t sum : sums.read<uint32_t>(ctas)) expect(sum == each, what);
}

void l2_by_loads(Gpu& gpu, const L2Set& set, uint32_t share) {
    const uint32_t passes = 1, blocks = static_cast<uint32_t>(set.bytes / (BLOCK_WORDS16 * 16));
    const unsigned ctas = gpu.blocks();
    Memory sums(ctas * 4);
    for (unsigned threads : {512u, 1024u}) {
        const CUfunction f = gpu.function(gpu.portable, "l2_load_" + std::to_string(threads));
        const Timing timing = gpu.time([&] {
            gpu.launch(f, ctas, threads, 0, set.memory.at, blocks, passes, share, sums.at);
        });
        expect_sums(sums, ctas, set.sum * passes, "l2_load");
        say(l2_params("ld", set, ctas, share, gpu.portable.image).with("threads", threads),
            rates(timing, ctas * passes * (set.bytes / 1e3)), "GB/s", timing.mhz);
    }
}

void l2_by_cp_async(Gpu& gpu, const L2Set& set, uint32_t share) {
    const uint32_t passes = 1, blocks = static_cast<uint32_t>(set.bytes / ASYNC_STAGE_BYTES);
    const unsigned ctas = gpu.blocks(), shared = ASYNC_STAGES * ASYNC_STAGE_BYTES;
    Memory sums(ctas * 4);
    const CUfunction f = gpu.function(gpu.portable, "l2_cp_async");
    // Older GPUs have less shared memory: half a ring is another measurement, none is honest.
    gpu.dynamic_shared(f, shared);
    const auto run = [&](uint32_t look) {
        gpu.launch(f, ctas, ASYNC_THREADS, shared, set.memory.at, blocks, passes, share, sums.at, look);
    };
    run(1);
    gpu.synchronize();
    expect_sums(sums, ctas, set.sum, "l2_cp_async");
    const Timing timing = gpu.time([&] { run(0); });
    say(l2_params("cp.async", set, ctas, share, gpu.portable.image).with("threads", ASYNC_THREADS)
            .with("in_flight_kb", shared / 1024),
        rates(timing, ctas * passes * (set.bytes / 1e3)), "GB/s", timing.mhz);
}

// The set as a matrix of SET_COLUMNS halves a row.
CUtensorMap box_map(const L2Set& set, unsigned box_rows) {
    if (!cuda.cuTensorMapEncodeTiled) throw Absent("the driver has no cuTensorMapEncodeTiled");
    CUtensorMap map;
    const cuuint64_t sizes[2] = {SET_COLUMNS, set.bytes / (SET_COLUMNS * 2)}, steps[1] = {SET_COLUMNS * 2};
    const cuuint32_t box[2] = {BOX_COLUMNS, box_rows}, strides[2] = {1, 1};
    check(cuda.cuTensorMapEncodeTiled(
              &map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, reinterpret_cast<void*>(set.memory.at), sizes, steps, box,
              strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "cuTensorMapEncodeTiled");
    return map;
}

CUlaunchAttribute cluster_of(unsigned ctas) {
    CUlaunchAttribute attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim.x = ctas, attribute.value.clusterDim.y = 1, attribute.value.clusterDim.z = 1;
    return attribute;
}

// How many clusters of this kernel run at once.
int active_clusters(const Gpu& gpu, CUfunction f, unsigned cluster, unsigned threads, unsigned shared) {
    if (!cuda.cuOccupancyMaxActiveClusters) throw Absent("the driver has no cuOccupancyMaxActiveClusters");
    CUlaunchAttribute attribute = cluster_of(cluster);
    CUlaunchConfig config = {};
    config.gridDimX = gpu.multiprocessors / cluster * cluster, config.gridDimY = 1, config.gridDimZ = 1;
    config.blockDimX = threads, config.blockDimY = 1, config.blockDimZ = 1;
    config.sharedMemBytes = shared, config.hStream = gpu.stream;
    config.attrs = &attribute, config.numAttrs = 1;
    int clusters = 0;
    need(cuda.cuOccupancyMaxActiveClusters(&clusters, f, &config), "cuOccupancyMaxActiveClusters");
    return clusters;
}

// What every CTA sums up: each word by its place in its box.
uint32_t weighed_sum(const L2Set& set, uint32_t box_rows) {
    constexpr uint32_t ROW_WORDS = SET_COLUMNS / 2, BOX_WORDS = BOX_COLUMNS / 2;
    uint32_t sum = 0;
    for (uint64_t i = 0; i < set.bytes / 4; i++) {
        const uint32_t row = static_cast<uint32_t>(i / ROW_WORDS) % box_rows, column = i % ROW_WORDS % BOX_WORDS;
        sum += hash_word(static_cast<uint32_t>(i)) * (2 * (row * BOX_WORDS + column) + 1);
    }
    return sum;
}

void l2_by_tma(Gpu& gpu, const L2Set& set, unsigned rows, unsigned cluster, uint32_t share, uint32_t expected) {
    const Module& module = gpu.hopper();
    const CUfunction f = gpu.function(module, "l2_tma_" + std::to_string(rows) + "_" + std::to_string(cluster));
    constexpr unsigned THREADS = (TMA_CONSUMER_WARPS + 1) * 32, SHARED = ALIGNMENT + TMA_SLOT_BYTES + 1024;
    gpu.dynamic_shared(f, SHARED);
    const CUtensorMap map = box_map(set, rows / cluster);
    const unsigned clusters = cluster == 1 ? gpu.multiprocessors : active_clusters(gpu, f, cluster, THREADS, SHARED);
    if (clusters == 0) throw Absent("no such cluster fits");
    const unsigned ctas = std::min(clusters * cluster, gpu.blocks() / cluster * cluster);
    const uint32_t passes = 1, boxes = static_cast<uint32_t>(set.bytes / (rows * BOX_COLUMNS * 2));
    Memory sums(ctas * 4);
    gpu.zero(sums, ctas);
    CUlaunchAttribute attribute = cluster_of(cluster);
    const auto run = [&](uint32_t look) {
        const unsigned used = cluster > 1 ? 1 : 0;
        check(gpu.launch_with(&attribute, used, f, ctas, THREADS, SHARED, map, boxes, passes, share, sums.at, look),
              "cuLaunchKernelEx");
    };
    run(1);
    gpu.synchronize();
    expect_sums(sums, ctas, expected, "l2_tma");
    const Timing timing = gpu.time([&] { run(0); });
    say(l2_params(cluster > 1 ? "TMA, multicast" : "TMA", set, ctas, share, module.image)
            .with("box_columns", BOX_COLUMNS).with("box_rows", rows).with("cluster", cluster)
            .with("in_flight_kb", TMA_SLOT_BYTES / 1024).with("read_from_l2", 1.0 / cluster),
        rates(timing, ctas * passes * (set.bytes / 1e3)), "GB/s", timing.mhz);
}

// GB/s as they arrive in the multiprocessors; with multicast, the L2 reads 1 / cluster of it.
void probe_l2(Gpu& gpu) {
    const L2Set set(gpu);
    const auto attempt = [&](const char* how, uint32_t share, const std::function<void()>& part) {
        try {
            part();
        } catch (const Absent& why) {
            say_absent(Params().with("how", how).with("share", share), why.what());
        }
    };
    for (uint32_t share : {1u, 8u}) {
        attempt("ld", share, [&] { l2_by_loads(gpu, set, share); });
        attempt("cp.async", share, [&] { l2_by_cp_async(gpu, set, share); });
    }
    gpu.hopper();
    for (unsigned rows : {128u, 256u}) {
        const uint32_t expected = weighed_sum(set, rows);
        for (unsigned cluster : {1u, 2u, 4u}) {
            for (uint32_t share : {1u, 8u}) {
                attempt("TMA", share, [&] { l2_by_tma(gpu, set, rows, cluster, share, expected); });
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- latency

void probe_latency(Gpu& gpu) {
    constexpr uint32_t A = 1664525, C = 1013904223;
    const CUfunction fill = gpu.function(gpu.portable, "fill_chase"), chase = gpu.function(gpu.portable, "chase");
    Memory state(16);
    struct Case {
        const char* where;
        uint64_t bytes;
    };
    const std::vector<Case> all = {{"L2", 4 << 20}, {"L2", 16 << 20}, {"L2", 32 << 20}, {"HBM", 1 << 30}};
    const std::vector<Case> few = {{"L2", 64 << 10}};
    for (const Case& at : gpu.dry ? few : all) {
        const uint32_t lines = static_cast<uint32_t>(at.bytes / LINE_BYTES), steps = gpu.dry ? 200 : 20000;
        Memory memory(at.bytes);
        gpu.launch(fill, gpu.blocks(8), 256, 0, memory.at, lines, A, C);
        gpu.synchronize();
        gpu.zero(state, 4);
        uint64_t made = 0;
        const Timing timing = gpu.time([&] {
            gpu.launch(chase, 1, 1, 0, memory.at, steps, state.at);
            made += steps;
        });
        uint32_t line = 0;
        for (uint64_t i = 0; i < made; i++) line = (A * line + C) & (lines - 1);
        const std::vector<uint64_t> end = state.read<uint64_t>(2);
        expect(end[0] == uint64_t(line) * LINE_BYTES, "chase");
        std::vector<double> ns;
        for (double us : timing.us) ns.push_back(us * 1000 / steps);
        say(Params().with("where", at.where).with("mb", at.bytes / 1e6).with("steps", steps)
                .with("clocks", double(end[1]) / steps).with("image", gpu.portable.image),
            ns, "ns", timing.mhz);
    }
}

// ---------------------------------------------------------------------------------------- random numbers and formats

// splitmix64 (public domain).
struct Random {
    uint64_t state;
    uint64_t next() {
        state += 0x9e3779b97f4a7c15u;
        uint64_t z = state;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
    // 0 to n − 1; the upper half of the word modulo n.
    uint32_t below(uint32_t n) { return static_cast<uint32_t>(next() >> 32) % n; }
    int between(int low, int high) { return low + static_cast<int>(below(static_cast<uint32_t>(high - low + 1))); }
};

// A small float format with IEEE-like exponents. e4m3 has no infinity, and of its largest exponent only the last
// mantissa is NaN.
struct Format {
    const char* name;
    int bytes, mantissa_bits, bias, least, most; // exponents of normal numbers
    bool has_infinity;

    uint32_t make(uint32_t sign, int exponent, uint32_t mantissa) const {
        return sign << (8 * bytes - 1) | static_cast<uint32_t>(exponent + bias) << mantissa_bits | mantissa;
    }
    uint32_t subnormal(uint32_t sign, uint32_t mantissa) const { return sign << (8 * bytes - 1) | mantissa; }

    double value(uint32_t bits) const {
        const uint32_t fields = bits & ((1u << (8 * bytes - 1)) - 1), mantissa = fields & ((1u << mantissa_bits) - 1);
        const int exponent = static_cast<int>(fields >> mantissa_bits);
        const double sign = bits >> (8 * bytes - 1) & 1 ? -1 : 1;
        if (has_infinity && exponent - bias > most) return mantissa ? NAN : sign * INFINITY;
        if (!has_infinity && exponent - bias == most && mantissa == (1u << mantissa_bits) - 1) return NAN;
        if (exponent == 0) return sign * std::ldexp(mantissa, least - mantissa_bits);
        return sign * std::ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
    }
};

constexpr Format F16 = {"f16", 2, 10, 15, -14, 15, true};
constexpr Format E4M3 = {"e4m3", 1, 3, 7, -6, 8, false};

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

uint32_t float_bits(uint32_t sign, int exponent, uint32_t mantissa) {
    return sign << 31 | static_cast<uint32_t>(exponent + 127) << 23 | mantissa;
}

// ---------------------------------------------------------------------------------------- peak

enum class Type { F16, E4M3, S8 };

// Random, finite, below 1 in size (s8: any but −128); never zero but by chance.
std::vector<uint8_t> random_operand(Type type, size_t bytes, uint64_t seed) {
    Random random{seed};
    std::vector<uint8_t> out(bytes);
    for (size_t i = 0; i < bytes; i += type == Type::F16 ? 2 : 1) {
        if (type == Type::S8) {
            out[i] = static_cast<uint8_t>(random.between(-127, 127));
        } else {
            const Format& format = type == Type::F16 ? F16 : E4M3;
            const uint32_t sign = random.below(2);
            const int exponent = random.between(-4, -1);
            const uint32_t bits = format.make(sign, exponent, random.below(1u << format.mantissa_bits));
            std::memcpy(&out[i], &bits, format.bytes);
        }
    }
    return out;
}

double value_at(Type type, const uint8_t* from) {
    if (type == Type::S8) return static_cast<int8_t>(*from);
    uint32_t bits = 0;
    std::memcpy(&bits, from, type == Type::F16 ? 2 : 1);
    return (type == Type::F16 ? F16 : E4M3).value(bits);
}

std::vector<double> values_of(Type type, const std::vector<uint8_t>& bytes) {
    std::vector<double> out;
    for (size_t i = 0; i < bytes.size(); i += type == Type::F16 ? 2 : 1) out.push_back(value_at(type, &bytes[i]));
    return out;
}

// Of two rows of values: the sum of products and the sum of their sizes.
std::pair<double, double> dot(const double* a, const double* b, int depth) {
    double sum = 0, size = 0;
    for (int i = 0; i < depth; i++) {
        const double product = a[i] * b[i];
        sum += product, size += std::fabs(product);
    }
    return {sum, size};
}

// How far a sum may be off, for its terms' sizes. e4m3 through wgmma keeps 13 bits of fraction.
double allowed(Type type, double size) {
    return type == Type::S8 ? 0 : size * (type == Type::E4M3 ? 1.0 / 256 : 1.0 / 8192);
}

struct Peak {
    const char* instruction;
    const char* kernel;
    Type type;
    unsigned columns, groups; // of wgmma
    bool a_in_registers;
};

// Tiles of a launch of about 10 ms at the dense peak of Hopper.
uint32_t tiles_of_10_ms(const Gpu& gpu, double flop_per_tile, double flop_per_clock) {
    return gpu.dry ? 1 : static_cast<uint32_t>(0.010 * 1.8e9 * flop_per_clock / flop_per_tile) + 1;
}

void peak_of_mma(Gpu& gpu, unsigned warps) {
    constexpr size_t TILE_BYTES = 32 * 64; // 32 rows of 32 halves
    const std::vector<uint8_t> a = random_operand(Type::F16, warps * TILE_BYTES, 1),
                               b = random_operand(Type::F16, warps * TILE_BYTES, 2);
    Memory on_a(a.size()), on_b(b.size()), d(warps * 1024 * 4);
    on_a.write(a), on_b.write(b);
    const CUfunction f = gpu.function(gpu.portable, "peak_mma");
    const double flop = 2.0 * 32 * 32 * 32 * MMA_STEPS * warps; // of a CTA and tile
    const unsigned ctas = gpu.blocks();
    const uint32_t tiles = tiles_of_10_ms(gpu, flop, 2600), last = ctas - 1, keep = 0;
    const auto run = [&] { gpu.launch(f, ctas, warps * 32, 0, on_a.at, on_b.at, tiles, d.at, last, keep); };
    const Timing timing = gpu.time(run, 40, 5);
    const std::vector<float> got = d.read<float>(warps * 1024);
    const std::vector<double> rows = values_of(Type::F16, a), columns = values_of(Type::F16, b);
    for (size_t i = 0; i < got.size(); i++) {
        const auto [sum, size] = dot(&rows[i / 32 * 32], &columns[i / 1024 * 1024 + i % 32 * 32], 32);
        expect(std::fabs(got[i] - sum * MMA_STEPS) <= allowed(Type::F16, size * MMA_STEPS), "peak_mma");
    }
    say(Params().with("instruction", "mma.sync m16n8k16 f16").with("warps", warps).with("ctas", ctas)
            .with("image", gpu.portable.image),
        rates(timing, flop * tiles * ctas / 1e6), "TFLOP/s", timing.mhz);
}

void peak_of_wgmma(Gpu& gpu, const Peak& peak) {
    const Module& module = gpu.hopper();
    const CUfunction f = gpu.function(module, peak.kernel);
    const unsigned rows = peak.groups * 64, shared = ALIGNMENT + PEAK_STAGES * 128 * (rows + peak.columns);
    gpu.dynamic_shared(f, shared);
    const std::vector<uint8_t> a = random_operand(peak.type, PEAK_STAGES * rows * 128, 3),
                               b = random_operand(peak.type, PEAK_STAGES * peak.columns * 128, 4);
    Memory on_a(a.size()), on_b(b.size()), d(rows * peak.columns * 4);
    on_a.write(a), on_b.write(b);
    const double depth = PEAK_STAGES * (peak.type == Type::F16 ? 64 : 128), flop = 2.0 * rows * peak.columns * depth;
    const unsigned ctas = gpu.blocks();
    const uint32_t tiles = tiles_of_10_ms(gpu, flop, peak.type == Type::F16 ? 4096 : 8192), last = ctas - 1, keep = 0;
    gpu.zero(d, rows * peak.columns);
    const auto run = [&] { gpu.launch(f, ctas, peak.groups * 128, shared, on_a.at, on_b.at, tiles, d.at, last, keep); };
    const Timing timing = gpu.time(run, 40, 5);
    const std::vector<uint32_t> got = d.read<uint32_t>(rows * peak.columns);
    const std::vector<double> values_a = values_of(peak.type, a), values_b = values_of(peak.type, b);
    const int width = peak.type == Type::F16 ? 64 : 128; // values in a row of a stage
    for (unsigned r = 0; r < rows; r++) {
        for (unsigned c = 0; c < peak.columns; c++) {
            double sum = 0, size = 0;
            for (unsigned stage = 0; stage < PEAK_STAGES; stage++) {
                const size_t at_a = ((peak.a_in_registers ? 0 : stage) * rows + r) * width;
                const size_t at_b = (stage * peak.columns + c) * width;
                const auto [s, z] = dot(&values_a[at_a], &values_b[at_b], width);
                sum += s, size += z;
            }
            const uint32_t bits = got[r * peak.columns + c];
            const double value = peak.type == Type::S8 ? double(static_cast<int32_t>(bits)) : double(float_of(bits));
            // So that NaN fails.
            if (std::fabs(value - sum) <= allowed(peak.type, size)) continue;
            expect(false, std::string(peak.kernel) + ": " + number(value) + " instead of " + number(sum) + " at row " +
                              std::to_string(r) + ", column " + std::to_string(c));
        }
    }
    say(Params().with("instruction", peak.instruction).with("rows", rows).with("columns", peak.columns)
            .with("groups", peak.groups).with("ctas", ctas).with("image", module.image),
        rates(timing, flop * tiles * ctas / 1e6), peak.type == Type::S8 ? "TOP/s" : "TFLOP/s", timing.mhz);
}

void probe_peak(Gpu& gpu) {
    for (unsigned warps : {8u, 16u}) peak_of_mma(gpu, warps);
    gpu.hopper();
    const Peak peaks[] = {
        {"wgmma m64n64k16 f16 SS", "peak_ss_64", Type::F16, 64, 2, false},
        {"wgmma m64n96k16 f16 SS", "peak_ss_96", Type::F16, 96, 2, false},
        {"wgmma m64n128k16 f16 SS", "peak_ss_128", Type::F16, 128, 2, false},
        {"wgmma m64n192k16 f16 SS", "peak_ss_192", Type::F16, 192, 2, false},
        {"wgmma m64n192k16 f16 SS", "peak_ss_192x3", Type::F16, 192, 3, false},
        {"wgmma m64n256k16 f16 SS", "peak_ss_256", Type::F16, 256, 2, false},
        {"wgmma m64n64k16 f16 RS", "peak_rs_64", Type::F16, 64, 2, true},
        {"wgmma m64n256k16 f16 RS", "peak_rs_256", Type::F16, 256, 2, true},
        {"wgmma m64n128k32 e4m3 SS", "peak_e4m3_128", Type::E4M3, 128, 2, false},
        {"wgmma m64n256k32 e4m3 SS", "peak_e4m3_256", Type::E4M3, 256, 2, false},
        {"wgmma m64n128k32 s8 SS", "peak_s8_128", Type::S8, 128, 2, false},
        {"wgmma m64n256k32 s8 SS", "peak_s8_256", Type::S8, 256, 2, false},
    };
    for (const Peak& peak : peaks) peak_of_wgmma(gpu, peak);
}

// ---------------------------------------------------------------------------------------- edge

// An executable graph of what `record` puts into the stream.
class Graph {
public:
    Graph(const Gpu& gpu, const std::function<void()>& record) {
        check(cuda.cuStreamBeginCapture(gpu.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
        try {
            record();
        } catch (...) {
            if (cuda.cuStreamEndCapture(gpu.stream, &graph) == CUDA_SUCCESS && graph) cuda.cuGraphDestroy(graph);
            throw;
        }
        check(cuda.cuStreamEndCapture(gpu.stream, &graph), "cuStreamEndCapture");
        check(cuda.cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiate");
        check(cuda.cuGraphUpload(exec, gpu.stream), "cuGraphUpload");
        gpu.synchronize();
    }
    ~Graph() {
        cuda.cuGraphExecDestroy(exec);
        cuda.cuGraphDestroy(graph);
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    void launch(const Gpu& gpu) const { check(cuda.cuGraphLaunch(exec, gpu.stream), "cuGraphLaunch"); }

    // "12", or "null" where the driver does not say.
    std::string programmatic_edges() const {
        size_t count = 0;
        if (!cuda.edges || cuda.edges(graph, nullptr, nullptr, nullptr, &count) != CUDA_SUCCESS) return "null";
        std::vector<CUgraphNode> from(count + 1), to(count + 1);
        std::vector<CUgraphEdgeData> data(count + 1);
        if (count > 0 && cuda.edges(graph, from.data(), to.data(), data.data(), &count) != CUDA_SUCCESS) return "null";
        size_t programmatic = 0;
        for (size_t i = 0; i < count; i++) programmatic += data[i].type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
        return std::to_string(programmatic);
    }

private:
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
};

// Kernels a and b take turns; b may be as a.
struct EdgeCase {
    const char* mode; // plain, wait, early, half
    unsigned shared_a, shared_b;
    int carveout_a, carveout_b; // percent of shared memory, −1: the driver's choice
};

struct EdgeRun {
    unsigned kernels, ctas;
    uint64_t clocks; // that each kernel spins
    std::vector<double> alone_us; // one kernel that spins as long as all of them
};

// The time between the end of one kernel's spinning and the begin of the next one's, µs.
void edge_case(Gpu& gpu, const EdgeRun& run, const Memory& count, const EdgeCase& at) {
    const bool dependent = std::string(at.mode) != "plain";
    CUfunction f[2];
    for (int i = 0; i < 2; i++) {
        f[i] = gpu.function(gpu.portable, std::string("edge_") + at.mode + (i ? "_b" : "_a"));
        gpu.dynamic_shared(f[i], i ? at.shared_b : at.shared_a);
        const int carveout = i ? at.carveout_b : at.carveout_a;
        need(cuda.cuFuncSetAttribute(f[i], CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, carveout), "carve-out");
    }
    CUlaunchAttribute attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    const Graph graph(gpu, [&] {
        for (unsigned k = 0; k < run.kernels; k++) {
            const unsigned shared = k % 2 ? at.shared_b : at.shared_a;
            if (dependent) {
                need(gpu.launch_with(&attribute, 1, f[k % 2], run.ctas, 128, shared, run.clocks, count.at),
                     "cuLaunchKernelEx");
            } else {
                gpu.launch(f[k % 2], run.ctas, 128, shared, run.clocks, count.at);
            }
        }
    });
    gpu.zero(count, 1);
    uint32_t made = 0;
    const Timing timing = gpu.time([&] { graph.launch(gpu), made += run.kernels; }, 4, 9);
    expect(count.read<uint32_t>(1)[0] == made, std::string(at.mode) + ": a kernel did not wait for the one before");
    std::vector<double> alone = run.alone_us, gaps;
    std::nth_element(alone.begin(), alone.begin() + alone.size() / 2, alone.end());
    for (double us : timing.us) gaps.push_back((us - alone[alone.size() / 2]) / (run.kernels - 1));
    say(Params().with("mode", at.mode).with("shared_kb_a", at.shared_a / 1024).with("shared_kb_b", at.shared_b / 1024)
            .with("carveout_a", at.carveout_a).with("carveout_b", at.carveout_b).with("kernels", run.kernels)
            .with("ctas", run.ctas).with("spin_clocks", double(run.clocks))
            .raw("programmatic_edges", graph.programmatic_edges()).with("image", gpu.portable.image),
        gaps, "us between kernels", timing.mhz);
}

void probe_edge(Gpu& gpu) {
    Memory count(4);
    gpu.zero(count, 1);
    EdgeRun run = {gpu.dry ? 6u : 200u, gpu.blocks(), 200, {}};
    const CUfunction plain = gpu.function(gpu.portable, "edge_plain_a");
    if (!gpu.dry) {
        gpu.warm_up([&] { gpu.launch(plain, run.ctas, 128, 0, uint64_t(100000), count.at); });
        const double mhz = gpu.clock_mhz();
        run.clocks = static_cast<uint64_t>(2 * (mhz > 0 ? mhz : 1700)); // 2 µs
    }
    // One kernel, itself in a graph, that spins as long as all together: what remains are the gaps.
    const Graph alone(gpu, [&] { gpu.launch(plain, run.ctas, 128, 0, run.clocks * run.kernels, count.at); });
    const Timing one = gpu.time([&] { alone.launch(gpu); }, 4, 9);
    run.alone_us = one.us;
    say(Params().with("mode", "one kernel for all").with("ctas", run.ctas)
            .with("spin_clocks", double(run.clocks * run.kernels)).with("image", gpu.portable.image),
        one.us, "us", one.mhz);

    constexpr unsigned KB = 1024;
    std::vector<EdgeCase> cases;
    for (const char* mode : {"plain", "wait", "early", "half"}) {
        for (unsigned shared : {1 * KB, 100 * KB, 200 * KB}) cases.push_back({mode, shared, shared, 100, 100});
    }
    // A small kernel between large ones: the same carve-out, the driver's choice, the least.
    for (const char* mode : {"plain", "early"}) {
        for (unsigned shared : {100 * KB, 200 * KB}) {
            for (int carveout : {100, -1, 0}) cases.push_back({mode, shared, 1 * KB, 100, carveout});
        }
    }
    for (const EdgeCase& at : cases) {
        try {
            edge_case(gpu, run, count, at);
        } catch (const Absent& why) {
            say_absent(Params().with("mode", at.mode).with("shared_kb_a", at.shared_a / 1024.0)
                           .with("shared_kb_b", at.shared_b / 1024.0).with("carveout_b", at.carveout_b), why.what());
        }
    }
}

// ---------------------------------------------------------------------------------------- gridbar

void probe_gridbar(Gpu& gpu) {
    const unsigned ctas = gpu.blocks();
    const uint32_t rounds = gpu.dry ? 4 : 1000, limit = 1 << 21; // polls of about 0.7 µs
    Memory counter(4), slots(ctas * 8), errors(8);
    const CUfunction f = gpu.function(gpu.portable, "gridbar");
    gpu.zero(counter, 1);
    gpu.zero(errors, 2);
    // A cooperative launch promises that all blocks are resident; one block a multiprocessor is anyway.
    bool cooperative = true;
    uint32_t base = 0;
    for (unsigned threads : {128u, 384u}) {
        const auto run = [&](uint32_t look) {
            uint32_t many = rounds, most = limit;
            void* each[] = {&counter.at, &base, &many, &slots.at, &errors.at, &look, &most};
            if (cooperative) {
                const CUresult code = cuda.cuLaunchCooperativeKernel(f, ctas, 1, 1, threads, 1, 1, 0, gpu.stream, each);
                if (code == CUDA_ERROR_NOT_SUPPORTED) cooperative = false;
                else check(code, "cuLaunchCooperativeKernel");
            }
            if (!cooperative) {
                gpu.launch(f, ctas, threads, 0, counter.at, base, rounds, slots.at, errors.at, look, limit);
            }
            base += rounds * ctas;
        };
        const auto expect_none = [&] {
            const std::vector<uint32_t> got = errors.read<uint32_t>(2);
            expect(got[0] == 0, "gridbar: a block waited in vain");
            expect(got[1] == 0, "gridbar: a block went on before its neighbour had come");
        };
        run(1);
        gpu.synchronize();
        expect_none();
        const Timing timing = gpu.time([&] { run(0); });
        expect_none();
        std::vector<double> us;
        for (double all : timing.us) us.push_back(all / rounds);
        say(Params().with("ctas", ctas).with("threads", threads).with("rounds", rounds).with("cooperative", cooperative)
                .with("image", gpu.portable.image), us, "us", timing.mhz);
    }
}

// ---------------------------------------------------------------------------------------- clusters

void probe_clusters(Gpu& gpu) {
    const Module& module = gpu.hopper();
    const CUfunction f = gpu.function(module, "cluster_room");
    need(cuda.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1), "clusters of 16");
    Memory count(4);
    for (unsigned shared : {200u * 1024, 100u * 1024}) {
        gpu.dynamic_shared(f, 200 * 1024);
        for (unsigned cluster : {2u, 4u, 8u, 16u}) {
            const auto params = [&] {
                return Params().with("cluster", cluster).with("shared_kb", shared / 1024).with("image", module.image);
            };
            try {
                const int clusters = active_clusters(gpu, f, cluster, 128, shared);
                if (clusters > 0) {
                    gpu.zero(count, 1);
                    CUlaunchAttribute attribute = cluster_of(cluster);
                    check(gpu.launch_with(&attribute, 1, f, clusters * cluster, 128, shared, count.at),
                          "cuLaunchKernelEx");
                    gpu.synchronize();
                    expect(count.read<uint32_t>(1)[0] == clusters * cluster, "cluster_room");
                }
                say(params().with("ctas", clusters * cluster), {double(clusters)}, "clusters at once", 0);
            } catch (const Absent& why) {
                say_absent(params(), why.what());
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- copy

// Page-locked memory that kernels see, too.
class Pinned {
public:
    explicit Pinned(size_t bytes) : count(bytes / 4) {
        void* memory = nullptr;
        check(cuda.cuMemHostAlloc(&memory, bytes, CU_MEMHOSTALLOC_DEVICEMAP), "cuMemHostAlloc");
        words = static_cast<uint32_t*>(memory);
        check(cuda.cuMemHostGetDevicePointer(&device, words, 0), "cuMemHostGetDevicePointer");
    }
    ~Pinned() { cuda.cuMemFreeHost(words); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;

    void set(bool zeros) {
        for (size_t i = 0; i < count; i++) words[i] = zeros ? 0 : hash_word(static_cast<uint32_t>(i));
    }
    void expect_set(const std::string& what) const {
        for (size_t i = 0; i < count; i++) expect(words[i] == hash_word(static_cast<uint32_t>(i)), what);
    }

    uint32_t* words = nullptr;
    CUdeviceptr device = 0;
    size_t count;
};

void copies(Gpu& gpu, size_t bytes, bool to_gpu) {
    Pinned host(bytes);
    Memory memory(bytes);
    const CUfunction mapped = gpu.function(gpu.portable, "copy_mapped");
    const uint32_t chunks = static_cast<uint32_t>(bytes / 16);
    const auto plain = [&] {
        check(to_gpu ? cuda.cuMemcpyHtoDAsync(memory.at, host.words, bytes, gpu.stream)
                     : cuda.cuMemcpyDtoHAsync(host.words, memory.at, bytes, gpu.stream), "cuMemcpyAsync");
    };
    const Graph graph(gpu, plain);
    const auto by_kernel = [&](unsigned ctas) {
        if (to_gpu) gpu.launch(mapped, ctas, 256, 0, host.device, memory.at, chunks);
        else gpu.launch(mapped, ctas, 256, 0, memory.at, host.device, chunks);
    };
    const unsigned ctas = gpu.blocks();
    const std::pair<const char*, std::function<void()>> ways[] = {
        {"copy", plain},
        {"copy in a graph", [&] { graph.launch(gpu); }},
        {"kernel on mapped memory", [&] { by_kernel(ctas); }},
        {"kernel on mapped memory, 16 CTAs", [&] { by_kernel(gpu.dry ? 2 : 16); }},
    };
    for (const auto& [how, work] : ways) {
        // The one side holds the words, the other zeros; the way must bring them over.
        host.set(!to_gpu);
        if (to_gpu) gpu.zero(memory, bytes / 4);
        else gpu.fill(memory, bytes / 4, ANY_WORD);
        work();
        gpu.synchronize();
        if (to_gpu) expect_words(memory, bytes / 4, ANY_WORD, how);
        else host.expect_set(how);
        for (bool by_host : {true, false}) {
            const Timing timing = gpu.time_alone(work, by_host);
            say(Params().with("how", how).with("direction", to_gpu ? "to GPU" : "to host").with("mb", bytes / 1e6)
                    .with("clock", by_host ? "host" : "events").with("image", gpu.portable.image),
                timing.us, "us", timing.mhz);
        }
    }
}

// The mask of 480×480 pixels in 16 bits, its photo, and a photo of 640×480.
void probe_copy(Gpu& gpu) {
    for (size_t bytes : {size_t(480 * 480 * 2), size_t(480 * 480 * 3), size_t(640 * 480 * 3)}) {
        for (bool to_gpu : {true, false}) copies(gpu, gpu.dry ? bytes / 64 : bytes, to_gpu);
    }
}

// ---------------------------------------------------------------------------------------- gelu

struct GeluError {
    double most, units; // absolute, and in units of f16 of the result
};

GeluError gelu_error(const Gpu& gpu, const std::string& kind) {
    std::vector<float> x;
    const int steps = gpu.dry ? 1000 : 60000;
    for (int i = -steps; i <= steps; i++) x.push_back(12.0f * i / steps);
    for (float far : {13.0f, 20.0f, 50.0f, 1000.0f, 65504.0f}) x.push_back(far), x.push_back(-far);
    Memory from(x.size() * 4), to(x.size() * 4);
    from.write(x);
    const uint32_t values = static_cast<uint32_t>(x.size());
    gpu.launch(gpu.function(gpu.portable, "gelu_values_" + kind), gpu.blocks(), 256, 0, from.at, to.at, values);
    gpu.synchronize();
    const std::vector<float> y = to.read<float>(x.size());
    GeluError error = {};
    for (size_t i = 0; i < x.size(); i++) {
        const double right = 0.5 * x[i] * std::erfc(-double(x[i]) * 0.70710678118654752440);
        const double off = std::fabs(y[i] - right);
        const double unit = std::ldexp(1.0, std::max(std::ilogb(right == 0 ? 1e-30 : right), -14) - 10);
        expect(std::isfinite(y[i]), "gelu of " + number(x[i]));
        // Further out float32 itself is coarser than that.
        if (std::fabs(x[i]) <= 12) error.most = std::max(error.most, off);
        error.units = std::max(error.units, off / unit);
    }
    return error;
}

void probe_gelu(Gpu& gpu) {
    const uint32_t turns = gpu.dry ? 2 : 4000;
    const unsigned ctas = gpu.blocks();
    for (const std::string kind : {"none", "erff", "fine", "fast"}) {
        const CUfunction f = gpu.function(gpu.portable, "gelu_loop_" + kind);
        GeluError error = {};
        if (kind != "none") {
            error = gelu_error(gpu, kind);
            // The left tail of 1 + erff cancels: some units of f16's smallest numbers.
            expect(error.most < (kind == "fast" ? 2e-5 : 2e-6) && (kind == "erff" || error.units < 0.25),
                   "gelu_" + kind + ": " + number(error.most) + " off, " + number(error.units) + " units of f16");
        }
        for (unsigned threads : {256u, 1024u}) {
            if (gpu.dry && threads > 256) continue;
            Memory out(size_t(ctas) * threads * 4);
            const Timing timing = gpu.time([&] { gpu.launch(f, ctas, threads, 0, turns, out.at); });
            const double millions = double(ctas) * threads * 8 * turns / 1e6;
            std::vector<double> ns;
            for (double us : timing.us) ns.push_back(us * 1000 / millions);
            say(Params().with("function", kind).with("ctas", ctas).with("threads", threads).with("most_off", error.most)
                    .with("most_off_in_f16_units", error.units).with("image", gpu.portable.image),
                ns, "ns per 1e6 values", timing.mhz);
        }
    }
}

// ---------------------------------------------------------------------------------------- bits

// Kinds of tiles: BIT_ROWS rows of A, BIT_COLUMNS of B (columns of the product), and C to begin the sums with. All
// values come from one `Random` of seed (format << 40 | kind << 20 | tile), format 0: f16, 1: e4m3; A row by row, then
// B, then C.
const char* const KINDS[] = {
    "random",    // sizes around 1
    "wide",      // all exponents
    "cancel",    // the second half of each row takes back the first; odd rows but for one last bit
    "ladder",    // one large product, the others 2^0 to 2^-34 (e4m3: 2^-19) of it; C 0
    "ladder_c",  // products around 1, C from 2^-32 to 2^31
    "subnormal", // half of A subnormal; rows 0, 8, … zeros; C subnormal or zero
    "special",   // infinities, NaN, zeros, largest values now and then, in A, B and C
    "large",     // C up to 2^127 on products of the largest size
    "pair",      // one product alone with a C of 2^-32 to 2^31 of it
};
constexpr int KIND_COUNT = sizeof KINDS / sizeof *KINDS, SPECIAL = 6;

struct Tiles {
    std::vector<uint8_t> a, b;
    std::vector<uint32_t> c; // bits of float32
};

class TileMaker {
public:
    TileMaker(const Format& f, int k, int t)
        : format(f), kind(k), depth(BIT_DEPTH_BYTES / f.bytes), large_at(t % depth),
          random{uint64_t(f.bytes == 1) << 40 | uint64_t(k) << 20 | uint64_t(t)} {}

    void append_to(Tiles& tiles) {
        std::vector<uint32_t> row(depth);
        for (int r = 0; r < BIT_ROWS; r++) {
            row_of_a(row, r);
            append(tiles.a, row);
        }
        for (int n = 0; n < BIT_COLUMNS; n++) {
            row_of_b(row, n);
            append(tiles.b, row);
        }
        for (int r = 0; r < BIT_ROWS; r++) {
            for (int n = 0; n < BIT_COLUMNS; n++) tiles.c.push_back(start(r, n));
        }
    }

private:
    // Of the largest exponent e4m3's last mantissa is NaN; no kind but "special" goes there.
    uint32_t normal(int low, int high) {
        const uint32_t sign = random.below(2);
        const int exponent = random.between(low, high);
        return format.make(sign, exponent, random.below(1u << format.mantissa_bits));
    }

    uint32_t any_subnormal() {
        const uint32_t sign = random.below(2);
        return format.subnormal(sign, 1 + random.below((1u << format.mantissa_bits) - 1));
    }

    uint32_t special() {
        const uint32_t sign = random.below(2), largest = (1u << format.mantissa_bits) - 1;
        const uint32_t choice = random.below(4);
        if (choice == 0) return format.subnormal(sign, 0);
        // e4m3: 448 and NaN.
        if (!format.has_infinity) return format.make(sign, format.most, choice == 1 ? largest - 1 : largest);
        if (choice == 1) return format.make(sign, format.most, largest);
        return format.make(sign, format.most + 1, choice == 2 ? 0 : 1 + random.below(largest)); // infinity, NaN
    }

    void row_of_a(std::vector<uint32_t>& row, int r) {
        const int range = format.most - 1 - format.least, last = std::max(0, depth / 2);
        for (int k = 0; k < depth; k++) {
            switch (kind) {
            case 1: row[k] = normal(format.least, format.most - 1); break;
            case 2: row[k] = k < last ? normal(-3, 1) : row[k - last] ^ 1u << (8 * format.bytes - 1); break;
            case 3:
                row[k] = k == large_at ? format.make(random.below(2), format.most - 1, 0)
                                       : normal_at(format.most - 1 - r / 4 * range / 15);
                break;
            case 4: row[k] = normal(0, 0); break;
            case 5:
                row[k] = r % 8 == 0 ? format.subnormal(random.below(2), 0)
                         : random.below(2) ? any_subnormal() : normal(format.least, format.least + 3);
                break;
            case 7: row[k] = normal(format.most - 2, format.most - 1); break;
            case 8: row[k] = k == (large_at + r) % depth ? normal(-2, 2) : format.subnormal(0, 0); break;
            default: row[k] = normal(-3, 1);
            }
            if (kind == SPECIAL && random.below(32) == 0) row[k] = special();
        }
        if (kind == 2 && r % 2 == 1) row[last + static_cast<int>(random.below(static_cast<uint32_t>(last)))] ^= 1;
    }

    void row_of_b(std::vector<uint32_t>& row, int n) {
        for (int k = 0; k < depth; k++) {
            switch (kind) {
            case 1: row[k] = normal(format.least, format.most - 1); break;
            case 2: row[k] = k < depth / 2 ? normal(-3, 1) : row[k - depth / 2]; break;
            case 3: row[k] = k == large_at ? format.make(0, 0, 0) : normal_at(-(n * 6 / 7)); break;
            case 4: row[k] = normal(0, 0); break;
            case 5: row[k] = normal(format.least, format.most - 1); break;
            case 7: row[k] = normal(format.most - 2, format.most - 1); break;
            case 8: row[k] = normal(-2, 2); break;
            default: row[k] = normal(-3, 1);
            }
            if (kind == SPECIAL && random.below(128) == 0) row[k] = special();
        }
    }

    uint32_t normal_at(int exponent) { return normal(exponent, exponent); }

    uint32_t start(int r, int n) {
        const uint32_t sign = random.below(2), mantissa = static_cast<uint32_t>(random.next() >> 41);
        switch (kind) {
        case 1: return float_bits(sign, random.between(2 * format.least - 4, 2 * format.most + 4), mantissa);
        case 2: return float_bits(sign, random.between(-20, 0), mantissa);
        case 3: return sign << 31;
        case 4: return float_bits(sign, r - 32, mantissa);
        case 5: return n % 2 ? sign << 31 : sign << 31 | mantissa;
        case SPECIAL: {
            const uint32_t choice = random.below(64);
            if (choice == 0) return sign << 31 | 0x7f800000u;
            if (choice == 1) return sign << 31 | 0x7f800000u | (mantissa | 1);
            if (choice == 2) return sign << 31;
            return float_bits(sign, random.between(-3, 3), mantissa);
        }
        case 7: {
            const int products = 2 * format.most;
            const int exponent = n < 4 ? random.between(100, 127) : random.between(products - 4, products + 30);
            return float_bits(sign, exponent, mantissa);
        }
        case 8: return float_bits(sign, r - 32, mantissa);
        default: return float_bits(sign, random.between(-4, 4), mantissa);
        }
    }

    void append(std::vector<uint8_t>& to, const std::vector<uint32_t>& row) const {
        for (uint32_t bits : row) {
            for (int i = 0; i < format.bytes; i++) to.push_back(static_cast<uint8_t>(bits >> 8 * i));
        }
    }

    const Format& format;
    int kind, depth, large_at;
    Random random;
};

Tiles make_tiles(const Format& format, int tiles_of_kind) {
    Tiles tiles;
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        for (int tile = 0; tile < tiles_of_kind; tile++) TileMaker(format, kind, tile).append_to(tiles);
    }
    return tiles;
}

// Dots that are further from float64's result than any order of adding explains: a wrong layout, no bits of interest.
size_t wrong_dots(const Format& format, const Tiles& tiles, const std::vector<uint32_t>& d) {
    const auto value = [&](const std::vector<uint8_t>& from, size_t i) {
        uint32_t bits = 0;
        std::memcpy(&bits, &from[i * format.bytes], format.bytes);
        return format.value(bits);
    };
    const size_t depth = BIT_DEPTH_BYTES / format.bytes;
    size_t wrong = 0;
    for (size_t i = 0; i < d.size(); i++) {
        const size_t row = i / BIT_COLUMNS, column = i / (BIT_ROWS * BIT_COLUMNS) * BIT_COLUMNS + i % BIT_COLUMNS;
        double sum = float_of(tiles.c[i]), most = std::fabs(sum);
        for (size_t k = 0; k < depth; k++) {
            const double product = value(tiles.a, row * depth + k) * value(tiles.b, column * depth + k);
            sum += product;
            most = std::max(most, std::fabs(product));
        }
        const double got = float_of(d[i]);
        if (std::isnan(sum)) wrong += !std::isnan(got);
        else if (std::isinf(sum)) wrong += got != sum;
        else wrong += !(std::fabs(got - sum) <= most / 128 + 0x1p-126);
    }
    return wrong;
}

class BitsFile {
public:
    void add(const std::string& name, const char* type, const std::string& shape, const void* data, size_t bytes) {
        arrays += (arrays.empty() ? "" : ",") + quoted(name) + ":{\"dtype\":" + quoted(type) + ",\"shape\":" + shape +
                  ",\"offset\":" + std::to_string(raw.size()) + "}";
        raw.append(static_cast<const char*>(data), bytes);
    }
    // Offsets count from behind the first line.
    void write(const std::string& path, const std::string& head) const {
        std::ofstream file(path, std::ios::binary);
        file << "{" << head << ",\"arrays\":{" << arrays << "}}\n" << raw;
        file.close();
        if (!file) throw std::runtime_error("cannot write " + path);
    }

private:
    std::string arrays, raw;
};

void probe_bits(Gpu& gpu) {
    const int tiles_of_kind = gpu.dry ? 4 : 16;
    const unsigned tiles = tiles_of_kind * KIND_COUNT;
    static_assert(4 % BIT_TILES_PER_CTA == 0, "blocks hold whole kinds");
    struct Way {
        const char* kernel;
        const Format& format;
        bool needs_hopper;
    };
    const Way ways[] = {{"mma_f16", F16, false}, {"wgmma_f16_ss", F16, true}, {"wgmma_f16_rs", F16, true},
                        {"wgmma_e4m3_ss", E4M3, true}, {"mma_e4m3", E4M3, true}};
    BitsFile file;
    std::string failures;
    std::map<std::string, Tiles> made;
    const auto shape = [&](int rows, int columns) {
        return "[" + std::to_string(tiles) + "," + std::to_string(rows) + "," + std::to_string(columns) + "]";
    };
    for (const Format* format : {&F16, &E4M3}) {
        const Tiles& in = made[format->name] = make_tiles(*format, tiles_of_kind);
        const char* type = format == &F16 ? "<u2" : "|u1";
        const int depth = BIT_DEPTH_BYTES / format->bytes;
        file.add(std::string(format->name) + ".a", type, shape(BIT_ROWS, depth), in.a.data(), in.a.size());
        file.add(std::string(format->name) + ".b", type, shape(BIT_COLUMNS, depth), in.b.data(), in.b.size());
        file.add(std::string(format->name) + ".c", "<u4", shape(BIT_ROWS, BIT_COLUMNS), in.c.data(), in.c.size() * 4);
    }
    for (const Way& way : ways) {
        try {
            const Module& module = way.needs_hopper ? gpu.hopper() : gpu.portable;
            const bool wgmma = way.kernel[0] == 'w';
            const Tiles& in = made[way.format.name];
            Memory a(in.a.size()), b(in.b.size()), c(in.c.size() * 4), d(in.c.size() * 4);
            a.write(in.a), b.write(in.b), c.write(in.c);
            gpu.zero(d, in.c.size());
            const CUfunction f = gpu.function(module, std::string("bits_") + way.kernel);
            gpu.launch(f, wgmma ? tiles / BIT_TILES_PER_CTA : tiles, 128, 0, a.at, b.at, c.at, d.at);
            gpu.synchronize();
            const std::vector<uint32_t> got = d.read<uint32_t>(in.c.size());
            file.add(std::string(way.kernel) + ".d", "<u4", shape(BIT_ROWS, BIT_COLUMNS), got.data(), got.size() * 4);
            const size_t wrong = wrong_dots(way.format, in, got);
            if (wrong) failures += std::string(way.kernel) + ": " + std::to_string(wrong) + " dots far off; ";
            say(Params().with("way", way.kernel).with("far_off", double(wrong)).with("image", module.image),
                {double(got.size())}, "dots", 0);
        } catch (const Absent& why) {
            say_absent(Params().with("way", way.kernel), why.what());
        }
    }
    std::string kinds;
    for (int k = 0; k < KIND_COUNT; k++) {
        kinds += std::string(k ? "," : "") + "{\"name\":" + quoted(KINDS[k]) + ",\"first_tile\":" +
                 std::to_string(k * tiles_of_kind) + ",\"tiles\":" + std::to_string(tiles_of_kind) + "}";
    }
    const char* const what =
        "d[t,r,n] = c[t,r,n] + sum over k of a[t,r,k] * b[t,n,k], one instruction each; bits of f16, e4m3, float32; "
        "offsets: bytes behind this line; X.d: of the inputs of the format in its name";
    const char* const seed = "splitmix64, state = (e4m3 ? 1 : 0) << 40 | kind << 20 | tile in kind; micro.cu TileMaker";
    file.write(gpu.out_folder + "/wgmma_bits.bin", "\"device\":" + quoted(gpu.name) + ",\"what\":" + quoted(what) +
                                                       ",\"seed\":" + quoted(seed) + ",\"kinds\":[" + kinds + "]");
    if (!failures.empty()) throw std::runtime_error(failures + "wgmma_bits.bin is written all the same");
}

// ---------------------------------------------------------------------------------------- which probes there are

struct Probe {
    const char* name;
    unsigned seconds; // most that it takes; then it is ended
    const char* what;
    void (*run)(Gpu&);
};

const Probe PROBES[] = {
    {"hbm", 15, "device memory: read, write, copy 1 GB", probe_hbm},
    {"l2", 20, "L2 to multiprocessors, one CTA each, a set of 20 MiB: ld, cp.async, TMA, TMA multicast", probe_l2},
    {"latency", 15, "pointer chase in L2 and device memory", probe_latency},
    {"peak", 25, "tensor cores: mma.sync, wgmma f16, e4m3, s8, random data", probe_peak},
    {"edge", 25, "time between the 200 kernels of a graph: plain, programmatic, shared memory, carve-out", probe_edge},
    {"gridbar", 10, "barrier of the whole grid", probe_gridbar},
    {"clusters", 10, "clusters of 2, 4, 8, 16 that run at once", probe_clusters},
    {"copy", 25, "0.46, 0.69 and 0.92 MB between page-locked memory and GPU", probe_copy},
    {"gelu", 10, "GELU by erff and by short polynomials", probe_gelu},
    {"bits", 15, "results of wgmma and mma bit by bit: writes wgmma_bits.bin", probe_bits},
};

char late_line[256]; // printed by the signal's handler, so made before

void end_late(int) {
    const ssize_t written = write(STDOUT_FILENO, late_line, std::strlen(late_line));
    _exit(written < 0 ? 3 : 1);
}

// Whether it went well; what is absent did.
bool run_probe(const Probe& probe, std::unique_ptr<Gpu>& gpu, const std::string& modules, const std::string& out,
               bool dry) {
    current_probe = probe.name;
    const unsigned seconds = dry ? 60 : probe.seconds;
    std::snprintf(late_line, sizeof late_line, "{\"probe\":\"%s\",\"error\":\"not done after %u s\"}\n", probe.name,
                  seconds);
    signal(SIGALRM, end_late);
    alarm(seconds);
    bool good = true;
    try {
        if (!gpu) gpu = std::make_unique<Gpu>(modules, out, dry);
        probe.run(*gpu);
    } catch (const Absent& why) {
        print_line("\"absent\":" + quoted(why.what()));
    } catch (const std::exception& why) {
        print_line("\"error\":" + quoted(why.what()));
        good = false;
    }
    alarm(0);
    return good;
}

int usage(const char* why) {
    std::fprintf(stderr, "%s\nmicro --list\nmicro --modules DIR PROBE... [--dry] [--out DIR]\n", why);
    return 2;
}

} // namespace

int main(int count, char** arguments) {
    std::string modules, out = ".";
    bool dry = false, list = false;
    std::vector<const Probe*> chosen;
    for (int i = 1; i < count; i++) {
        const std::string word = arguments[i];
        if (word == "--dry") dry = true;
        else if (word == "--list") list = true;
        else if (word == "--modules" && i + 1 < count) modules = arguments[++i];
        else if (word == "--out" && i + 1 < count) out = arguments[++i];
        else {
            const auto named = [&](const Probe& p) { return word == p.name; };
            const Probe* probe = std::find_if(std::begin(PROBES), std::end(PROBES), named);
            if (probe == std::end(PROBES)) return usage(("unknown: " + word).c_str());
            chosen.push_back(probe);
        }
    }
    if (list) {
        for (const Probe& probe : PROBES) std::printf("%s\t%u\t%s\n", probe.name, probe.seconds, probe.what);
        return 0;
    }
    if (modules.empty() || chosen.empty()) return usage("--modules and a probe are needed");
    std::unique_ptr<Gpu> gpu;
    bool good = true;
    for (const Probe* probe : chosen) good &= run_probe(*probe, gpu, modules, out, dry);
    std::fflush(stdout);
    // A context that a fault has spoiled is better left to the process's end than taken down.
    _exit(good ? 0 : 1);
}

#endif
