//! Host side of split-k in kernels/gemm_mainloop.cuh: where blocks that share a tile of the output meet.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::driver::{Gpu, Memory};
use super::tiles::GpuLimits;
use crate::error::Result;

/// The memory in which they meet. One product at a time uses it: they follow each other on one stream.
pub struct SplitKMemory {
    partial_sums: Memory,
    arrived: Memory,
}

/// Its addresses; 0 on a GPU that is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Workspace {
    partial_sums: u64,
    arrived: u64,
}

/// `SplitK` of kernels/gemm_mainloop.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct SplitK {
    partial_sums: u64,
    arrived: u64,
    count: u32,
    padding: u32,
}

impl SplitKMemory {
    pub fn new(gpu: &Arc<Gpu>) -> Result<SplitKMemory> {
        let (limits, what) = (GpuLimits::of(gpu.info()), "the products' workspace");
        let partial_sums = gpu.allocate(limits.workspace_bytes(), what)?;
        let arrived = gpu.allocate(4 * limits.most_split_tiles(), what)?;
        gpu.fill(&arrived, 0, 0, arrived.bytes())?;
        Ok(SplitKMemory { partial_sums, arrived })
    }

    pub fn workspace(&self) -> Workspace {
        Workspace { partial_sums: self.partial_sums.address(), arrived: self.arrived.address() }
    }
}

impl Workspace {
    /// For a product cut in `count` parts.
    pub fn split_k(self, count: usize) -> SplitK {
        SplitK { partial_sums: self.partial_sums, arrived: self.arrived, count: count as u32, padding: 0 }
    }
}
