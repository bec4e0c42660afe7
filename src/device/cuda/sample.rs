//! Host side of kernels/sample.cu.

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

pub fn run(cuda: &Cuda, x: Buf, points: Buf, photo: (usize, usize), out: Buf) {
    let _ = (&cuda.kernels.sample, x, points, photo, out);
    cuda.failed.replace(Some(Error::Device("sample has no CUDA kernel".to_owned())));
}
