//! Host side of kernels/softmax_scores.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::SoftmaxScores;

/// SoftmaxScoresParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    scores: u64,
    lse: u64,
    pixels: u64,
    labels: u32,
    padding: u32,
}

pub fn compile(op: &SoftmaxScores, to: &mut Assembler<'_>) -> Refused {
    let [batch, labels, height, width] = op.scores.shape;
    let (kernel, pixels) = (to.kernel("softmax_scores")?, height * width);
    let params = Params {
        scores: to.address(op.scores),
        lse: to.address(op.lse),
        pixels: pixels as u64,
        labels: labels as u32,
        padding: 0,
    };
    to.launch(kernel, [pixels.div_ceil(kernel.spec.columns), batch, 1], &params)
}
