//! Banks of labels: brought to the GPU once, copied from there into the place of each device's own.

use std::sync::Arc;

use super::driver::{Memory, Stream};
use super::memory;
use crate::error::Result;

/// Rows and offsets as they lie in devices' places.
pub struct GpuBank {
    memory: Memory,
    pub n: usize,
    pub k: usize,
    /// Bytes of the rows; the offsets begin at `offsets`.
    rows: usize,
    offsets: usize,
}

/// Some bytes of a bank.
pub struct Part<'a> {
    pub memory: &'a Memory,
    pub at: usize,
    pub bytes: usize,
}

impl GpuBank {
    /// Waits until all of it is there, so that every stream of the context may copy it.
    pub fn new(stream: &Stream, n: usize, k: usize, rows: &[f32], offsets: &[f32]) -> Result<GpuBank> {
        let mut bytes = memory::halves(n, k, rows);
        let rows = bytes.len();
        bytes.resize(memory::aligned_size(rows), 0);
        let at = bytes.len();
        bytes.extend_from_slice(bytemuck::cast_slice(offsets));
        let memory = stream.allocate(bytes.len(), memory::LABELS)?;
        stream.upload(&memory, 0, &bytes)?;
        Ok(GpuBank { memory, n, k, rows, offsets: at })
    }

    /// Whether devices of this stream's context may use it.
    pub fn is_of(&self, stream: &Stream) -> bool {
        Arc::ptr_eq(self.memory.context(), stream.context())
    }

    pub fn rows(&self) -> Part<'_> {
        Part { memory: &self.memory, at: 0, bytes: self.rows }
    }

    pub fn offsets(&self) -> Part<'_> {
        Part { memory: &self.memory, at: self.offsets, bytes: 4 * self.n }
    }
}
