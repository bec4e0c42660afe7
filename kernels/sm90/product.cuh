// Products on warpgroups of compute capability 9.0: a block's sums of x [rows, depth] · w [columns, depth], f16 operands, f32 sums.
//
// One warpgroup produces: a thread of it has boxes of x and w copied (TMA) into a ring of stages. Where a stage's rows of x lie in
// memory the kernel says (`Rows`): in a matrix, or in a map that a convolution walks over. The others consume: each has
// 64 rows of the block's tile and multiplies every stage by wgmma. A stage is full when its bytes have come (`full`, one arrival
// and the bytes), and empty when every group that reads it has given it back (`empty`).
//
// Blocks of a cluster share: CLUSTER blocks, one below the other, have the same columns of w, each has its share of them copied to
// all; PARTS blocks have the same tile and different parts of the depth, joined by `join` of store.cuh.
//
// What lies outside of x and w arrives as zeros: any number of rows, columns, and depth.
//
// Mutants: 20 waits for no empty stage, 21 parity of an empty stage, 22 bytes of w not announced, 23 more bytes than come, 24 one
// reader too many, 25 one reader too few, 26 barriers not made known, 27 first barrier not made, 28 peers not waited for at the
// start, 29 x before the grid's wait, 30 share of w to this block alone, 31 share at the wrong rows, 32 full stage not waited for,
// 33 parity of a full stage, 34 one warp does not wait, 35 no fence before products, 36 no commit, 37 products not waited for, 38
// stage given back while it is read, 39 given back to this block alone, 40 step of depth, 41 rows of another group, 42 depth of a
// part, 43 sums not begun anew, 44 halves of f32 in the wrong order, 45 registers of x loaded while they are read, 46 another warp
// multiplies other rows, 47 lanes not waited for that read f32, 48 swizzle left out (conv), 49 the other half of a stage's depth
// (conv).
#pragma once

#include "conv.cuh"
#include "epilogue.cuh"
#include "sm90/group.cuh"

// Bytes that a block can have.
constexpr int MOST_SHARED = 227 * 1024;
// Depth of a stage: 128 bytes of halves, a row of the swizzle.
constexpr int DEPTH = 64;

// How x comes to the tensor cores: f16 from shared memory as it lies; by way of registers f32, rounded, and f16 that passes a ReLU.
enum class Input { HALVES, FLOATS, RELU };

// OF_TWO: registers of a producer beside two groups.
template <int GROUPS_, int COLUMNS_, int CLUSTER_ = 1, int PARTS_ = 1, Input INPUT_ = Input::HALVES, int OF_TWO = 24>
struct Shape {
    static constexpr int GROUPS = GROUPS_, ROWS = GROUP_ROWS * GROUPS, COLUMNS = COLUMNS_;
    static constexpr int CLUSTER = CLUSTER_, PARTS = PARTS_, BLOCKS = CLUSTER * PARTS;
    static constexpr Input INPUT = INPUT_;
    static constexpr bool FLOAT = INPUT == Input::FLOATS, BY_REGISTERS = INPUT != Input::HALVES;
    static constexpr int THREADS = GROUP_THREADS * (1 + GROUPS);
    // Blocks that a multiprocessor holds.
    static constexpr int RESIDENT = GROUPS == 1 ? 2 : 1;

    // x in boxes of 128 bytes of depth.
    static constexpr int X_BOXES = FLOAT ? 2 : 1, X_BOX_DEPTH = DEPTH / X_BOXES;
    static constexpr int X_BOX_BYTES = ROWS * ROW_BYTES, X_BYTES = X_BOXES * X_BOX_BYTES;
    static constexpr int W_BYTES = COLUMNS * ROW_BYTES, W_SHARE = COLUMNS / CLUSTER;
    static constexpr int STAGE_BYTES = X_BYTES + W_BYTES;
    static constexpr int ROOM = MOST_SHARED / RESIDENT - 2 * ALIGNMENT;
    static constexpr int STAGES = ROOM / STAGE_BYTES < 8 ? ROOM / STAGE_BYTES : 8;
    static constexpr int BARRIERS = STAGES * STAGE_BYTES;
    static constexpr int SHARED_BYTES = ALIGNMENT + BARRIERS + 2 * 8 * STAGES;

    // Registers of a thread: what is left by the producers, who need few, goes to the consumers.
    static constexpr bool MOVES_REGISTERS = GROUPS > 1;
    static constexpr int PRODUCER_REGISTERS = GROUPS == 2 ? OF_TWO : 32;
    static constexpr int CONSUMER_REGISTERS = GROUPS == 2 ? (504 - OF_TWO) / 2 : 160;

