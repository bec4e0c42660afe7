//! Host side of kernels/take_rows.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::Buf;
use crate::error::Result;

pub struct Kernels {
    take_rows: Function,
}

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

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { take_rows: library.load("take_rows")?.function::<Params>("take_rows", 0)? })
    }
}

pub fn run(cuda: &Cuda, x: Buf, index: Buf, out: Buf) {
    let params = Params {
        x: cuda.address(x),
        index: cuda.address(index),
        out: cuda.address(out),
        rows: x.rows() as u32,
        width: x.channels() as u32,
    };
    cuda.launch(&cuda.kernels.take_rows.take_rows, [x.batch(), 1, 1], &params);
}
