// Kernels for sm_90a and no other.

#pragma once

#include "device.cuh"

namespace {

// ---- barriers in shared memory, clusters, TMA

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}

// The one arrival of the phase; `bytes` must come before it ends.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}

// Arrives at the barrier that lies at the same place in the shared memory of CTA `rank` of the cluster, for which this thread has
// written nothing. (`.cluster`, here and in the wait, costs a fence of the whole GPU and an empty L1 cache, each time.)
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile("{\n"
                 ".reg .b32 remote;\n"
                 "mapa.shared::cluster.u32 remote, %0, %1;\n"
                 "mbarrier.arrive.release.cta.shared::cluster.b64 _, [remote];\n"
                 "}" :: "r"(barrier), "r"(rank) : "memory");
}

__device__ __forceinline__ bool barrier_passed(uint32_t barrier, uint32_t parity) {
    uint32_t passed;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
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
