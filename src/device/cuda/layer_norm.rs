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
    upto_256: Function,
    upto_1024: Function,
    any: Function,
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
        let function = |name: &str| module.function::<Params>(name, 0);
        Ok(Kernels {
            upto_256: function("layer_norm_256")?,
            upto_1024: function("layer_norm_1024")?,
            any: function("layer_norm_any")?,
        })
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: &LayerNorm, out: Buf) {
    let (rows, kernels) = (x.batch() * x.rows(), &cuda.kernels.layer_norm);
    let kernel = match x.channels() {
        channels if !channels.is_multiple_of(4) => &kernels.any,
        ..=256 => &kernels.upto_256,
        ..=1024 => &kernels.upto_1024,
        _ => &kernels.any,
    };
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
    cuda.launch(kernel, [rows.div_ceil(WARPS), 1, 1], &params);
}
