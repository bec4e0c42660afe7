//! Host side of kernels/embed_tokens.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, Matrix, Vector};
use crate::error::Result;

pub struct Kernels {
    embed_tokens: Function,
}

/// EmbedTokensParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    ids: u64,
    table: u64,
    positions: u64,
    out: u64,
    tokens: u32,
    stride: u32,
    width: u32,
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { embed_tokens: library.load("embed_tokens")?.function::<Params>("embed_tokens", 0)? })
    }
}

pub fn run(cuda: &Cuda, ids: Buf, table: Matrix, positions: Vector, out: Buf) {
    let table = cuda.matrix(table);
    let params = Params {
        ids: cuda.address(ids),
        table: table.address,
        positions: cuda.vector(positions),
        out: cuda.address(out),
        tokens: out.rows() as u32,
        stride: table.stride as u32,
        width: out.channels() as u32,
        padding: 0,
    };
    cuda.launch(&cuda.kernels.embed_tokens.embed_tokens, [out.batch() * out.rows(), 1, 1], &params);
}
