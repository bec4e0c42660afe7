//! Host side of kernels/take_rows.cu.

use super::Cuda;

use super::images::Library;
use crate::device::Buf;
use crate::error::{Error, Result};

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, x: Buf, index: Buf, out: Buf) {
    let _ = (&cuda.kernels.take_rows, x, index, out);
    cuda.failed.replace(Some(Error::Device("take_rows has no CUDA kernel".to_owned())));
}
