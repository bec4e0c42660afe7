//! Host side of kernels/resize_features.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::resized::Resizing;
use crate::ops::{Element, ResizeFeatures};

/// ResizeFeaturesParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    first: u64,
    /// 0 where there is none
    scale: u64,
    out: u64,
    resizing: Resizing,
    planes: u32,
    factor: f32,
}

pub fn compile(op: &ResizeFeatures, to: &mut Assembler<'_>) -> Refused {
    let ResizeFeatures { x, first, scale, factor, out } = *op;
    let [_, planes, to_height, to_width] = out.shape;
    let name = if out.element == Element::F16 { "resize_features_half" } else { "resize_features" };
    let kernel = to.find("resize_features", |kernel| kernel.name == name)?;
    let resizing = Resizing::new(&kernel.spec, x, (to_height, to_width), planes.min(x.channels()));
    let params = Params {
        x: to.address(x),
        first: to.address(first),
        scale: to.optional_address(scale),
        out: to.address(out),
        resizing,
        planes: planes as u32,
        factor,
    };
    to.launch(kernel, resizing.grid(&kernel.spec), &params)
}
