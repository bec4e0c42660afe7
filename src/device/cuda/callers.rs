//! Images in memory of whoever calls. Events order the two streams: the caller's work on its image is done before the image is read
//! ([`Wait::Written`]), and what the caller queues there later begins when it has been read ([`Wait::Taken`]).

use super::Cuda;
use super::driver::{Event, ForeignRows, ForeignStream, Stream};
use super::slots::Wait;
use crate::error::Result;
use crate::ops::Buf;
use crate::pixels::{CudaImage, Image, MOST_PLANES};

/// Recorded again for each image: a wait is for what was recorded when it was queued.
pub struct Callers {
    written: Event,
    taken: Event,
}

/// An image that was found in memory of this GPU: its rows, as few pieces as they are (planes that follow each other in one
/// allocation are one), and the stream that has it.
#[derive(Clone, Copy)]
pub struct Located {
    rows: [Option<ForeignRows>; MOST_PLANES],
    stream: u64,
}

impl Located {
    /// # Errors
    /// As [`crate::device::Device::locate`] and [`Image::check`].
    pub(super) fn of(image: &Image<'_>, cuda: &CudaImage, ours: &Stream) -> Result<Located> {
        ours.check_foreign(ForeignStream::new(cuda.stream()))?;
        let sizes = image.check()?;
        let mut located = Located { rows: [None; MOST_PLANES], stream: cuda.stream() };
        let mut last: Option<usize> = None;
        for (at, ((address, pitch), size)) in cuda.planes().zip(sizes).enumerate() {
            let rows = ForeignRows { address, pitch, size };
            match last.and_then(|last| located.rows[last].as_mut()) {
                // Two allocations may lie side by side.
                Some(before) if before.goes_on_in(&rows) && ours.is_one_memory(before.address, address)? => {
                    before.size.rows += size.rows;
                }
                _ => (located.rows[at], last) = (Some(rows), Some(at)),
            }
        }
        located.pieces().try_for_each(|rows| ours.check_memory(rows))?;
        Ok(located)
    }

    fn pieces(&self) -> impl Iterator<Item = &ForeignRows> {
        self.rows.iter().flatten()
    }
}

impl Cuda {
    /// Queues copies of images to the arena, one behind the other, without what pads their rows.
    pub(super) fn bring(&mut self, to: Buf, images: &[Located]) -> Result<()> {
        if self.callers.is_none() {
            self.callers =
                Some(Callers { written: Event::untimed(&self.stream)?, taken: Event::untimed(&self.stream)? });
        }
        let Cuda { callers: Some(Callers { written, taken }), stream: compute, arena, .. } = &*self else {
            return Ok(());
        };
        for stream in self.streams_of(images) {
            written.record_on(stream)?;
            if !self.omits(Wait::Written) {
                compute.follow(written)?;
            }
        }
        let mut place = to.offset;
        for rows in images.iter().flat_map(Located::pieces) {
            compute.take(rows, arena.memory(), place)?;
            place += rows.size.row * rows.size.rows;
        }
        if self.streams_of(images).next().is_some() {
            taken.record()?;
        }
        if self.omits(Wait::Taken) {
            return Ok(());
        }
        self.streams_of(images).try_for_each(|stream| taken.hold(stream))
    }

    /// The callers' streams, each once, without that of this device, in whose order everything is.
    fn streams_of<'a>(&'a self, images: &'a [Located]) -> impl Iterator<Item = ForeignStream> + 'a {
        let is_first = |at: usize| images[..at].iter().all(|before| before.stream != images[at].stream);
        let streams = images.iter().enumerate().filter(move |(at, _)| is_first(*at)).map(|(_, image)| image.stream);
        streams.filter(|stream| *stream != self.handle()).map(ForeignStream::new)
    }

    #[cfg(feature = "bench")]
    pub(super) fn omits(&self, wait: Wait) -> bool {
        self.omitted == Some(wait)
    }

    #[cfg(not(feature = "bench"))]
    pub(super) fn omits(&self, _wait: Wait) -> bool {
        false
    }

    /// Of the stream that computes.
    pub(super) fn handle(&self) -> u64 {
        self.stream.raw_stream().expose_provenance() as u64
    }
}