    static constexpr int SUMS = COLUMNS / 2;
    // Blocks among which the columns are divided when the parts are joined, in whole boxes, and what each of these stores.
    static constexpr int OWNERS = PARTS < COLUMNS / 64 ? PARTS : COLUMNS / 64;
    static constexpr int OWN_COLUMNS = COLUMNS / OWNERS, OWN_SUMS = SUMS / OWNERS;
    // Whether what is added to the results is loaded before the products, into as many registers as they take then; else that of the
    // first 64 columns while the last products run.
    static constexpr bool EARLY = OWN_COLUMNS <= 64;
    static constexpr int ADDED = EARLY ? OWN_SUMS : 32;

    static_assert(STAGES >= 3, "one is read, one has come, one is under way");
    static_assert(W_SHARE % 8 == 0 && OWN_COLUMNS % 64 == 0, "shares are whole swizzled atoms, what is stored whole boxes");
};

// What a kernel of this shape declares. `adds`: something may be added to the results.
template <typename S>
constexpr Spec declared(bool adds) {
    const uint32_t input = S::FLOAT ? variant::FLOAT_INPUT : S::INPUT == Input::RELU ? variant::RELU_INPUT : 0;
    return Spec().shared(S::SHARED_BYTES).rows(S::ROWS).columns(S::COLUMNS).step(DEPTH).cluster(S::BLOCKS).parts(S::PARTS)
        .own(S::OWN_COLUMNS).group(GROUP_ROWS).variant(input | (adds ? variant::ADDS : 0));
}

// Where a block's tile lies, and its part of the depth, in stages. Blocks of a cluster follow each other.
template <typename S>
struct Place {
    uint32_t stages, barriers;
    int rank, part;
    // `row_tile`: which tile of the item's rows.
    int item, row_tile, column;
    int first, tiles;

    // Of an item whose rows are so many tiles of all blocks that share columns, and whose depth is so many stages.
    __device__ __forceinline__ Place(uint32_t shared, int shared_tiles, int steps) {
        stages = (shared + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        barriers = stages + S::BARRIERS;
        rank = S::BLOCKS == 1 ? 0 : blockIdx.x % S::BLOCKS;
        part = rank % S::PARTS;
        // Neighbours have the same columns: their weights are read together.
        const int tile = blockIdx.x / S::BLOCKS;
        item = blockIdx.z;
        row_tile = tile % shared_tiles * S::CLUSTER + rank / S::PARTS;
        column = tile / shared_tiles * S::COLUMNS;
        first = steps * part / S::PARTS + (mutant(42) ? 1 : 0);
        tiles = steps * (part + 1) / S::PARTS - first;
    }

    __device__ __forceinline__ uint32_t stage(int tile) const { return stages + tile % S::STAGES * S::STAGE_BYTES; }
    __device__ __forceinline__ uint32_t full(int tile) const { return barriers + 8 * (tile % S::STAGES); }
    __device__ __forceinline__ uint32_t empty(int tile) const { return full(tile) + 8 * S::STAGES; }
    // How often its stage was used before, as a phase's parity.
    __device__ __forceinline__ uint32_t parity(int tile) const { return tile / S::STAGES % 2; }
    // Whether this block stores some of the columns.
    __device__ __forceinline__ bool owns() const { return S::OWNERS == S::PARTS || part < S::OWNERS; }
    // The cluster's block that has the same part of the depth, `i` below the first.
    __device__ __forceinline__ int sharer(int i) const { return i * S::PARTS + part; }
};

template <typename S>
__device__ __forceinline__ void prepare(const Place<S>& place, const TensorMap& x, const TensorMap& w, const TensorMap& out) {
    if (threadIdx.x == 0) {
        ptx::prefetch_map(x);
        ptx::prefetch_map(w);
        ptx::prefetch_map(out);
        // Groups that read a stage here, and those that read this block's share of w elsewhere; by wgmma as one, else each warp.
        const int readers = S::GROUPS * S::CLUSTER * (S::BY_REGISTERS ? 4 : 1) + (mutant(24) ? 1 : 0) - (mutant(25) ? 1 : 0);
        for (int stage = mutant(27) ? 1 : 0; stage < S::STAGES; stage++) {
            ptx::mbarrier_init(place.full(stage), 1);
            ptx::mbarrier_init(place.empty(stage), readers);
        }
        if (!mutant(26)) ptx::fence_mbarrier_init();
    }
    if (S::BLOCKS > 1 && !mutant(28)) {
        __syncwarp();
        ptx::cluster_arrive_relaxed();
        ptx::cluster_wait();
    } else {
        __syncthreads();
    }
}

// `Rows` says what a stage holds: of `Step`s, one for each, `first` is the block's first and `next` goes on; `weights` is where in w's
// depth it begins, and `load` has its rows of x copied.
template <typename S, typename Rows>
struct Producer {
    const Place<S>& place;
    const Rows& rows;
    const TensorMap& w;
    // Weights are used once a pass, activations come from the kernel before.
    uint64_t once = ptx::evict_first(), soon = ptx::evict_last();

