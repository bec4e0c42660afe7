//! Host side of kernels/add_positions.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::AddPositions;

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

pub fn compile(op: &AddPositions, to: &mut Assembler<'_>) -> Refused {
    let AddPositions { class, positions, side, grid, tokens } = *op;
    let params = Params {
        class: to.vector(class),
        positions: to.vector(positions),
        tokens: to.address(tokens),
        side: side as u32,
        height: grid.0 as u32,
        width: grid.1 as u32,
        channels: tokens.channels() as u32,
    };
    to.launch(to.kernel("add_positions")?, [tokens.rows(), 1, tokens.batch()], &params)
}
