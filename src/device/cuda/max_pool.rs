//! Host side of kernels/max_pool.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::{memory, modules};
use crate::ops::MaxPool;

/// MaxPoolParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    out: u64,
    height: u32,
    width: u32,
    channels: u32,
    padding: u32,
}

pub fn compile(op: &MaxPool, to: &mut Assembler<'_>) -> Refused {
    let MaxPool { x, out } = *op;
    memory::aligned("a map's channels", x.channels())?;
    let kernel = to.find("max_pool", |_| true)?;
    let params = Params {
        x: to.address(x),
        out: to.address(out),
        height: x.shape[1] as u32,
        width: x.shape[2] as u32,
        channels: x.channels() as u32,
        padding: 0,
    };
    let modules::Kernel { threads, spec, .. } = *kernel;
    let groups = x.channels() / spec.step;
    to.launch(kernel, [(out.shape[2] * groups).div_ceil(threads as usize), out.shape[1], out.batch()], &params)
}
