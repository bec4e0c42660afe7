// PTX instructions of compute capability 9.0 by hand, one a function, under their own names. What each does: PTX ISA, sections
// "Asynchronous Warpgroup Level Matrix Instructions", "Parallel Synchronization and Communication Instructions: mbarrier", "Data
// Movement and Conversion Instructions: cp.async.bulk".
#pragma once

#include "common.cuh"

// What cuTensorMapEncodeTiled fills.
struct alignas(64) TensorMap {
    uint64_t opaque[16];
};

// A tile whose rows are 128 bytes, under the 128-byte swizzle: the byte at which a chunk lies. Tiles begin at multiples of 1024.
__device__ __forceinline__ uint32_t swizzled(int row, int chunk) {
    return row * 128 + (chunk ^ row % 8) * CHUNK_BYTES;
}

namespace ptx {

// ---- clusters

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// The place of the cluster's block `rank` that is this block's `address`.
__device__ __forceinline__ uint32_t map_to_rank(uint32_t address, uint32_t rank) {
    uint32_t mapped;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
    return mapped;
}

__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

// Orders no memory.
__device__ __forceinline__ void cluster_arrive_relaxed() {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Writes 16 bytes, or 8, to the shared memory of any block of the cluster.
__device__ __forceinline__ void store_cluster_16(uint32_t mapped, float4 v) {
    asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};"
                 :: "r"(mapped), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
}

__device__ __forceinline__ void store_cluster_8(uint32_t mapped, float x, float y) {
    asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" :: "r"(mapped), "f"(x), "f"(y) : "memory");
}

// ---- barriers

// For `threads` of the block that name the same barrier (1 to 15).
__device__ __forceinline__ void named_barrier(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" :: "r"(barrier), "r"(threads) : "memory");
}

// The same without waiting: this thread is one of the `threads`.
__device__ __forceinline__ void named_arrive(int barrier, int threads) {
    asm volatile("bar.arrive %0, %1;" :: "r"(barrier), "r"(threads) : "memory");
}

__device__ __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialised barriers known to the cluster's blocks and to the asynchronous proxy.
__device__ __forceinline__ void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// One arrival, and the phase does not end before so many bytes have come.
__device__ __forceinline__ void mbarrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" :: "r"(barrier) : "memory");
}

// At a barrier of any block of the cluster, for which this thread has written nothing: `.release.cluster` would wait until all of the
// GPU sees all of its memory, each time.
__device__ __forceinline__ void mbarrier_arrive_remote(uint32_t mapped) {
    asm volatile("mbarrier.arrive.release.cta.shared::cluster.b64 _, [%0];" :: "r"(mapped) : "memory");
}

// Until the phase of this parity is over. Arrivals may be those of other blocks of the cluster, and bring nothing but what was
// copied: `.acquire.cluster` would empty the L1 cache, each time.
__device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\nAGAIN:\n"
                 "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra.uni DONE;\nbra.uni AGAIN;\nDONE:\n}" :: "r"(barrier), "r"(parity) : "memory");
}

// What this thread wrote to shared memory by ordinary stores may be read by bulk copies and warpgroup products afterwards.
__device__ __forceinline__ void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- bulk copies

__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" :: "l"(&map) : "memory");
}

// How long the L2 cache keeps lines: those that are used once leave first.
__device__ __forceinline__ uint64_t evict_first() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ uint64_t evict_last() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ void load_box(uint32_t to, const TensorMap& map, uint32_t barrier, int x, int y, uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
                 " [%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier), "l"(policy) : "memory");
}

__device__ __forceinline__ void load_box(uint32_t to, const TensorMap& map, uint32_t barrier, int x, int y, int z,
                                         uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
                 " [%0], [%1, {%2, %3, %4}], [%5], %6;"
                 :: "r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier), "l"(policy) : "memory");
}

__device__ __forceinline__ void load_box(uint32_t to, const TensorMap& map, uint32_t barrier, int x, int y, int z, int u,
                                         uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
                 " [%0], [%1, {%2, %3, %4, %5}], [%6], %7;"
                 :: "r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(barrier), "l"(policy) : "memory");
}

// To the same place of every block of the cluster whose bit is set, counted at the same barrier of each.
__device__ __forceinline__ void load_box_for(uint16_t blocks, uint32_t to, const TensorMap& map, uint32_t barrier, int x, int y,
                                             uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
                 ".L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5, %6;"
                 :: "r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier), "h"(blocks), "l"(policy) : "memory");
}

// What of the box lies outside is left out.
__device__ __forceinline__ void store_box(const TensorMap& map, uint32_t from, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];"
                 :: "l"(&map), "r"(x), "r"(y), "r"(from) : "memory");
}

__device__ __forceinline__ void store_box(const TensorMap& map, uint32_t from, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];"
                 :: "l"(&map), "r"(x), "r"(y), "r"(z), "r"(from) : "memory");
}

__device__ __forceinline__ void store_box(const TensorMap& map, uint32_t from, int x, int y, int z, int u) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];"
                 :: "l"(&map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(from) : "memory");
}

__device__ __forceinline__ void bulk_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// The shared memory of all this thread's groups may be written again.
__device__ __forceinline__ void bulk_wait_read() {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// ---- registers of warpgroups

template <int REGISTERS>
__device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(REGISTERS));
}

template <int REGISTERS>
__device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(REGISTERS));
}

