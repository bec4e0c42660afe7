//! Host side of kernels/readout.cu, and the patches' products.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::{gemm, memory};
use crate::ops::Readout;
use crate::ops::readout::LEVELS;

/// `Level` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Level {
    tokens: u64,
    w: u64,
    bias: u64,
    vector: u64,
}

/// ReadoutClassParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    levels: [Level; LEVELS],
    batch_stride: u64,
    channels: u32,
    stride: u32,
}

pub fn compile(op: &Readout, to: &mut Assembler<'_>) -> Refused {
    let [first, ..] = op.levels;
    let (batch, channels) = (first.tokens.batch(), first.tokens.channels());
    memory::aligned("channels", channels)?;
    let kernel = to.find("readout", |_| true)?;
    let level = |level: crate::ops::readout::Level| Level {
        tokens: to.address(level.tokens),
        w: to.matrix(level.w.class.weight).address,
        bias: to.optional_vector(level.w.class.bias),
        vector: to.address(level.vector),
    };
    let params = Params {
        levels: op.levels.map(level),
        batch_stride: (first.tokens.rows() * channels) as u64,
        channels: channels as u32,
        stride: to.matrix(first.w.class.weight).stride as u32,
    };
    to.launch(kernel, [channels / kernel.spec.columns, LEVELS, batch], &params)?;
    op.levels.iter().try_for_each(|level| gemm::compile(&level.patches(), to))
}
