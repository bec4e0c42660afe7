//! Host side of kernels/similarity.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::memory;
use crate::ops::Similarity;

/// SimilarityParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    numerators: u64,
    coordinates: u64,
    logits: u64,
    height: u32,
    width: u32,
    labels: u32,
    rank: u32,
    rest: f32,
    factor: f32,
}

pub fn compile(op: &Similarity, to: &mut Assembler<'_>) -> Refused {
    let Similarity { numerators, coordinates, length, out } = *op;
    let [batch, height, width, labels] = numerators.shape;
    let rank = coordinates.channels();
    memory::aligned("a pixel's coordinates", rank)?;
    let params = Params {
        numerators: to.address(numerators),
        coordinates: to.address(coordinates),
        logits: to.address(out),
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        rank: rank as u32,
        rest: length.rest,
        factor: length.factor,
    };
    // A warp makes the outputs of one cell of four inputs; cells begin before the first row and column.
    let kernel = to.find("similarity", |_| true)?;
    to.launch(kernel, [(width + 1).div_ceil(kernel.spec.columns), height + 1, batch], &params)
}
