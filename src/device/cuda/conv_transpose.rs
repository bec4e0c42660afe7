//! A transposed convolution by kernels/gemm.cu, whose epilogue shuffles the pixels.

use super::compile::{Assembler, Refused};
use super::epilogue::Epilogue;
use super::gemm::{self, Params};
use super::split_k::SplitK;
use crate::ops::{self, ConvTranspose};

pub fn compile(op: &ConvTranspose, to: &mut Assembler<'_>) -> Refused {
    let ConvTranspose { x, w, out } = *op;
    let weight = to.matrix(w.weight);
    let mut epilogue = Epilogue::new(to, Some(w.bias), ops::Epilogue::NONE, out.all());
    epilogue.rows = x.rows() as u32;
    epilogue.columns = w.weight.n as u32;
    (epilogue.shuffle, epilogue.width) = (w.stride as u32, x.shape[2] as u32);
    let params = Params {
        x: to.address(x),
        w: weight.address,
        x_batch_stride: (x.rows() * x.channels()) as u64,
        depth: w.weight.k as u32,
        stride: weight.stride as u32,
        split_k: SplitK::whole(),
        epilogue,
    };
    gemm::launch(to, x.element, x.batch(), params)
}
