//! Host side of kernels/regularise.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::{Activation, Regularise};

/// RegulariseParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    weights: u64,
    out: u64,
    strips: u32,
    height: u32,
    width: u32,
    labels: u32,
    lanes: u32,
    bottleneck: u32,
    activation: u32,
    padding: u32,
}

pub fn compile(op: &Regularise, to: &mut Assembler<'_>) -> Refused {
    let Regularise { x, w, bottleneck, activation, out } = *op;
    let [batch, height, width, labels] = x.shape;
    let kernel = to.kernel("regularise")?;
    let (strip, threads) = (kernel.spec.step, kernel.threads as usize);
    let (strips, lanes) = (batch * height * width.div_ceil(strip), labels.next_power_of_two().min(32));
    let params = Params {
        x: to.address(x),
        weights: to.vector(w),
        out: to.address(out),
        strips: strips as u32,
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
        padding: 0,
    };
    to.launch(kernel, [strips.div_ceil(threads / lanes), 1, 1], &params)
}
