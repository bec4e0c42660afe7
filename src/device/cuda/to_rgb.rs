//! Host side of kernels/to_rgb.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::photo::{Format, Source};
use crate::ops::ToRgb;

/// ToRgbParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    photo: u64,
    out: u64,
    photo_height: u32,
    photo_width: u32,
    segments: u32,
    scale: f32,
    format: Format,
}

pub fn compile(op: &ToRgb, to: &mut Assembler<'_>) -> Refused {
    let ToRgb { photo, out } = *op;
    let Source { kind, format, white, .. } = Source::of(&photo);
    let name = format!("to_rgb{kind}");
    let kernel = to.find("to_rgb", |kernel| kernel.name == name)?;
    let segments = photo.width.div_ceil(kernel.spec.columns);
    let params = Params {
        photo: to.address(photo.buf),
        out: to.address(out),
        photo_height: photo.height as u32,
        photo_width: photo.width as u32,
        segments: segments as u32,
        scale: 255.0 / white,
        format,
    };
    to.launch(kernel, [segments * photo.height * out.batch(), 1, 1], &params)
}
