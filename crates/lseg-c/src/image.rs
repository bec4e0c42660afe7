//! An image as C describes it.

#![allow(unsafe_code)] // What the pointers of an image point to.

use std::ffi::c_void;
use std::slice;

use lseg_fast::{Format, Image, Plane, PlaneSize};

use crate::codes::{self, lseg_memory};
use crate::given::{self, Struct};
use crate::status::{Failure, invalid};

/// An image of the caller's, which is read where it lies and must stay as it is while a call has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_image {
    /// sizeof(lseg_image)
    pub size: usize,
    /// enum lseg_format
    pub format: i32,
    /// enum lseg_memory
    pub memory: i32,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The first byte of each plane that the format has.
    pub plane: [*const c_void; 3],
    /// Bytes from a row to the next, of each plane, not fewer than a row's own; 0 is a row's own.
    pub pitch: [usize; 3],
    /// Of CUDA memory: the cudaStream_t or CUstream on which the image is made (NULL is the default stream). The frame begins when
    /// what is queued there has ended, and what is queued there later begins when the image has been read; nobody waits on the host.
    pub cuda_stream: *mut c_void,
}

// SAFETY: repr(C), zeros are NULL and 0, and fields of eight bytes lie at multiples of eight.
unsafe impl Struct for lseg_image {
    const NAME: &'static str = "lseg_image";
}

/// Its format, width and height.
pub(crate) type Shape = (Format, usize, usize);

/// Without looking at its planes.
///
/// # Safety
/// `given` is NULL or points to as many bytes as its first field says.
pub(crate) unsafe fn shape(given: *const lseg_image) -> Result<Shape, Failure> {
    // SAFETY: as this function's.
    shape_of(&unsafe { given::versioned(given, "image")? })
}

fn shape_of(image: &lseg_image) -> Result<Shape, Failure> {
    Ok((codes::format(image.format, "image")?, image.width as usize, image.height as usize))
}

/// # Safety
/// `given` is NULL or points to as many bytes as its first field says; planes that are not NULL have all of their rows, and stay
/// as they are for `'a`.
pub(crate) unsafe fn image<'a>(given: *const lseg_image) -> Result<Image<'a>, Failure> {
    // SAFETY: as this function's.
    let given = unsafe { given::versioned(given, "image")? };
    let (format, width, height) = shape_of(&given)?;
    let memory = codes::memory(given.memory, "image")?;
    let too_large = || invalid(format!("an image of {width}x{height} is larger than memory"));
    let sizes = format.planes(width, height).ok_or_else(too_large)?;
    let count = sizes.iter().filter(|size| size.rows > 0 && size.row > 0).count();
    let mut pitches = given.pitch;
    for (at, (pitch, size)) in pitches.iter_mut().zip(&sizes).enumerate().take(count) {
        if given.plane[at].is_null() {
            return Err(invalid(format!("image.plane[{at}] is NULL: {} has {count} planes", format.name())));
        }
        if *pitch == 0 {
            *pitch = size.row;
        }
    }
    match memory {
        lseg_memory::LSEG_MEMORY_HOST => {
            let mut planes = [Plane::default(); 3];
            for at in 0..count {
                let bytes = bytes(pitches[at], &sizes[at]).ok_or_else(too_large)?;
                // SAFETY: the plane's rows are there, says the caller.
                let bytes = unsafe { slice::from_raw_parts(given.plane[at].cast(), bytes) };
                planes[at] = Plane { bytes, pitch: pitches[at] };
            }
            Ok(Image::of_planes(format, width, height, &planes[..count]))
        }
        lseg_memory::LSEG_MEMORY_CUDA => {
            let planes: [(u64, usize); 3] = std::array::from_fn(|at| (given.plane[at] as u64, pitches[at]));
            // SAFETY: the stream lives during the call, and memory until what is queued there later, as the header asks.
            Ok(unsafe { Image::cuda(format, width, height, &planes[..count], given.cuda_stream as u64) })
        }
    }
}

/// From the first row's first byte to the last row's last.
fn bytes(pitch: usize, size: &PlaneSize) -> Option<usize> {
    let bytes = pitch.checked_mul(size.rows - 1)?.checked_add(size.row)?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}
