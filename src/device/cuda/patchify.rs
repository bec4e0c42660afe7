//! Host side of kernels/patchify.cu.

use super::Cuda;

use super::images::Library;
use crate::device::{Buf, Normalise};
use crate::error::{Error, Result};

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, photo: Buf, normalise: &Normalise, patch: usize, out: Buf) {
    let _ = (&cuda.kernels.patchify, photo, normalise, patch, out);
    cuda.failed.replace(Some(Error::Device("patchify has no CUDA kernel".to_owned())));
}
