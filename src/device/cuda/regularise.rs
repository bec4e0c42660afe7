//! Host side of kernels/regularise.cu.

use super::Cuda;

use super::images::Library;
use crate::device::{Buf, Vector};
use crate::error::{Error, Result};
use crate::model::config::Activation;

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: Vector, bottleneck: bool, activation: Option<Activation>, out: Buf) {
    let _ = (&cuda.kernels.regularise, x, w, bottleneck, activation, out);
    cuda.failed.replace(Some(Error::Device("regularise has no CUDA kernel".to_owned())));
}
