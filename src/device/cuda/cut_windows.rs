//! Host side of kernels/cut_windows.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::CutWindows;
use crate::ops::cut_windows::TAPS;
use crate::ops::patchify::Normalise;

/// CutWindowsParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    photo: u64,
    seen: u64,
    weights: u64,
    out: u64,
    photo_width: u32,
    height: u32,
    width: u32,
    patch: u32,
    columns: u32,
    segments: u32,
    scale: [f32; 3],
    shift: [f32; 3],
}

/// Columns of a block: as many of `most` as have room in `line` bytes of the photo.
fn columns(most: usize, line: usize, density: usize) -> Option<usize> {
    let pixels = (line - 3) / 3;
    Some((pixels.saturating_sub(TAPS) / density).min(most)).filter(|columns| *columns > 0)
}

pub fn compile(op: &CutWindows, to: &mut Assembler<'_>) -> Refused {
    let CutWindows { photo, seen, weights, density, normalise: Normalise { mean, std }, patch, out } = *op;
    let kernel = to.kernel("cut_windows")?;
    let [batch, height, width, _] = out.shape;
    let columns = columns(kernel.spec.columns, kernel.spec.room, density)
        .ok_or_else(|| format!("a column of a window on {density} of the photo: resize the photo before"))?;
    let segments = (width * patch).div_ceil(columns);
    let params = Params {
        photo: to.address(photo.buf),
        seen: to.address(seen),
        weights: to.address(weights),
        out: to.address(out),
        photo_width: photo.width as u32,
        height: height as u32,
        width: width as u32,
        patch: patch as u32,
        columns: columns as u32,
        segments: segments as u32,
        scale: std.map(|std| 1.0 / (255.0 * std)),
        shift: std::array::from_fn(|c| -mean[c] / std[c]),
    };
    to.launch(kernel, [segments * height * patch * batch, 1, 1], &params)
}
