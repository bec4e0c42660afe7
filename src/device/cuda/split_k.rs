//! Host side of split-k in kernels/gemm_mainloop.cuh: where blocks that share a tile of the output meet.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::driver::{Memory, Stream};
use super::tiles::GpuLimits;
use crate::error::Result;

const WORKSPACE: &str = "the products' workspace";

/// The memory in which they meet where the arena has no room. One product at a time uses it: they follow each other on one stream,
/// and of overlapping launches each waits before it touches memory (`begin_kernel` of kernels/common.cuh).
pub struct SplitKMemory {
    /// As large as a program needed it.
    partial_sums: Option<Memory>,
    arrived: Memory,
}

/// Its addresses; 0 on a GPU that is not there, and of what is not there yet.
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
    pub fn new(stream: &Arc<Stream>) -> Result<SplitKMemory> {
        let arrived = stream.allocate(4 * GpuLimits::of(stream.info()).most_split_tiles(), WORKSPACE)?;
        stream.fill(&arrived, 0, 0, arrived.bytes())?;
        Ok(SplitKMemory { partial_sums: None, arrived })
    }

    pub fn holds(&self, bytes: usize) -> bool {
        bytes <= self.partial_sums.as_ref().map_or(0, Memory::bytes)
    }

    /// The old memory is given back first; where there is not enough, none is left.
    pub fn grow(&mut self, stream: &Stream, bytes: usize) -> Result<()> {
        self.partial_sums = None;
        self.partial_sums = Some(stream.allocate(bytes, WORKSPACE)?);
        Ok(())
    }

    pub fn workspace(&self) -> Workspace {
        let partial_sums = self.partial_sums.as_ref().map_or(0, Memory::address);
        Workspace { partial_sums, arrived: self.arrived.address() }
    }
}

impl SplitK {
    /// Of a product in one part.
    pub fn whole() -> SplitK {
        SplitK { partial_sums: 0, arrived: 0, count: 1, padding: 0 }
    }
}

impl Workspace {
    /// For a product cut in `count` parts, which meet at this address, or here.
    pub fn split_k(self, address: Option<u64>, count: usize) -> SplitK {
        let partial_sums = address.unwrap_or(self.partial_sums);
        SplitK { partial_sums, arrived: self.arrived, count: count as u32, padding: 0 }
    }
}
