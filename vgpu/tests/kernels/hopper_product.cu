// out = a·bᵀ + bias for compute capability 9.0: bulk tensor copies into a ring of stages, warpgroup products, results by a bulk
// tensor store; a cluster of two blocks may share b.
//
//   a   [rows, depth] f16      b     [columns, depth] f16
//   out [rows, columns] f16    bias  [columns] f32
//
// Needs: depth and columns multiples of 8. Tensor maps, all with the 128-byte swizzle: a in boxes of 64×128 (depth, rows), b of
// 64×WIDTH/CLUSTER, out of 64×64 (columns, rows). Launch: 384 threads, DYNAMIC bytes of shared memory, grid (⌈columns / WIDTH⌉,
// ⌈rows / 128⌉ up to a multiple of CLUSTER), clusters of (1, CLUSTER).

#include "hopper.cuh"

#ifndef WIDTH
#define WIDTH 128
#endif
#ifndef STAGES
#define STAGES 4
#endif
#ifndef CLUSTER
#define CLUSTER 1
#endif

constexpr int ROWS = 128, DEPTH = 64, GROUPS = 2, THREADS = 128 * (1 + GROUPS);
constexpr uint32_t A_BYTES = ROWS * DEPTH * 2, B_BYTES = WIDTH * DEPTH * 2, STAGE_BYTES = A_BYTES + B_BYTES;
constexpr uint32_t STAGING_BYTES = 64 * 64 * 2;
// Swizzled tiles begin at multiples of 1024.
constexpr uint32_t DYNAMIC = 1024 + STAGES * STAGE_BYTES + GROUPS * STAGING_BYTES;
static_assert(DYNAMIC <= 227 * 1024);

struct Barriers {
    uint64_t full[STAGES], empty[STAGES];
};

__device__ __forceinline__ uint32_t full_barrier(uint32_t barriers, int stage) {
    return barriers + 8 * stage;
}

__device__ __forceinline__ uint32_t empty_barrier(uint32_t barriers, int stage) {
    return barriers + 8 * (STAGES + stage);
}

__device__ void prepare_barriers(uint32_t barriers) {
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            if (!mutant(15) || stage > 0) ptx::mbarrier_init(full_barrier(barriers, stage), 1);
            // A group that still reads here or at the peer, which gets the same part of b.
            const int readers = GROUPS * CLUSTER + (mutant(17) ? 1 : 0) - (mutant(18) ? 1 : 0);
            ptx::mbarrier_init(empty_barrier(barriers, stage), readers);
        }
        if (!mutant(16)) ptx::fence_mbarrier_init();
    }
    if (CLUSTER > 1 && !mutant(19)) {
        __syncwarp();
        ptx::cluster_arrive_relaxed();
        ptx::cluster_wait();
    } else {
        __syncthreads();
    }
}

struct Work {
    uint32_t stages, barriers;
    int row, column, tiles;
};

__device__ void load_b(const Work& work, const TensorMap& b_map, int tile, uint32_t rank) {
    const int stage = tile % STAGES;
    const uint32_t full = full_barrier(work.barriers, stage), to = work.stages + stage * STAGE_BYTES + A_BYTES;
    const uint32_t bytes = mutant(13) ? A_BYTES : mutant(14) ? STAGE_BYTES + 16 : mutant(34) ? 1 << 20 : STAGE_BYTES;
    ptx::mbarrier_expect(full, bytes);
    const int at = tile * DEPTH;
    if (CLUSTER == 1) {
        ptx::load_box(to + (mutant(26) ? 64 : 0), b_map, full, mutant(27) ? work.column : at, mutant(27) ? at : work.column);
    } else {
        const uint16_t blocks = mutant(20) ? 1 << rank : (1 << CLUSTER) - 1;
        const uint32_t share = WIDTH / CLUSTER;
        ptx::load_box_for(blocks, to + rank * share * DEPTH * 2, b_map, full, at, work.column + rank * share);
    }
}

__device__ void load_a(const Work& work, const TensorMap& a_map, int tile) {
    const int stage = tile % STAGES;
    ptx::load_box(work.stages + stage * STAGE_BYTES, a_map, full_barrier(work.barriers, stage), tile * DEPTH, work.row);
}

// One thread.
__device__ void produce(const Work& work, const TensorMap& a_map, const TensorMap& b_map, uint32_t rank) {
    // b is nobody's result, so it need not wait for the launch before.
    const int first = work.tiles < STAGES ? work.tiles : STAGES;
    for (int tile = 0; tile < first; tile++) load_b(work, b_map, tile, rank);
    if (!mutant(22) && !mutant(23)) ptx::grid_wait();
    for (int tile = 0; tile < first; tile++) load_a(work, a_map, tile);
    for (int tile = first; tile < work.tiles; tile++) {
        // All groups gave the stage back.
        const uint32_t parity = (tile / STAGES - 1) % 2;
        if (!mutant(2)) ptx::mbarrier_wait(empty_barrier(work.barriers, tile % STAGES), mutant(12) ? 0 : parity);
        load_b(work, b_map, tile, rank);
        load_a(work, a_map, tile);
    }
    ptx::grid_launch_dependents();
}

// One thread of a group, when no product of the group reads the stage any more.
__device__ void give_back(const Work& work, int tile) {
    const uint32_t empty = empty_barrier(work.barriers, tile % STAGES);
    if (CLUSTER == 1) {
        ptx::mbarrier_arrive(empty);
    } else {
        for (uint32_t rank = 0; rank < CLUSTER; rank++)
            ptx::mbarrier_arrive_remote(ptx::map_to_rank(empty, mutant(33) ? ptx::cluster_rank() : rank));
    }
}

