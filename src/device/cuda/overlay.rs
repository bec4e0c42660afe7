//! Host side of kernels/overlay.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::{Element, Overlay};

/// OverlayParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    mask: u64,
    palette: u64,
    photo: u64,
    pixels: u64,
    labels: u32,
    is_u16: u32,
}

pub fn compile(op: &Overlay, to: &mut Assembler<'_>) -> Refused {
    let Overlay { mask, palette, photo, unlabelled } = *op;
    let params = Params {
        mask: to.address(mask),
        palette: to.address(palette),
        photo: to.address(photo),
        pixels: mask.len() as u64,
        labels: palette.rows() as u32,
        is_u16: u32::from(mask.element == Element::U16),
    };
    let name = if unlabelled { "overlay_unlabelled" } else { "overlay" };
    let kernel = to.find("overlay", |kernel| kernel.name == name)?;
    to.launch(kernel, [mask.len().div_ceil(kernel.spec.rows), 1, 1], &params)
}
