//! Host side of kernels/gemm.cu.

use super::Cuda;
use super::driver::Gpu;
use super::images::Library;
use crate::device::{Buf, ConvTranspose, Epilogue, Linear, Rows};
use crate::error::{Error, Result};
use std::sync::Arc;

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>, _gpu: &Arc<Gpu>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, x: Rows, w: &Linear, epilogue: Epilogue, out: Rows) {
    let _ = (&cuda.kernels.gemm, x, w, epilogue, out);
    cuda.failed.replace(Some(Error::Device("gemm has no CUDA kernel".to_owned())));
}

pub fn run_transpose(cuda: &Cuda, x: Buf, w: &ConvTranspose, out: Buf) {
    let _ = (&cuda.kernels.gemm, x, w, out);
    cuda.failed.replace(Some(Error::Device("conv_transpose has no CUDA kernel".to_owned())));
}