__device__ void wait_full(const Work& work, int tile) {
    const uint32_t full = full_barrier(work.barriers, tile % STAGES), parity = tile / STAGES % 2;
    if (mutant(4) && threadIdx.x / 32 == 5) return;
    if (mutant(31)) {
        ptx::mbarrier_test(full, parity);
    } else {
        ptx::mbarrier_wait(full, mutant(11) ? parity ^ 1 : mutant(32) ? 0 : parity);
    }
}

__device__ void multiply(float (&sum)[WIDTH / 2], const Work& work, int tile, int group) {
    const uint32_t a = work.stages + tile % STAGES * STAGE_BYTES, b = a + A_BYTES;
    const uint32_t strange = mutant(10) && threadIdx.x / 32 % 4 == 1 ? 32 : 0;
    if (mutant(36) && threadIdx.x / 32 == 6) return;
    for (int step = 0; step < DEPTH / 16; step++) {
        const uint32_t along = step * (mutant(40) ? 16 : 32) + strange + (mutant(9) ? 128 : 0);
        const uint64_t a_matrix = ptx::descriptor(a + group * 64 * 128 + along, mutant(8) ? 512 : 1024, mutant(7) ? 2 : 1);
        ptx::wgmma(sum, a_matrix, ptx::descriptor(b + step * 32), 1);
    }
}

// The group's 64 rows, 64 columns at a time, through its part of the staging.
__device__ void store(const float (&sum)[WIDTH / 2], const Work& work, const TensorMap& out_map, const float* bias, int columns,
                      uint32_t staging, int group) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const bool leads = threadIdx.x % 128 == 0;
    for (int panel = 0; panel < WIDTH / 64; panel++) {
        if (leads && !mutant(21)) ptx::bulk_wait_read();
        if (!mutant(39)) ptx::named_barrier(1 + group, 128);
        for (int j = 0; j < 8; j += 2) {
            uint32_t packed[4];
            for (int k = 0; k < 2; k++) {
                const int column = work.column + panel * 64 + 8 * (j + k) + lane % 4 * 2;
                const bool inside = column < columns || mutant(29);
                const float2 more = inside ? *reinterpret_cast<const float2*>(bias + column) : make_float2(0, 0);
                const float* part = sum + (panel * 8 + j + k) * 4;
                packed[2 * k] = ptx::pack_halves(part[0] + more.x, part[1] + more.y);
                packed[2 * k + 1] = ptx::pack_halves(part[2] + more.x, part[3] + more.y);
            }
            const int row = 16 * warp + lane % 16, chunk = j + lane / 16;
            ptx::stmatrix(staging + (mutant(35) ? row * 128 + chunk * 16 : swizzled(row, chunk)), packed[0], packed[1], packed[2],
                          packed[3]);
        }
        if (!mutant(1)) ptx::fence_proxy_async();
        if (!mutant(30)) ptx::named_barrier(1 + group, 128);
        if (leads) {
            ptx::store_box(out_map, staging, work.column + panel * 64, work.row + (mutant(38) ? 0 : group * 64));
            if (!mutant(37)) ptx::bulk_commit();
        }
    }
    if (leads && !mutant(28)) ptx::bulk_wait_read();
}

__device__ void consume(const Work& work, const TensorMap& out_map, const float* bias, int columns, uint32_t staging, int group) {
    const bool leads = threadIdx.x % 128 == 0;
    float sum[WIDTH / 2] = {};
    ptx::written(sum);
    auto begin = [&](int tile) {
        wait_full(work, tile);
        if (!mutant(6)) ptx::wgmma_fence();
        multiply(sum, work, tile, group);
        if (!mutant(41)) ptx::wgmma_commit();
        if (leads && mutant(3)) give_back(work, tile);
    };
    begin(0);
    for (int tile = 1; tile < work.tiles; tile++) {
        begin(tile);
        // The products of the tile before are done.
        ptx::wgmma_wait<1>();
        if (leads && !mutant(3)) give_back(work, tile - 1);
    }
    if (!mutant(5)) ptx::wgmma_wait<0>();
    if (mutant(42)) ptx::mbarrier_wait(full_barrier(work.barriers, 1), 0);
    // The launch before may still read what lies where the results go.
    if (!mutant(23)) ptx::grid_wait();
    store(sum, work, out_map, bias, columns, staging + group * STAGING_BYTES, group);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
hopper_product(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
               const __grid_constant__ TensorMap out_map, const float* bias, int columns, int depth) {
    extern __shared__ __align__(1024) unsigned char shared[];
    __shared__ Barriers barriers;
    const uint32_t aligned = (ptx::shared_address(shared) + 1023) / 1024 * 1024;
    const Work work = {aligned, ptx::shared_address(&barriers), static_cast<int>(blockIdx.y) * ROWS,
                       static_cast<int>(blockIdx.x) * WIDTH, (depth + DEPTH - 1) / DEPTH};
    const int group = threadIdx.x / 128;
    prepare_barriers(work.barriers);
    if (group == 0) {
        if (!mutant(25) || threadIdx.x < 64) ptx::fewer_registers<24>();
        if (threadIdx.x == 0) produce(work, a_map, b_map, CLUSTER > 1 ? ptx::cluster_rank() : 0);
    } else {
        ptx::more_registers<mutant(24) ? 248 : 240>();
        consume(work, out_map, bias, columns, aligned + STAGES * STAGE_BYTES, group - 1);
    }
    // No block ends while its peer may still write to it or arrive at its barriers.
    if (CLUSTER > 1 && !mutant(43)) {
        __syncwarp();
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
}
