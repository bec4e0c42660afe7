//! Host side of kernels/upsample.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::{memory, modules, tiles};
use crate::ops::Upsample;

/// UpsampleParams of the kernel file.
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

pub fn compile(op: &Upsample, to: &mut Assembler<'_>) -> Refused {
    let Upsample { x, out } = *op;
    let kernel = to.find("upsample", |kernel| kernel.spec.variant == tiles::takes(x.element))?;
    let modules::Kernel { threads, spec, .. } = *kernel;
    memory::whole("a map's channels", x.channels(), spec.step)?;
    let params = Params {
        x: to.address(x),
        out: to.address(out),
        height: x.shape[1] as u32,
        width: x.shape[2] as u32,
        channels: x.channels() as u32,
        padding: 0,
    };
    // A thread makes the outputs of one cell of four inputs; cells begin before the first row and column.
    let wanted = (x.shape[2] + 1) * x.channels() / spec.step;
    to.launch(kernel, [wanted.div_ceil(threads as usize), x.shape[1] + 1, x.batch()], &params)
}
