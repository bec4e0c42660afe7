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
    /// [`Error::Size`] for one without pixels or larger than memory; [`Error::Memory`]; whatever else a GPU answers.
    pub fn begin(&mut self, format: Format, width: usize, height: usize) -> Result<()> {
        let bytes = format.bytes(width, height).filter(|bytes| *bytes > 0).ok_or_else(|| {
            Error::Size(format!("a frame of {width}×{height}: at least one pixel, and fewer than memory has"))
        })?;
        if self.memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            let need = Need { host: bytes as u64, ..Need::default() };
            self.held.grow(&format!("a frame of {width}×{height} that waits"), need, memory::FOR_PASS)?;
            self.memory = None;
            self.memory = Some(match self.buffers.allocator.allocate(bytes) {
                Err(Error::Lost(_)) => FrameMemory::Plain(vec![0; bytes]),
                allocated => allocated?,
            });
        }
        (self.format, self.width, self.height) = (format, width, height);
        Ok(())
    }

    /// The frame's bytes, rows and planes without padding. Where the GPU is lost whose memory it was, plain memory takes its place: another
    /// engine may take the frame from there.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes();
        if let Some(memory) = &mut self.memory
            && memory.slice_mut().is_err()
        {
            *memory = FrameMemory::Plain(vec![0; memory.bytes()]);
        }
        let memory = self.memory.as_mut().and_then(|memory| memory.slice_mut().ok());
        memory.map_or(&mut [], |memory| &mut memory[..bytes])
    }

    /// Whether any engine can take the frame, whatever became of the one that the memory was made for.
    pub fn is_plain(&self) -> bool {
        matches!(self.memory, Some(FrameMemory::Plain(_)))
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