    __device__ __forceinline__ void announce_and_load_w(int tile, int depth) const {
        const int share = place.rank / S::PARTS * S::W_SHARE;
        const uint32_t full = place.full(tile), to = place.stage(tile) + S::X_BYTES;
        ptx::mbarrier_expect(full, mutant(22) ? S::X_BYTES : mutant(23) ? S::STAGE_BYTES + 16 : S::STAGE_BYTES);
        if constexpr (S::CLUSTER == 1) {
            ptx::load_box(to, w, full, depth, place.column, once);
        } else {
            uint16_t blocks = 0;
            for (int i = 0; i < S::CLUSTER; i++) blocks |= 1 << place.sharer(i);
            if (mutant(30)) blocks = 1 << place.rank;
            const uint32_t at = to + (mutant(31) ? 0 : share * ROW_BYTES);
            ptx::load_box_for(blocks, at, w, full, depth, place.column + share, once);
        }
    }

    __device__ __forceinline__ void load_x(int tile, const typename Rows::Step& step) const {
        rows.load(step, place.stage(tile), place.full(tile), soon);
    }

    // One thread.
    __device__ __forceinline__ void run() const {
        const int begun = min(place.tiles, S::STAGES);
        typename Rows::Step step = rows.first();
        // Weights are nobody's result: they need not wait for the kernel before.
        for (int tile = 0; tile < begun; tile++, rows.next(step)) announce_and_load_w(tile, rows.weights(step));
        if (!mutant(29)) ptx::grid_wait();
        step = rows.first();
        for (int tile = 0; tile < begun; tile++, rows.next(step)) load_x(tile, step);
        for (int tile = begun; tile < place.tiles; tile++, rows.next(step)) {
            if (!mutant(20)) ptx::mbarrier_wait(place.empty(tile), place.parity(tile) ^ (mutant(21) ? 0 : 1));
            announce_and_load_w(tile, rows.weights(step));
            load_x(tile, step);
        }
        ptx::grid_launch_dependents();
    }
};

// A consuming group.
template <typename S>
struct Consumer {
    const Place<S>& place;
    int group;

    __device__ __forceinline__ void wait_full(int tile) const {
        if (mutant(32) || (mutant(34) && threadIdx.x / 32 % 4 == 2)) return;
        ptx::mbarrier_wait(place.full(tile), place.parity(tile) ^ (mutant(33) ? 1 : 0));
    }

    // No product of this group reads the stage any more.
    __device__ __forceinline__ void give_back(int tile) const {
        // By way of registers each warp reads x by itself, of f32 its lanes one by one.
        if constexpr (S::BY_REGISTERS) __syncwarp();
        const int thread = threadIdx.x % (S::BY_REGISTERS ? 32 : GROUP_THREADS);
        if constexpr (S::CLUSTER == 1) {
            if (thread == 0) ptx::mbarrier_arrive(place.empty(tile));
        } else if (thread < S::CLUSTER) {
            const int to = mutant(39) ? place.rank : place.sharer(thread);
            ptx::mbarrier_arrive_remote(ptx::map_to_rank(place.empty(tile), to));
        }
    }

    __device__ __forceinline__ uint32_t x_rows(int tile) const {
        return place.stage(tile) + (mutant(41) ? S::GROUPS - 1 - group : group) * GROUP_ROWS * ROW_BYTES;
    }

    __device__ __forceinline__ uint64_t w_matrix(int tile, int step) const {
        return ptx::deeper(ptx::matrix_descriptor(place.stage(tile) + S::X_BYTES), step * (mutant(40) ? 16 : 32));
    }

    static __device__ __forceinline__ void fence() {
        if (!mutant(35)) ptx::wgmma_fence();
    }

    static __device__ __forceinline__ void commit() {
        if (!mutant(36)) ptx::wgmma_commit();
    }

