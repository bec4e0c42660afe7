//! Host side of kernels/take_rows.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::TakeRows;

/// TakeRowsParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    index: u64,
    out: u64,
    rows: u32,
    width: u32,
}

pub fn compile(op: &TakeRows, to: &mut Assembler<'_>) -> Refused {
    let TakeRows { x, index, out } = *op;
    let params = Params {
        x: to.address(x),
        index: to.address(index),
        out: to.address(out),
        rows: x.rows() as u32,
        width: x.channels() as u32,
    };
    to.launch(to.kernel("take_rows")?, [x.batch(), 1, 1], &params)
}
