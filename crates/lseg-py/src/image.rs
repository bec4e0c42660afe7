//! Arrays as images: which axes are rows, pixels and channels, and whether the engine can read them where they lie.

#![allow(unsafe_code)]

use lseg_fast::memory::Budget;
use lseg_fast::{Error, Format, Image, Plane, termination};

use crate::array::{Array, Axis, Element, Place};

/// What an array is taken for.
const ACCEPTED: &str = "uint8 [H, W, 3] or [3, H, W] (rgb8, bgr8), [H, W, 4] or [4, H, W] (rgba8, bgra8), [H, W] or \
                        [H, W, 1] (mono8), [H·3/2, W] (nv12), [H, W, 2] or [H, W·2] (yuyv), float16 or float32 [3, H, W]";

/// An image of an array, in the order in which the engine has its bytes: rows, pixels, channels; of planes of floating point
/// planes, rows, pixels.
#[derive(Clone, Debug)]
pub struct Picture {
    format: Format,
    width: usize,
    height: usize,
    address: u64,
    axes: [Axis; 3],
    item: usize,
    place: Place,
}

/// The images of an array: one, or those along its first axis.
pub fn pictures(array: &Array, format: Option<Format>) -> Result<(Vec<Picture>, bool), String> {
    let found = || format!("an image of shape {:?} and {}", array.shape(), array.element.name());
    let is_empty = array.axes.iter().any(|axis| axis.length == 0);
    if is_empty || array.address == 0 {
        return Err(format!("{} has no pixels: at least one is needed", found()));
    }
    if !is_in_memory(array) {
        let strides: Vec<isize> = array.axes.iter().map(|axis| axis.stride).collect();
        return Err(format!("{} with strides {strides:?}: no memory has that", found()));
    }
    let expected = match format {
        Some(format) => of_format(format).to_owned(),
        None => format!("{ACCEPTED}; one more axis in front makes it several; format= says what it is"),
    };
    let wrong = || format!("{}: expected {expected}", found());
    let format = format.or_else(|| guessed(array)).ok_or_else(wrong)?;
    if element(format) != array.element {
        return Err(wrong());
    }
    if let Some(one) = picture(array, format) {
        return Ok((vec![one], false));
    }
    if array.axes.len() < 3 {
        return Err(wrong());
    }
    let all: Option<Vec<Picture>> = array.split().map(|one| picture(&one, format)).collect();
    Ok((all.ok_or_else(wrong)?, true))
}

/// Whether an array from its first to its last element can be in memory at all.
fn is_in_memory(array: &Array) -> bool {
    let reach = array.axes.iter().try_fold(array.element.bytes(), |reach, axis| {
        reach.checked_add(axis.stride.unsigned_abs().checked_mul(axis.length - 1)?)
    });
    reach.is_some_and(|reach| reach <= isize::MAX as usize / 2)
}

/// The format of an array of which nothing is said.
fn guessed(array: &Array) -> Option<Format> {
    let of_channels = |count: usize| match count {
        1 => Some(Format::Mono8),
        3 => Some(Format::Rgb8),
        4 => Some(Format::Rgba8),
        _ => None,
    };
    match (array.element, &array.axes[..]) {
        (Element::F32, _) => Some(Format::RgbF32),
        (Element::F16, _) => Some(Format::RgbF16),
        (Element::U8, [_, _]) => Some(Format::Mono8),
        (Element::U8, [first, _, last] | [_, first, _, last]) => {
            of_channels(last.length).or_else(|| of_channels(first.length))
        }
        _ => None,
    }
}

fn element(format: Format) -> Element {
    match format {
        Format::RgbF32 => Element::F32,
        Format::RgbF16 => Element::F16,
        _ => Element::U8,
    }
}

/// The shapes that a format takes.
fn of_format(format: Format) -> &'static str {
    match format {
        Format::Rgb8 | Format::Bgr8 => "uint8 [H, W, 3] or [3, H, W], with one more axis in front of several",
        Format::Rgba8 | Format::Bgra8 => "uint8 [H, W, 4] or [4, H, W], with one more axis in front of several",
        Format::Mono8 => "uint8 [H, W], [H, W, 1] or [1, H, W], with one more axis in front of several",
        Format::Nv12(_) => "uint8 [H·3/2, W] of even H and W, with one more axis in front of several",
        Format::Yuyv(_) => "uint8 [H, W, 2] or [H, W·2] of even W, with one more axis in front of several",
        Format::RgbF32 => "float32 [3, H, W] in 0–1, with one more axis in front of several",
        Format::RgbF16 => "float16 [3, H, W] in 0–1, with one more axis in front of several",
    }
}

