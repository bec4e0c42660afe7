//! Memory of the host that frames are written to by whoever has them, on any thread, and taken from by submitted passes without
//! another copy: page-locked on a GPU that has memory of its own.

use super::cuda;
use crate::error::Result;

/// Bytes of one frame.
pub enum FrameMemory {
    /// A device that has no other copies it as any bytes.
    Plain(Vec<u8>),
    Cuda(cuda::HostMemory),
}

/// Makes such memory for one device, on any thread.
#[derive(Clone)]
pub enum FrameAllocator {
    Plain,
    Cuda(cuda::FrameStream),
}

impl FrameAllocator {
    /// Zeros.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn allocate(&self, bytes: usize) -> Result<FrameMemory> {
        match self {
            FrameAllocator::Plain => Ok(FrameMemory::Plain(vec![0; bytes])),
            FrameAllocator::Cuda(stream) => stream.allocate(bytes).map(FrameMemory::Cuda),
        }
    }
}

impl FrameMemory {
    pub fn bytes(&self) -> usize {
        match self {
            FrameMemory::Plain(bytes) => bytes.len(),
            FrameMemory::Cuda(memory) => memory.bytes(),
        }
    }

    /// What is there. It waits while a copy of it is in flight.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn slice(&self) -> Result<&[u8]> {
        match self {
            FrameMemory::Plain(bytes) => Ok(bytes),
            FrameMemory::Cuda(memory) => memory.slice(),
        }
    }

    /// As [`FrameMemory::slice`].
    ///
    /// # Errors
    /// As there.
    pub fn slice_mut(&mut self) -> Result<&mut [u8]> {
        match self {
            FrameMemory::Plain(bytes) => Ok(bytes),
            FrameMemory::Cuda(memory) => memory.slice_mut(),
        }
    }
}
