//! Device memory: allocations with guard gaps, bytes, and a shadow of each.

use super::{Request, Words};
use crate::counts::Counts;
use crate::fault::BadAccess;
use crate::ir::{AtomOp, Order, Ty};

/// A host-side use of device memory that a driver would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("{address:#x}..+{bytes} is not inside one allocation")]
    Invalid { address: u64, bytes: usize },
    #[error("{address:#x} was freed")]
    Freed { address: u64 },
    #[error("out of memory: {asked} bytes asked for, {free} free")]
    OutOfMemory { asked: usize, free: usize },
}

/// All device memory of a context. Shared by the threads that run blocks: bytes are relaxed atomics.
pub struct GlobalMemory {}

impl GlobalMemory {
    /// `capacity` bytes of device memory; host memory is taken as it is allocated.
    pub fn new(capacity: u64) -> GlobalMemory {
        let _ = capacity;
        unimplemented!()
    }

    /// Uninitialised memory at a multiple of 256, with a gap before the next allocation.
    pub fn alloc(&self, bytes: usize) -> Result<u64, MemoryError> {
        let _ = bytes;
        unimplemented!()
    }

    /// Its addresses are never given out again, so that a late access shows.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let _ = address;
        unimplemented!()
    }

    /// The allocation that holds `address`: its start and length.
    pub fn find(&self, address: u64) -> Option<(u64, usize)> {
        let _ = address;
        unimplemented!()
    }

    /// Bytes free and in all.
    pub fn info(&self) -> (u64, u64) {
        unimplemented!()
    }

    /// To the host. Uninitialised bytes read as 0xcd; their number is returned.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<usize, MemoryError> {
        let _ = (address, into);
        unimplemented!()
    }

    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let _ = (address, bytes);
        unimplemented!()
    }

    /// memset with a pattern of 1, 2 or 4 bytes, `count` times.
    pub fn fill(&self, address: u64, pattern: &[u8], count: usize) -> Result<(), MemoryError> {
        let _ = (address, pattern, count);
        unimplemented!()
    }

    /// Device to device, with the shadow: uninitialised bytes stay so.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), MemoryError> {
        let _ = (to, from, bytes);
        unimplemented!()
    }

    /// A new launch begins: earlier accesses race with nothing of it. It sees the allocations as they are now.
    /// `communicates`: its blocks may order each other ([`crate::ir::Kernel::communicates`]); they then run on one thread.
    pub fn begin_launch(&self, communicates: bool) -> LaunchMemory {
        let _ = communicates;
        unimplemented!()
    }
}

/// Device memory as one launch sees it; shared by the threads that run blocks.
pub struct LaunchMemory {}

impl LaunchMemory {
    /// What block `block` (its linear number in the grid) accesses memory through.
    pub fn block(&self, block: u32) -> BlockMemory<'_> {
        let _ = block;
        unimplemented!()
    }
}

/// Device memory as one block sees it; stays on the thread that runs the block.
pub struct BlockMemory<'a> {
    _launch: &'a LaunchMemory,
}

impl BlockMemory<'_> {
    pub fn load(&self, r: &Request, order: Order, into: &mut Words, counts: &mut Counts) -> Result<(), BadAccess> {
        let _ = (r, order, into, counts);
        unimplemented!()
    }

    pub fn store(&self, r: &Request, order: Order, from: &Words, counts: &mut Counts) -> Result<(), BadAccess> {
        let _ = (r, order, from, counts);
        unimplemented!()
    }

    /// One lane after the other, lowest first (highest first when `reverse`); `old` gets the values before.
    #[allow(clippy::too_many_arguments)]
    pub fn atomic(
        &self,
        r: &Request,
        op: AtomOp,
        ty: Ty,
        b: &Words,
        c: Option<&Words>,
        reverse: bool,
        old: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (r, op, ty, b, c, reverse, old, counts);
        unimplemented!()
    }

    /// The block executed a fence of GPU scope: what it wrote before is ordered before its next atomic.
    pub fn fence(&self) {
        unimplemented!()
    }
}
