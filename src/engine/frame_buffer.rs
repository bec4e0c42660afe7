//! Memory of the host that frames are written to on any thread and that a lane takes them from without another copy.

use super::Lane;
use crate::device::{FrameAllocator, FrameMemory};
use crate::error::{Error, Result};
use crate::memory::{self, Budget, Held, Need};
use crate::pixels::{Format, Image};

/// Makes [`FrameBuffer`]s for one lane, on any thread.
#[derive(Clone)]
pub(crate) struct FrameBuffers {
    allocator: FrameAllocator,
    budget: Budget,
}

/// Memory for one frame of any size: it grows with the largest.
pub(crate) struct FrameBuffer {
    buffers: FrameBuffers,
    memory: Option<FrameMemory>,
    held: Held,
    format: Format,
    width: usize,
    height: usize,
}

impl Lane {
    /// For frames that this lane is to be given.
    pub(crate) fn frame_buffers(&mut self) -> Result<FrameBuffers> {
        self.device.check()?;
        Ok(FrameBuffers { allocator: self.device.frame_allocator()?, budget: self.network.memory().clone() })
    }
}

impl FrameBuffers {
    /// Without memory as yet.
    pub fn buffer(&self) -> FrameBuffer {
        let held = self.budget.holder();
        FrameBuffer { buffers: self.clone(), memory: None, held, format: Format::Rgb8, width: 0, height: 0 }
    }
}

impl FrameBuffer {
    /// A frame of this format and size will be written; nothing is allocated where there was a frame as large before. Its bytes are
    /// those of some earlier frame until then.
    ///
    /// # Errors
    /// [`Error::Size`] for one without pixels or larger than memory; [`Error::Memory`]; [`Error::Lost`].
    pub fn begin(&mut self, format: Format, width: usize, height: usize) -> Result<()> {
        let bytes = format.bytes(width, height).filter(|bytes| *bytes > 0).ok_or_else(|| {
            Error::Size(format!("a frame of {width}×{height}: at least one pixel, and fewer than memory has"))
        })?;
        if self.memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            let need = Need { host: bytes as u64, ..Need::default() };
            self.held.grow(&format!("a frame of {width}×{height} that waits"), need, memory::FOR_PASS)?;
            self.memory = None;
            self.memory = Some(self.buffers.allocator.allocate(bytes)?);
        }
        (self.format, self.width, self.height) = (format, width, height);
        Ok(())
    }

    /// The frame's bytes, rows and planes without padding.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        let bytes = self.bytes();
        match &mut self.memory {
            Some(memory) => Ok(&mut memory.slice_mut()?[..bytes]),
            None => Ok(&mut []),
        }
    }

    /// The frame.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn image(&self) -> Result<Image<'_>> {
        let bytes = match &self.memory {
            Some(memory) => &memory.slice()?[..self.bytes()],
            None => &[],
        };
        Ok(Image::packed(self.format, self.width, self.height, bytes))
    }

    /// Where the device takes it from.
    pub(super) fn memory(&self) -> Option<&FrameMemory> {
        self.memory.as_ref()
    }

    /// How many bytes the frame has.
    pub fn bytes(&self) -> usize {
        self.format.bytes(self.width, self.height).unwrap_or(0)
    }
}
