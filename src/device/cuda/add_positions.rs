//! Host side of kernels/add_positions.cu.

use super::Cuda;

use super::images::Library;
use crate::device::{Buf, Vector};
use crate::error::{Error, Result};

pub struct Kernels;

impl Kernels {
    pub fn load(_library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels)
    }
}

pub fn run(cuda: &Cuda, class: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf) {
    let _ = (&cuda.kernels.add_positions, class, positions, side, grid, tokens);
    cuda.failed.replace(Some(Error::Device("add_positions has no CUDA kernel".to_owned())));
}
