//! Host side of kernels/similarity.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, Linear, Similarity};
use crate::error::Result;

/// Pixels of a block.
const PIXELS: usize = 128;

pub struct Kernels {
    upto_64: Function,
    upto_256: Function,
    any: Function,
}

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
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        let module = library.load("similarity")?;
        Ok(Kernels {
            upto_64: module.function::<Params>("similarity_64", 32768)?,
            upto_256: module.function::<Params>("similarity_256", 49152)?,
            any: module.function::<Params>("similarity_any", 32768)?,
        })
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: &Similarity, out: Buf) {
    let columns = |linear: &Linear| {
        let weight = cuda.matrix(linear.weight);
        let bias = linear.bias.expect("both products of the similarity have a bias");
        Columns {
            weight: weight.address,
            bias: cuda.vector(bias),
            count: linear.weight.n as u32,
            stride: weight.stride as u32,
        }
    };
    let (pixels, features) = (x.batch() * x.rows(), x.channels());
    let params = Params {
        x: cuda.address(x),
        labels: columns(&w.labels),
        norm: columns(&w.norm),
        logits: cuda.address(out),
        pixels: pixels as u32,
        features: features as u32,
        rest: w.rest,
        padding: 0,
    };
    let kernels = &cuda.kernels.similarity;
    let kernel = match features {
        features if !features.is_multiple_of(8) => &kernels.any,
        ..=64 => &kernels.upto_64,
        ..=256 => &kernels.upto_256,
        _ => &kernels.any,
    };
    cuda.launch(kernel, [pixels.div_ceil(PIXELS), 1, 1], &params);
}
