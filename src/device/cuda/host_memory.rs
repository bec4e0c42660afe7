//! Memory of the host on one side of a slot's copies: page-locked, or plain where that is not to be had or not worth it.

use std::sync::Arc;

use super::driver::{Pinned, Stream};
use super::staging::MOST;
use crate::error::Result;

/// The stream that brings frames over: memory that they are taken from is its.
#[derive(Clone)]
pub struct FrameStream(pub(super) Arc<Stream>);

impl FrameStream {
    /// Zeros, page-locked where that serves copies.
    ///
    /// # Errors
    /// A GPU that is lost.
    pub fn allocate(&self, bytes: usize) -> Result<HostMemory> {
        HostMemory::new(&self.0, bytes)
    }
}

pub enum HostMemory {
    Pinned(Pinned),
    Plain(Vec<u8>),
}

impl HostMemory {
    /// Zeros.
    fn new(stream: &Arc<Stream>, bytes: usize) -> Result<HostMemory> {
        let pinned = if stream.info().unified || bytes > MOST { None } else { stream.pinned(bytes)? };
        Ok(pinned.map_or_else(|| HostMemory::Plain(vec![0; bytes]), HostMemory::Pinned))
    }

    /// Grows it to so many bytes, for copies of this stream. What was in it moves along: a frame may be in the making there.
    pub fn reserve(memory: &mut Option<HostMemory>, stream: &Arc<Stream>, bytes: usize) -> Result<()> {
        if memory.as_ref().is_some_and(|memory| memory.bytes() >= bytes) {
            return Ok(());
        }
        let mut larger = HostMemory::new(stream, bytes)?;
        if let Some(old) = memory {
            let old = old.slice()?;
            larger.slice_mut()?[..old.len()].copy_from_slice(old);
        }
        *memory = Some(larger);
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        match self {
            HostMemory::Pinned(pinned) => pinned.bytes(),
            HostMemory::Plain(bytes) => bytes.len(),
        }
    }

    /// Its bytes, once no copy of them is in flight.
    pub fn slice(&self) -> Result<&[u8]> {
        match self {
            HostMemory::Pinned(pinned) => pinned.slice(),
            HostMemory::Plain(bytes) => Ok(bytes),
        }
    }

    pub fn slice_mut(&mut self) -> Result<&mut [u8]> {
        match self {
            HostMemory::Pinned(pinned) => pinned.slice_mut(),
            HostMemory::Plain(bytes) => Ok(bytes),
        }
    }
}
