//! Host side of kernels/sample.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::Sample;

/// SampleParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    points: u64,
    out: u64,
    height: u32,
    width: u32,
    channels: u32,
    photo_height: u32,
    photo_width: u32,
    padding: u32,
}

pub fn compile(op: &Sample, to: &mut Assembler<'_>) -> Refused {
    let Sample { x, points, photo, out } = *op;
    let [batch, height, width, channels] = x.shape;
    let params = Params {
        x: to.address(x),
        points: to.address(points),
        out: to.address(out),
        height: height as u32,
        width: width as u32,
        channels: channels as u32,
        photo_height: photo.0 as u32,
        photo_width: photo.1 as u32,
        padding: 0,
    };
    to.launch(to.kernel("sample")?, [points.rows(), 1, batch], &params)
}
