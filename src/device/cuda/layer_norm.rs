//! Host side of kernels/layer_norm.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::LayerNorm;

/// LayerNormParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    weight: u64,
    bias: u64,
    out: u64,
    rows: u32,
    channels: u32,
    eps: f32,
    padding: u32,
}

pub fn compile(op: &LayerNorm, to: &mut Assembler<'_>) -> Refused {
    let LayerNorm { x, w, out } = *op;
    let (rows, channels) = (x.batch() * x.rows(), x.channels());
    let kernel = to.narrowest("layer_norm", channels)?;
    let spec = kernel.spec;
    if !channels.is_multiple_of(spec.step) {
        return Err(format!("rows of {channels} channels, which are no multiple of {}", spec.step));
    }
    let params = Params {
        x: to.address(x),
        weight: to.vector(w.weight),
        bias: to.vector(w.bias),
        out: to.address(out),
        rows: rows as u32,
        channels: channels as u32,
        eps: w.eps,
        padding: 0,
    };
    to.launch(kernel, [rows.div_ceil(spec.rows), 1, 1], &params)
}
