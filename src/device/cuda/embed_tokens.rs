//! Host side of kernels/embed_tokens.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::EmbedTokens;

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

pub fn compile(op: &EmbedTokens, to: &mut Assembler<'_>) -> Refused {
    let EmbedTokens { ids, table, positions, out } = *op;
    let table = to.matrix(table);
    let params = Params {
        ids: to.address(ids),
        table: table.address,
        positions: to.vector(positions),
        out: to.address(out),
        tokens: out.rows() as u32,
        stride: table.stride as u32,
        width: out.channels() as u32,
        padding: 0,
    };
    to.launch(to.kernel("embed_tokens")?, [out.batch() * out.rows(), 1, 1], &params)
}