    __device__ __forceinline__ void multiply_halves(float (&sum)[S::SUMS], int tile) const {
        const uint32_t strange = mutant(46) && threadIdx.x / 32 % 4 == 1 ? 1024 : 0;
        fence();
#pragma unroll
        for (int step = 0; step < DEPTH / 16; step++) {
            const uint64_t x_matrix = ptx::deeper(ptx::matrix_descriptor(x_rows(tile) + strange), step * 32);
            ptx::Wgmma<S::COLUMNS>::shared(sum, x_matrix, w_matrix(tile, step), mutant(43) || tile > 0 || step > 0);
        }
        commit();
    }

    // Two steps' fragments of x, of f32 that a box holds. Lanes of odd rows read the second step's first, so that the eight bytes
    // of each of four rows lie in different banks.
    __device__ __forceinline__ void load_floats(uint32_t (&x)[2][4], uint32_t box) const {
        const int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane / 4, column = lane % 4;
        const bool odd = row % 2 != 0 && !mutant(44);
        uint32_t read[4][2];
#pragma unroll
        for (int pair = 0; pair < 4; pair++)
#pragma unroll
            for (int lower = 0; lower < 2; lower++) {
                const int chunk = 2 * (pair ^ (row % 2 != 0 ? 2 : 0)) + column / 2;
                const float2 v = ptx::load_shared_float2(box + swizzled(row + 8 * lower, chunk) + column % 2 * 8);
                read[pair][lower] = ptx::pack_half2(v.x, v.y);
            }
#pragma unroll
        for (int step = 0; step < 2; step++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int pair = 2 * step + e / 2;
                x[step][e] = odd ? read[pair ^ 2][e % 2] : read[pair][e % 2];
            }
    }

    // Two steps' fragments of x, of f16 that passes a ReLU, from a half of the box's depth.
    __device__ __forceinline__ void load_relu(uint32_t (&x)[2][4], uint32_t box, int half) const {
        const int row = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 16, second = threadIdx.x % 32 / 16;
#pragma unroll
        for (int step = 0; step < 2; step++) {
            const int chunk = 2 * (2 * (mutant(49) ? 1 - half : half) + step) + second;
            ptx::ldmatrix_x4(x[step], box + (mutant(48) ? row * ROW_BYTES + chunk * CHUNK_BYTES : swizzled(row, chunk)));
#pragma unroll
            for (uint32_t& pair : x[step]) pair = relu(pair);
        }
    }

    // Half of a stage's depth.
    __device__ __forceinline__ void multiply_registers(float (&sum)[S::SUMS], uint32_t (&x)[2][4], int tile, int half) const {
        if constexpr (S::FLOAT) {
            load_floats(x, x_rows(tile) + half * S::X_BOX_BYTES);
        } else {
            load_relu(x, x_rows(tile), half);
        }
        // All of it is in registers before the products that read it begin: else ptxas has them wait for each other.
        ptx::pin(x[0]);
        ptx::pin(x[1]);
        fence();
#pragma unroll
        for (int step = 0; step < 2; step++) {
            const uint32_t add = mutant(43) || tile > 0 || half > 0 || step > 0;
            ptx::Wgmma<S::COLUMNS>::registers(sum, x[step], w_matrix(tile, 2 * half + step), add);
        }
        commit();
    }

    // The block's part of the sums, the group's rows. `meanwhile`: beside the last products.
    template <typename F>
    __device__ __forceinline__ void run(float (&sum)[S::SUMS], F meanwhile) const {
        if constexpr (!S::BY_REGISTERS) {
            for (int tile = 0; tile < place.tiles; tile++) {
                wait_full(tile);
                multiply_halves(sum, tile);
                if (mutant(38)) give_back(tile);
                // The stage before has been read.
                ptx::wgmma_wait<1>();
                if (tile > 0 && !mutant(38)) give_back(tile - 1);
            }
        } else {
            uint32_t x[2][2][4];
            for (int tile = 0; tile < place.tiles; tile++) {
                wait_full(tile);
                // Registers are free for new values when the products that read them have ended: of two sets one at a time.
                if (!mutant(45)) ptx::wgmma_wait<1>();
                multiply_registers(sum, x[0], tile, 0);
                if (!mutant(45)) ptx::wgmma_wait<1>();
                multiply_registers(sum, x[1], tile, 1);
                // Not between the two: ptxas would have their products wait for each other.
                if (tile > 0) give_back(tile - 1);
            }
            // Results are staged where other lanes of the warp have read x.
            if (!mutant(47)) __syncwarp();
        }
        meanwhile();
        if (!mutant(37)) ptx::wgmma_wait<0>();
        ptx::pin(sum);
    }
};