/// One image, if the array's axes are those of the format.
fn picture(array: &Array, format: Format) -> Option<Picture> {
    const ONE: Axis = Axis { length: 1, stride: 1 };
    let interleaved = |channels: usize| match array.axes[..] {
        [rows, pixels, last] if last.length == channels => Some((rows.length, pixels.length, [rows, pixels, last])),
        [first, rows, pixels] if first.length == channels => Some((rows.length, pixels.length, [rows, pixels, first])),
        [rows, pixels] if channels == 1 => Some((rows.length, pixels.length, [rows, pixels, ONE])),
        _ => None,
    };
    let (height, width, axes) = match format {
        Format::Rgb8 | Format::Bgr8 => interleaved(3),
        Format::Rgba8 | Format::Bgra8 => interleaved(4),
        Format::Mono8 => interleaved(1),
        Format::Nv12(_) => match array.axes[..] {
            [rows, bytes] if rows.length % 3 == 0 && bytes.length % 2 == 0 => {
                Some((rows.length / 3 * 2, bytes.length, [rows, bytes, ONE]))
            }
            _ => None,
        },
        Format::Yuyv(_) => match array.axes[..] {
            [rows, pixels, pair] if pair.length == 2 && pixels.length % 2 == 0 => {
                Some((rows.length, pixels.length, [rows, pixels, pair]))
            }
            [rows, bytes] if bytes.length % 4 == 0 => Some((rows.length, bytes.length / 2, [rows, bytes, ONE])),
            _ => None,
        },
        Format::RgbF32 | Format::RgbF16 => match array.axes[..] {
            [planes, rows, pixels] if planes.length == 3 => Some((rows.length, pixels.length, [planes, rows, pixels])),
            _ => None,
        },
    }?;
    let (address, item, place) = (array.address, array.element.bytes(), array.place);
    Some(Picture { format, width, height, address, axes, item, place })
}

impl Picture {
    pub fn is_in_cuda(&self) -> bool {
        matches!(self.place, Place::Cuda { .. })
    }

    /// Bytes of a row of the memory, without padding.
    fn row_bytes(&self) -> usize {
        match self.format {
            Format::RgbF32 | Format::RgbF16 => self.item * self.axes[2].length,
            _ => self.axes[1].length * self.axes[2].length,
        }
    }

    /// Each plane's first byte, bytes from row to row, and rows, if its rows are contiguous and follow each other downwards.
    fn planes(&self) -> Option<Vec<(u64, usize, usize)>> {
        let [first, second, third] = self.axes;
        let is_planar = matches!(self.format, Format::RgbF32 | Format::RgbF16);
        let follows = |axis: Axis, bytes: usize| axis.length == 1 || axis.stride == bytes as isize;
        let within =
            if is_planar { follows(third, self.item) } else { follows(third, 1) && follows(second, third.length) };
        let rows = if is_planar { second } else { first };
        let row = self.row_bytes();
        let pitch =
            if rows.length == 1 { Some(row) } else { usize::try_from(rows.stride).ok().filter(|pitch| *pitch >= row) };
        let pitch = pitch.filter(|_| within)?;
        Some(match self.format {
            Format::RgbF32 | Format::RgbF16 => (0..3)
                .map(|plane| (self.address.wrapping_add_signed(plane * first.stride as i64), pitch, rows.length))
                .collect(),
            Format::Nv12(_) => {
                let chroma = self.address.wrapping_add((self.height * pitch) as u64);
                vec![(self.address, pitch, self.height), (chroma, pitch, self.height / 2)]
            }
            _ => vec![(self.address, pitch, rows.length)],
        })
    }

