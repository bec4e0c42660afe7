//! A photo's colours, whatever its format.

use bytemuck::{NoUninit, Pod};
use half::f16;

use crate::ops::Picture;
use crate::pixels::{Format, ToRgb};

/// Pixels with colours in 0–1.
pub trait Colours {
    /// Row `y`: red, green and blue of each of its pixels.
    fn row(&self, y: usize) -> impl Fn(usize) -> [f32; 3];
}

/// What is done with a photo.
pub trait Reader {
    fn read(self, colours: &impl Colours);
}

/// Has the reader read a photo of these bytes.
pub fn read(photo: &Picture, bytes: &[u8], reader: impl Reader) {
    let Picture { format, width, height, .. } = *photo;
    match format {
        Format::Rgb8 => reader.read(&Bytes::<3, 0, 1, 2> { bytes, width }),
        Format::Bgr8 => reader.read(&Bytes::<3, 2, 1, 0> { bytes, width }),
        Format::Rgba8 => reader.read(&Bytes::<4, 0, 1, 2> { bytes, width }),
        Format::Bgra8 => reader.read(&Bytes::<4, 2, 1, 0> { bytes, width }),
        Format::Mono8 => reader.read(&Bytes::<1, 0, 0, 0> { bytes, width }),
        Format::Nv12(yuv) => {
            let (luma, chroma) = bytes.split_at(height * width);
            reader.read(&Nv12 { luma, chroma, width, to_rgb: yuv.to_rgb() });
        }
        Format::Yuyv(yuv) => reader.read(&Yuyv { pairs: bytes.as_chunks().0, width, to_rgb: yuv.to_rgb() }),
        Format::RgbF32 => reader.read(&Planes::<f32>::of(bytes, (height, width))),
        Format::RgbF16 => reader.read(&Planes::<f16>::of(bytes, (height, width))),
    }
}

/// `STEP` bytes a pixel, with red, green and blue at these of them.
struct Bytes<'a, const STEP: usize, const RED: usize, const GREEN: usize, const BLUE: usize> {
    bytes: &'a [u8],
    width: usize,
}

impl<const STEP: usize, const RED: usize, const GREEN: usize, const BLUE: usize> Colours
    for Bytes<'_, STEP, RED, GREEN, BLUE>
{
    #[inline(always)]
    fn row(&self, y: usize) -> impl Fn(usize) -> [f32; 3] {
        let row = &self.bytes.as_chunks::<STEP>().0[y * self.width..][..self.width];
        |x| [RED, GREEN, BLUE].map(|place| f32::from(row[x][place]) / 255.0)
    }
}

/// A colour of each, in 0–1.
#[inline(always)]
fn colours(to_rgb: &ToRgb, luma: u8, cb: u8, cr: u8) -> [f32; 3] {
    let (cb, cr) = (f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let grey = to_rgb.luma * (f32::from(luma) - to_rgb.black);
    std::array::from_fn(|c| (grey + (to_rgb.cb[c] * cb + to_rgb.cr[c] * cr)).clamp(0.0, 255.0) / 255.0)
}

struct Nv12<'a> {
    /// `[height, width]`
    luma: &'a [u8],
    /// `[⌈height / 2⌉, ⌈width / 2⌉, 2]`
    chroma: &'a [u8],
    width: usize,
    to_rgb: ToRgb,
}

impl Colours for Nv12<'_> {
    #[inline(always)]
    fn row(&self, y: usize) -> impl Fn(usize) -> [f32; 3] {
        let pairs = self.width.div_ceil(2);
        let luma = &self.luma[y * self.width..][..self.width];
        let chroma = &self.chroma.as_chunks::<2>().0[y / 2 * pairs..][..pairs];
        move |x| {
            let [cb, cr] = chroma[x / 2];
            colours(&self.to_rgb, luma[x], cb, cr)
        }
    }
}

struct Yuyv<'a> {
    /// `[height, ⌈width / 2⌉]`: luma, Cb, luma, Cr
    pairs: &'a [[u8; 4]],
    width: usize,
    to_rgb: ToRgb,
}

impl Colours for Yuyv<'_> {
    #[inline(always)]
    fn row(&self, y: usize) -> impl Fn(usize) -> [f32; 3] {
        let count = self.width.div_ceil(2);
        let row = &self.pairs[y * count..][..count];
        move |x| {
            let pair = row[x / 2];
            colours(&self.to_rgb, pair[x % 2 * 2], pair[1], pair[3])
        }
    }
}

/// Planes of red, green and blue, `[height, width]` each, of colours in 0–1.
struct Planes<'a, T> {
    planes: [&'a [T]; 3],
    width: usize,
}

impl<'a, T: Pod + NoUninit> Planes<'a, T> {
    fn of(bytes: &'a [u8], (height, width): (usize, usize)) -> Self {
        let all: &[T] = bytemuck::cast_slice(bytes);
        Planes { planes: std::array::from_fn(|c| &all[c * height * width..][..height * width]), width }
    }
}

impl<T: Copy + Into<f32>> Colours for Planes<'_, T> {
    #[inline(always)]
    fn row(&self, y: usize) -> impl Fn(usize) -> [f32; 3] {
        let rows = self.planes.map(|plane| &plane[y * self.width..][..self.width]);
        move |x| rows.map(|row| row[x].into())
    }
}