// Four 8×8 matrices of 16 bits to shared memory; lane 8·m + r points at row r of matrix m. Registers as ldmatrix has them.
__device__ __forceinline__ void stmatrix_x4(uint32_t row, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
                 :: "r"(row), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

// ---- products of warpgroups

// A tile under the 128-byte swizzle as wgmma takes it: eight rows make an atom of 1024 bytes, the next eight follow. Sixteen
// halves further in depth: 32 bytes; of a tile whose rows are the depth (`registers_transposed`): 2048.
__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t start) {
    return (start & 0x3ffff) >> 4 | 1ull << 16 | static_cast<uint64_t>(1024 >> 4) << 32 | 1ull << 62;
}

// The same tile some bytes of depth further: one addition, where a new descriptor takes four instructions.
__device__ __forceinline__ uint64_t deeper(uint64_t matrix, uint32_t bytes) {
    return matrix + (bytes >> 4);
}

// Before the first product, and where other instructions wrote its registers.
__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most PENDING of the newest groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(PENDING) : "memory");
}

// Keeps ptxas from moving what `value`, never negative, is made of behind a wait that follows: wgmma.wait_group names no registers, and
// what does not touch those of products would all come behind it. A store that is never made, for ptxas does not know that.
__device__ __forceinline__ void make_before_waiting(float value, uint32_t anywhere) {
    asm volatile("{\n.reg .pred p;\nsetp.lt.f32 p, %1, 0f00000000;\n@p st.shared.f32 [%0], %1;\n}"
                 :: "r"(anywhere), "f"(value) : "memory");
}

// Keeps the compiler from moving what writes these registers across this place.
template <int N>
__device__ __forceinline__ void pin(float (&registers)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(registers[i]) :: "memory");
}

template <int N>
__device__ __forceinline__ void pin(uint32_t (&registers)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+r"(registers[i]) :: "memory");
}

#define FLOATS_8(d, i)                                                                                                        \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define FLOATS_32(d, i) FLOATS_8(d, i), FLOATS_8(d, i + 8), FLOATS_8(d, i + 16), FLOATS_8(d, i + 24)

// The sums' names in an instruction, from the first on.
#define NAMES_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64 NAMES_32 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_96 NAMES_64 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define NAMES_128 NAMES_96 \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// d = a·bᵀ, or d += where `add`: 64 rows of a, COLUMNS of b, sixteen deep, f16 with sums in f32. a and b are described tiles of
// shared memory, or a is in registers as ldmatrix has them. Lane l of warp w holds of d for each eight columns: row
// 16 w + l / 4, columns 2 (l % 4) and the next, then both eight rows further down.
template <int COLUMNS>
struct Wgmma;

template <>
struct Wgmma<16> {
    static __device__ __forceinline__ void shared(float (&d)[8], uint64_t a, uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, p, 1, 1, 0, 0;\n}"
                     : FLOATS_8(d, 0) : "l"(a), "l"(b), "r"(add));
    }
};

template <>
struct Wgmma<64> {
    static __device__ __forceinline__ void shared(float (&d)[32], uint64_t a, uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES_32 "}, %32, %33, p, 1, 1, 0, 0;\n}"
                     : FLOATS_32(d, 0) : "l"(a), "l"(b), "r"(add));
    }

    static __device__ __forceinline__ void registers(float (&d)[32], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES_32 "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}"
                     : FLOATS_32(d, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }

    // The rows of b's tile are its depth.
    static __device__ __forceinline__ void registers_transposed(float (&d)[32], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES_32 "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
                     : FLOATS_32(d, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Wgmma<128> {
    static __device__ __forceinline__ void shared(float (&d)[64], uint64_t a, uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" NAMES_64 "}, %64, %65, p, 1, 1, 0, 0;\n}"
                     : FLOATS_32(d, 0), FLOATS_32(d, 32)
                     : "l"(a), "l"(b), "r"(add));
    }

    static __device__ __forceinline__ void registers(float (&d)[64], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" NAMES_64 "}, {%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
                     : FLOATS_32(d, 0), FLOATS_32(d, 32)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Wgmma<192> {
    static __device__ __forceinline__ void shared(float (&d)[96], uint64_t a, uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {" NAMES_96 "}, %96, %97, p, 1, 1, 0, 0;\n}"
                     : FLOATS_32(d, 0), FLOATS_32(d, 32), FLOATS_32(d, 64)
                     : "l"(a), "l"(b), "r"(add));
    }

    static __device__ __forceinline__ void registers(float (&d)[96], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %101, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {" NAMES_96 "}, {%96, %97, %98, %99}, %100, p, 1, 1, 0;\n}"
                     : FLOATS_32(d, 0), FLOATS_32(d, 32), FLOATS_32(d, 64)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Wgmma<256> {
    static __device__ __forceinline__ void shared(float (&d)[128], uint64_t a, uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" NAMES_128 "}, %128, %129, p, 1, 1, 0, 0;\n}"
                     : FLOATS_32(d, 0), FLOATS_32(d, 32), FLOATS_32(d, 64), FLOATS_32(d, 96)
                     : "l"(a), "l"(b), "r"(add));
    }

    static __device__ __forceinline__ void registers(float (&d)[128], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %133, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" NAMES_128 "}, {%128, %129, %130, %131}, %132, p, 1, 1, 0;\n}"
                     : FLOATS_32(d, 0), FLOATS_32(d, 32), FLOATS_32(d, 64), FLOATS_32(d, 96)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

#undef FLOATS_8
#undef FLOATS_32
#undef NAMES_32
#undef NAMES_64
#undef NAMES_96
#undef NAMES_128

} // namespace ptx
