//! Host side of kernels/regularise.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, Vector};
use crate::error::Result;
use crate::model::config::Activation;

const THREADS: usize = 256;

pub struct Kernels {
    regularise: Function,
}

/// RegulariseParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    weights: u64,
    out: u64,
    pixels: u64,
    height: u32,
    width: u32,
    labels: u32,
    lanes: u32,
    bottleneck: u32,
    activation: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { regularise: library.load("regularise")?.function::<Params>("regularise", 0)? })
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: Vector, bottleneck: bool, activation: Option<Activation>, out: Buf) {
    let [batch, height, width, labels] = x.shape;
    let (pixels, lanes) = (batch * height * width, labels.next_power_of_two().min(32));
    let params = Params {
        x: cuda.address(x),
        weights: cuda.vector(w),
        out: cuda.address(out),
        pixels: pixels as u64,
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        lanes: lanes as u32,
        bottleneck: u32::from(bottleneck),
        activation: match activation {
            None => 0,
            Some(Activation::Relu) => 1,
            Some(Activation::Lrelu) => 2,
            Some(Activation::Tanh) => 3,
        },
    };
    cuda.launch(&cuda.kernels.regularise.regularise, [pixels.div_ceil(THREADS / lanes), 1, 1], &params);
}
