//! Host side of kernels/layer_norm.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, LayerNorm};
use crate::error::Result;

/// Rows of a block: one a warp.
const WARPS: usize = 4;

pub struct Kernels {
    layer_norm: Function,
}

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

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        let module = library.load("layer_norm")?;
        Ok(Kernels { layer_norm: module.function::<Params>("layer_norm", 0)? })
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: &LayerNorm, out: Buf) {
    let rows = x.batch() * x.rows();
    let params = Params {
        x: cuda.address(x),
        weight: cuda.vector(w.weight),
        bias: cuda.vector(w.bias),
        out: cuda.address(out),
        rows: rows as u32,
        channels: x.channels() as u32,
        eps: w.eps,
        padding: 0,
    };
    cuda.launch(&cuda.kernels.layer_norm.layer_norm, [rows.div_ceil(WARPS), 1, 1], &params);
}
