//! Host side of kernels/upsample_scores.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::scores::Lines;
use crate::ops::UpsampleScores;

/// UpsampleScoresParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    logits: u64,
    out: u64,
    height: u32,
    width: u32,
    labels: u32,
    padding: u32,
    lines: Lines,
}

pub fn compile(op: &UpsampleScores, to: &mut Assembler<'_>) -> Refused {
    let UpsampleScores { logits, out } = *op;
    let kernel = to.kernel("upsample_scores")?;
    let spec = kernel.spec;
    let [batch, height, width, labels] = logits.shape;
    // Outputs are a little less than half a column apart, and each sees two.
    let seen = (spec.columns / 2 + 2).min(width);
    let params = Params {
        logits: to.address(logits),
        out: to.address(out),
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        padding: 0,
        lines: Lines::new(spec.room, seen, labels),
    };
    let grid = [(2 * width).div_ceil(spec.columns) * (2 * height).div_ceil(spec.rows), batch, 1];
    to.launch(kernel, grid, &params)
}
