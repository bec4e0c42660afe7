//! Host side of kernels/photo.cuh.

use bytemuck::{Pod, Zeroable};

use crate::ops::Picture;
use crate::pixels::{self, Yuv};

/// Format of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Format {
    item: u64,
    step: u32,
    order: u32,
    black: f32,
    luma: f32,
    cb: [f32; 3],
    cr: [f32; 3],
}

/// A photo as kernels take it.
pub struct Source {
    /// In the names of the kernels that take it.
    pub kind: &'static str,
    pub format: Format,
    /// What a colour of 1 is in a kernel.
    pub white: f32,
    /// The most that a line of it has for a pixel.
    pub line_bytes: usize,
    /// Neighbouring pixels that share bytes.
    pub sharing: usize,
}

impl Source {
    pub fn of(photo: &Picture) -> Source {
        let item = photo.bytes() as u64;
        let bytes = |kind, step: u32, [red, green, blue]: [u32; 3]| Source {
            kind,
            format: Format { item, step, order: red | green << 8 | blue << 16, ..Format::zeroed() },
            white: 255.0,
            line_bytes: step as usize,
            sharing: 1,
        };
        let luma = |kind, line_bytes, yuv: Yuv| {
            let pixels::ToRgb { black, luma, cb, cr } = yuv.to_rgb();
            let format = Format { item, black, luma, cb, cr, ..Format::zeroed() };
            Source { kind, format, white: 255.0, line_bytes, sharing: 2 }
        };
        let planes = |kind, line_bytes| {
            let format = Format { item, ..Format::zeroed() };
            Source { kind, format, white: 1.0, line_bytes, sharing: 1 }
        };
        const RGB: [u32; 3] = [0, 1, 2];
        const BGR: [u32; 3] = [2, 1, 0];
        match photo.format {
            pixels::Format::Rgb8 => bytes("", 3, RGB),
            pixels::Format::Bgr8 => bytes("_bytes", 3, BGR),
            pixels::Format::Rgba8 => bytes("_bytes", 4, RGB),
            pixels::Format::Bgra8 => bytes("_bytes", 4, BGR),
            pixels::Format::Mono8 => bytes("_bytes", 1, [0; 3]),
            pixels::Format::Nv12(yuv) => luma("_nv12", 1, yuv),
            pixels::Format::Yuyv(yuv) => luma("_yuyv", 2, yuv),
            pixels::Format::RgbF32 => planes("_float", 4),
            pixels::Format::RgbF16 => planes("_half", 2),
        }
    }
}
