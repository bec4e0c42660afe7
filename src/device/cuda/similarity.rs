//! Host side of kernels/similarity.cu.

use super::Cuda;

use super::images::Library;
use crate::device::{Buf, Similarity};
use crate::error::{Error, Result};

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: &Similarity, out: Buf) {
    let _ = (&cuda.kernels.similarity, x, w, out);
    cuda.failed.replace(Some(Error::Device("similarity has no CUDA kernel".to_owned())));
}
