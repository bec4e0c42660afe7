//! Host side of kernels/embed_tokens.cu.

use super::Cuda;

use super::images::Library;
use crate::device::{Buf, Matrix, Vector};
use crate::error::{Error, Result};

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, ids: Buf, table: Matrix, positions: Vector, out: Buf) {
    let _ = (&cuda.kernels.embed_tokens, ids, table, positions, out);
    cuda.failed.replace(Some(Error::Device("embed_tokens has no CUDA kernel".to_owned())));
}
