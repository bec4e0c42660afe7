//! Host side of kernels/similarity.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::memory;
use crate::ops::{Linear, Similarity};

/// `Columns` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Columns {
    weight: u64,
    bias: u64,
    count: u32,
    stride: u32,
}

/// SimilarityParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    labels: Columns,
    norm: Columns,
    logits: u64,
    pixels: u32,
    features: u32,
    rest: f32,
    norm_is_upper: u32,
}

pub fn compile(op: &Similarity, to: &mut Assembler<'_>) -> Refused {
    let Similarity { x, w, out } = *op;
    let columns = |linear: &Linear| {
        let weight = to.matrix(linear.weight);
        let bias = linear.bias.expect("both products of the similarity have a bias");
        Columns {
            weight: weight.address,
            bias: to.vector(bias),
            count: linear.weight.n as u32,
            stride: weight.stride as u32,
        }
    };
    let (pixels, features) = (x.batch() * x.rows(), x.channels());
    let params = Params {
        x: to.address(x),
        labels: columns(&w.labels),
        norm: columns(&w.norm),
        logits: to.address(out),
        pixels: pixels as u32,
        features: features as u32,
        rest: w.rest,
        norm_is_upper: u32::from(w.norm_is_upper),
    };
    memory::aligned("a pixel's features", features)?;
    let kernel = to.narrowest("similarity", features)?;
    to.launch(kernel, [pixels.div_ceil(kernel.spec.rows), 1, 1], &params)
}
