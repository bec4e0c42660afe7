//! Images in memory of whoever calls. Events order the two streams: the caller's work on its image is done before the image is read
//! ([`Wait::Written`]), and what the caller queues there later begins when it has been read ([`Wait::Taken`]).

use super::Cuda;
use super::driver::{Event, ForeignRows, ForeignStream, Memory, Stream};
use super::slots::Wait;
use crate::error::Result;
use crate::ops::Buf;
use crate::pixels::{CudaImage, Image, MOST_PLANES};

/// Recorded again for each image: a wait is for what was recorded when it was queued.
pub struct Callers {
    written: Event,
    taken: Event,
}

/// An image's rows in its planes, as few pieces as they are: planes that follow each other in one allocation are one.
struct Pieces {
    rows: [Option<ForeignRows>; MOST_PLANES],
}

impl Pieces {
    /// # Errors
    /// As [`Image::check`]; whatever the driver answers.
    fn of(image: &Image<'_>, cuda: &CudaImage, stream: &Stream) -> Result<Pieces> {
        let sizes = image.check()?;
        let mut pieces = Pieces { rows: [None; MOST_PLANES] };
        let mut last: Option<usize> = None;
        for (at, ((address, pitch), size)) in cuda.planes().zip(sizes).enumerate() {
            let rows = ForeignRows { address, pitch, size };
            match last.and_then(|last| pieces.rows[last].as_mut()) {
                // Two allocations may lie side by side.
                Some(before) if before.goes_on_in(&rows) && stream.is_one_memory(before.address, address)? => {
                    before.size.rows += size.rows;
                }
                _ => (pieces.rows[at], last) = (Some(rows), Some(at)),
            }
        }
        Ok(pieces)
    }

    fn iter(&self) -> impl Iterator<Item = &ForeignRows> {
        self.rows.iter().flatten()
    }
}

impl Cuda {
    /// Whether frames can be made of an image that lies where this one does.
    ///
    /// # Errors
    /// As [`crate::device::Device::check_image`].
    pub(super) fn check_caller(&self, image: &Image<'_>) -> Result<()> {
        let Some(cuda) = image.in_cuda() else { return Ok(()) };
        self.stream.check_foreign(ForeignStream::new(cuda.stream()))?;
        Pieces::of(image, cuda, &self.stream)?.iter().try_for_each(|rows| self.stream.check_memory(rows))
    }

    /// Queues copies of images to the arena, one behind the other, without what pads their rows. They were checked.
    pub(super) fn bring(&mut self, to: Buf, images: &[Image<'_>]) -> Result<()> {
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
        for image in images {
            place = self.copy(image, arena.memory(), place)?;
        }
        if self.streams_of(images).next().is_some() {
            taken.record()?;
        }
        if self.omits(Wait::Taken) {
            return Ok(());
        }
        self.streams_of(images).try_for_each(|stream| taken.hold(stream))
    }

    /// Where the next one goes.
    fn copy(&self, image: &Image<'_>, arena: &Memory, mut place: usize) -> Result<usize> {
        let Some(cuda) = image.in_cuda() else { return Ok(place) };
        for rows in Pieces::of(image, cuda, &self.stream)?.iter() {
            self.stream.take(rows, arena, place)?;
            place += rows.size.row * rows.size.rows;
        }
        Ok(place)
    }

    /// The callers' streams, each once, without that of this device, in whose order everything is.
    fn streams_of<'a>(&'a self, images: &'a [Image<'_>]) -> impl Iterator<Item = ForeignStream> + 'a {
        let handle = |image: &Image<'_>| image.in_cuda().map(CudaImage::stream);
        let is_first = move |at: usize, stream| images[..at].iter().all(|before| handle(before) != Some(stream));
        let found = images.iter().enumerate().filter_map(move |(at, image)| handle(image).filter(|s| is_first(at, *s)));
        found.filter(|stream| *stream != self.handle()).map(ForeignStream::new)
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
