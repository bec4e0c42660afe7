//! What one launch did, counted. `vgpu_last_counts` and `VGPU_COUNTS` give it as JSON, under the names of the fields.

use std::collections::BTreeMap;

use serde::Serialize;

/// Warp instructions by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Instructions {
    /// Integers and bits.
    pub integer: u64,
    /// float32.
    pub float: u64,
    /// float16 and bfloat16, pairs too.
    pub half: u64,
    /// float64.
    pub double: u64,
    /// ex2, rsqrt, rcp, sin, …: the multi-function unit.
    pub special: u64,
    /// `cvt`.
    pub convert: u64,
    /// `setp`, `selp`, predicates.
    pub compare: u64,
    /// Moves, packing, special registers.
    pub mov: u64,
    /// `bra`, `brx`, `exit`, `trap`.
    pub branch: u64,
    /// Loads of global memory.
    pub load_global: u64,
    /// Stores to global memory.
    pub store_global: u64,
    /// Loads of shared memory.
    pub load_shared: u64,
    /// Stores to shared memory.
    pub store_shared: u64,
    /// Loads and stores of local memory.
    pub local: u64,
    /// Loads of parameters and constants.
    pub param: u64,
    /// `ldmatrix`.
    pub ldmatrix: u64,
    /// `mma`.
    pub mma: u64,
    /// `cp.async`.
    pub cp_async: u64,
    /// Shuffles, votes, `match`, `redux`.
    pub shuffle: u64,
    /// Barriers of blocks and of warps.
    pub barrier: u64,
    /// Atomics.
    pub atomic: u64,
    /// All others.
    pub other: u64,
}

/// Everything; sums over the launch's blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Warp instructions by class.
    pub instructions: Instructions,
    /// Warp instructions.
    pub issued: u64,
    /// Active lanes summed over them: divided by 32 times their number, the active-lane ratio.
    pub active_lanes: u64,
    /// Floating operations of the tensor cores (2·m·n·k each).
    pub mma_flop: u64,
    /// Those of them that warpgroups did (`wgmma`).
    pub wgmma_flop: u64,
    /// Products of tensor cores by instruction and types, `mma.m16n8k16.f32.f16`: of `mma` warps', of `wgmma` warpgroups'.
    pub tensor: BTreeMap<String, u64>,
    /// Columns of warpgroup products, each of 64 rows and 32 bytes of depth: at full rate a clock for two.
    pub wgmma_columns: u64,
    /// Bytes of shared memory that these read as factors.
    pub wgmma_shared_bytes: u64,
    /// Accesses of shared memory, a warp's as one.
    pub shared_requests: u64,
    /// Passes through shared memory.
    pub shared_wavefronts: u64,
    /// Those beyond the least that the accessed bytes need.
    pub shared_conflicts: u64,
    /// Loads of global memory (cp.async included), a warp's as one.
    pub global_load_requests: u64,
    /// 32-byte sectors that they touched, request by request.
    pub global_load_sectors: u64,
    /// The fewest sectors that the same bytes would fill: their ratio says how coalesced.
    pub global_load_least_sectors: u64,
    /// Bytes asked for.
    pub global_load_bytes: u64,
    /// Stores to global memory, a warp's as one.
    pub global_store_requests: u64,
    /// As of loads.
    pub global_store_sectors: u64,
    /// As of loads.
    pub global_store_least_sectors: u64,
    /// As of loads.
    pub global_store_bytes: u64,
    /// Different sectors loaded by the whole launch.
    pub unique_load_sectors: u64,
    /// Different sectors stored by the whole launch.
    pub unique_store_sectors: u64,
    /// Bytes of shared memory that cp.async wrote, zeros included.
    pub cp_async_bytes: u64,
    /// Bytes that bulk copies (TMA) brought from global memory, what goes to several blocks of a cluster counted once.
    pub bulk_load_bytes: u64,
    /// Bytes of shared memory that they wrote, fills and every block of a cluster included.
    pub bulk_shared_bytes: u64,
    /// Bytes of global memory that they wrote.
    pub bulk_store_bytes: u64,
    /// Bytes that bulk prefetches brought to the L2 cache.
    pub bulk_prefetch_bytes: u64,
    /// Arrivals at `mbarrier` objects by threads.
    pub barrier_arrivals: u64,
    /// Waits there that did not find their phase complete.
    pub barrier_waits: u64,
    /// Arrivals of warps at the cluster's barrier.
    pub cluster_barriers: u64,
    /// Bytes of local memory loaded and stored.
    pub local_bytes: u64,
    /// Barriers of blocks that were completed.
    pub barriers: u64,
    /// Warp instructions on atomics.
    pub atomics: u64,
}