    /// Its bytes without padding, in the engine's order.
    ///
    /// # Safety
    /// The array lives, in the host's memory.
    ///
    /// # Errors
    /// [`Error::Memory`] where it is larger than what is free.
    unsafe fn gather(&self, memory: &Budget) -> lseg_fast::Result<Vec<u8>> {
        let [first, second, third] = self.axes;
        let counts = [first.length, second.length, third.length, self.item];
        let size = counts.iter().try_fold(1usize, |size, count| size.checked_mul(*count)).unwrap_or(usize::MAX);
        memory.ask_photo(size as u64)?;
        let mut bytes = Vec::new();
        termination::try_reserve(&mut bytes, size)
            .map_err(|_| Error::Memory(format!("an image of {size} bytes: no memory is left")))?;
        let origin = std::ptr::with_exposed_provenance::<u8>(self.address as usize);
        for i in 0..first.length as isize {
            for j in 0..second.length as isize {
                for k in 0..third.length as isize {
                    let from = origin.wrapping_offset(first.stride * i + second.stride * j + third.stride * k);
                    // SAFETY: an element of the array, which lives; bytes have no alignment.
                    bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(from, self.item) });
                }
            }
        }
        Ok(bytes)
    }
}

/// Pictures as the engine takes them: where they lie, or copied once where their strides are not those of an image's rows.
pub struct Ready<'a> {
    pictures: &'a [Picture],
    copies: Vec<Option<Vec<u8>>>,
}

impl<'a> Ready<'a> {
    /// # Safety
    /// The pictures' arrays live as long as this.
    ///
    /// # Errors
    /// [`Error::Size`] for a picture in CUDA memory that cannot be read where it lies, [`Error::Memory`] for a copy that is too large.
    pub unsafe fn new(pictures: &'a [Picture], memory: &Budget) -> lseg_fast::Result<Ready<'a>> {
        let copy = |picture: &Picture| match (picture.planes(), picture.place) {
            (Some(_), _) => Ok(None),
            // SAFETY: the caller's.
            (None, Place::Host) => unsafe { picture.gather(memory) }.map(Some),
            (None, Place::Cuda { .. }) => {
                let what = "an image in CUDA memory whose rows are not contiguous, or run upwards: make it so first (in PyTorch: \
                            .contiguous())";
                Err(Error::Size(what.to_owned()))
            }
        };
        Ok(Ready { pictures, copies: pictures.iter().map(copy).collect::<lseg_fast::Result<_>>()? })
    }

    /// `stream` is the engine's, for CUDA memory that nobody else has work queued on.
    pub fn images(&self, stream: Option<u64>) -> Vec<Image<'_>> {
        self.pictures.iter().zip(&self.copies).map(|(picture, copy)| image(picture, copy.as_deref(), stream)).collect()
    }
}

fn image<'a>(picture: &Picture, copy: Option<&'a [u8]>, stream: Option<u64>) -> Image<'a> {
    let Picture { format, width, height, .. } = *picture;
    if let Some(bytes) = copy {
        return Image::packed(format, width, height, bytes);
    }
    let planes = picture.planes().expect("what has none was copied or refused");
    if let Place::Cuda { stream: theirs } = picture.place {
        let planes: Vec<(u64, usize)> = planes.iter().map(|(address, pitch, _)| (*address, *pitch)).collect();
        // SAFETY: `Ready` is of arrays that live until the engine has done with them, and the stream is their producer's or ours.
        return unsafe { Image::cuda(format, width, height, &planes, theirs.or(stream).unwrap_or(1)) };
    }
    let row = picture.row_bytes();
    let slice = |address: u64, bytes: usize| -> &'a [u8] {
        // SAFETY: `Ready` is of arrays that live, and these are rows of one, from its first byte to its last.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address as usize), bytes) }
    };
    let is_packed = planes.iter().all(|(_, pitch, _)| *pitch == row)
        && planes.windows(2).all(|pair| pair[0].0.wrapping_add((pair[0].1 * pair[0].2) as u64) == pair[1].0);
    if is_packed {
        let bytes = planes.iter().map(|(_, pitch, rows)| pitch * rows).sum();
        return Image::packed(format, width, height, slice(planes[0].0, bytes));
    }
    let plane = |(address, pitch, rows): &(u64, usize, usize)| Plane {
        bytes: slice(*address, (rows - 1) * pitch + row),
        pitch: *pitch,
    };
    Image::of_planes(format, width, height, &planes.iter().map(plane).collect::<Vec<_>>())
}
