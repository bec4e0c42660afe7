//! Host side of kernels/conv.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::{Function, Gpu};
use super::images::Library;
use crate::device::{Buf, Conv, Epilogue, Func};
use crate::error::Result;
use std::sync::Arc;

pub struct Kernels {
    f: [Function; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    shape: [u32; 8],
    weight: u64,
    bias: u64,
    add: [u64; 2],
    out: u64,
    rest: [u32; 6],
}

impl Kernels {
    pub fn load(library: &Library<'_>, _gpu: &Arc<Gpu>) -> Result<Kernels> {
        let module = library.load("conv")?;
        let f = |n| module.function::<Params>(n, 49152);
        Ok(Kernels { f: [f("conv_00")?, f("conv_01")?, f("conv_10")?, f("conv_11")?] })
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: &Conv, relu_in: bool, epilogue: Epilogue, out: Buf) {
    let m = cuda.matrix(w.weight);
    let rows = out.batch() * out.rows();
    let u = |v: usize| v as u32;
    let params = Params {
        x: cuda.address(x),
        shape: [x.shape[1], x.shape[2], x.channels(), w.kernel, w.stride, w.pad, out.shape[1], out.shape[2]].map(u),
        weight: m.address,
        bias: cuda.optional_vector(w.bias),
        add: epilogue.add.map(|a| a.map_or(0, |a| cuda.rows_address(a))),
        out: cuda.address(out),
        rest: [u(rows), u(w.weight.n), u(w.weight.k), u(m.stride), u32::from(epilogue.func == Func::Relu), 0],
    };
    let whole = x.channels() % 8 == 0;
    let f = &cuda.kernels.conv.f[2 * usize::from(whole) + usize::from(relu_in)];
    cuda.launch(f, [rows.div_ceil(64), w.weight.n.div_ceil(64), 1], &params);
}
