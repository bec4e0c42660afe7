//! What one launch did, counted.

use serde::Serialize;

/// Warp instructions by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Instructions {
    pub integer: u64,
    pub float: u64,
    pub half: u64,
    pub double: u64,
    /// ex2, rsqrt, rcp, sin, …: the multi-function unit.
    pub special: u64,
    pub convert: u64,
    pub compare: u64,
    pub mov: u64,
    pub branch: u64,
    pub load_global: u64,
    pub store_global: u64,
    pub load_shared: u64,
    pub store_shared: u64,
    pub local: u64,
    pub param: u64,
    pub ldmatrix: u64,
    pub mma: u64,
    pub cp_async: u64,
    pub shuffle: u64,
    pub barrier: u64,
    pub atomic: u64,
    pub other: u64,
}

/// Everything; sums over the launch's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub instructions: Instructions,
    /// Warp instructions, and active lanes summed over them: their ratio over 32 is the active-lane ratio.
    pub issued: u64,
    pub active_lanes: u64,
    /// Floating operations of the tensor cores (2·m·n·k each).
    pub mma_flop: u64,
    /// Passes through shared memory, and those beyond the least that the accessed bytes need.
    pub shared_requests: u64,
    pub shared_wavefronts: u64,
    pub shared_conflicts: u64,
    /// Global memory, loads (cp.async included) and stores apart: warp requests, 32-byte sectors, the fewest sectors
    /// that the same bytes would fill (their ratio says how coalesced), bytes asked for.
    pub global_load_requests: u64,
    pub global_load_sectors: u64,
    pub global_load_least_sectors: u64,
    pub global_load_bytes: u64,
    pub global_store_requests: u64,
    pub global_store_sectors: u64,
    pub global_store_least_sectors: u64,
    pub global_store_bytes: u64,
    /// Different sectors touched by the whole launch.
    pub unique_load_sectors: u64,
    pub unique_store_sectors: u64,
    pub cp_async_bytes: u64,
    pub local_bytes: u64,
    pub barriers: u64,
    pub atomics: u64,
}
