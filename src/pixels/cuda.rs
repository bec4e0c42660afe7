//! Pictures in a GPU's memory that belongs to somebody else.

#![allow(unsafe_code)]

use super::{Format, Image, MOST_PLANES, Pixels, PlaneSize};

/// Where a picture lies in a GPU's memory, and which stream has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaImage {
    /// Of each plane's first byte.
    addresses: [u64; MOST_PLANES],
    /// From a row to the next, in bytes.
    pitches: [usize; MOST_PLANES],
    planes: usize,
    stream: u64,
}

impl Image<'static> {
    /// A picture in CUDA memory: each plane's address and pitch in bytes, and the handle of the stream that wrote it (0 or 1 the
    /// legacy default stream, 2 that of the thread). The frame begins when what is queued there has ended, and what is queued
    /// there later begins when the picture has been read; the host waits for neither. Needs an engine in the context that the
    /// memory and the stream belong to ([`ContextKind::Primary`](crate::ContextKind::Primary) for CUDA's runtime library and all
    /// that build on it). That the memory is there and large enough is checked when it is used.
    ///
    /// # Safety
    /// `stream` is a stream of that context, and lives until the call that takes the image has returned. The memory is not freed before the work that
    /// is queued on the stream after that call.
    pub unsafe fn cuda(format: Format, width: usize, height: usize, planes: &[(u64, usize)], stream: u64) -> Self {
        let (mut addresses, mut pitches) = ([0; MOST_PLANES], [0; MOST_PLANES]);
        for (i, (address, pitch)) in planes.iter().take(MOST_PLANES).enumerate() {
            (addresses[i], pitches[i]) = (*address, *pitch);
        }
        let cuda = CudaImage { addresses, pitches, planes: planes.len(), stream };
        Image { format, width, height, pixels: Pixels::Cuda(cuda) }
    }
}

impl CudaImage {
    /// Each plane's address and pitch.
    pub(crate) fn planes(&self) -> impl Iterator<Item = (u64, usize)> {
        self.addresses.into_iter().zip(self.pitches).take(self.planes)
    }

    pub(crate) fn stream(&self) -> u64 {
        self.stream
    }

    /// Whether its planes are those of these sizes.
    pub(super) fn check(&self, sizes: &[PlaneSize; MOST_PLANES]) -> Result<(), String> {
        let need = sizes.iter().filter(|plane| plane.rows > 0).count();
        if self.planes != need {
            return Err(format!("with {} planes in CUDA memory: its format has {need}", self.planes));
        }
        match self.planes().zip(sizes).position(|((_, pitch), size)| pitch < size.row) {
            Some(at) => {
                let (pitch, row) = (self.pitches[at], sizes[at].row);
                Err(format!("whose plane {at} has {pitch} bytes from row to row: a row takes {row}"))
            }
            None => Ok(()),
        }
    }
}
