//! Host side of kernels/add_positions.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, Vector};
use crate::error::Result;

pub struct Kernels {
    add_positions: Function,
}

/// AddPositionsParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    class: u64,
    positions: u64,
    tokens: u64,
    side: u32,
    height: u32,
    width: u32,
    channels: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { add_positions: library.load("add_positions")?.function::<Params>("add_positions", 0)? })
    }
}

pub fn run(cuda: &Cuda, class: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf) {
    let params = Params {
        class: cuda.vector(class),
        positions: cuda.vector(positions),
        tokens: cuda.address(tokens),
        side: side as u32,
        height: grid.0 as u32,
        width: grid.1 as u32,
        channels: tokens.channels() as u32,
    };
    cuda.launch(&cuda.kernels.add_positions.add_positions, [tokens.rows(), 1, tokens.batch()], &params);
}
