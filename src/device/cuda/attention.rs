//! Host side of kernels/attention.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::Buf;
use crate::error::Result;

/// The head size that the tensor-core kernels are written for: that of every published model.
const HEAD: usize = 64;
/// Queries and channels of a block of `attention_any`.
const ANY: (usize, usize) = (4, 32);

pub struct Kernels {
    full_128: Function,
    full_64: Function,
    causal_64: Function,
    any: Function,
}

/// AttentionParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    qkv: u64,
    out: u64,
    tokens: u32,
    heads: u32,
    size: u32,
    causal: u32,
    scale: f32,
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        let module = library.load("attention")?;
        Ok(Kernels {
            full_128: module.function::<Params>("attention_full_128", 81920)?,
            full_64: module.function::<Params>("attention_full_64", 40960)?,
            causal_64: module.function::<Params>("attention_causal_64", 40960)?,
            any: module.function::<Params>("attention_any", 0)?,
        })
    }
}

/// Queries of a block. Blocks of 128 read keys and values half as often and take the tensor cores' operands from shared
/// memory half as often; blocks of 64 leave fewer multiprocessors idle, which must be worth a tenth of the time.
fn queries(batch: usize, heads: usize, tokens: usize, multiprocessors: usize) -> usize {
    // What the busiest multiprocessor computes.
    let busiest = |queries: usize| (batch * heads * tokens.div_ceil(queries)).div_ceil(multiprocessors) * queries;
    if 10 * busiest(128) <= 11 * busiest(64) { 128 } else { 64 }
}

pub fn run(cuda: &Cuda, qkv: Buf, heads: usize, causal: bool, out: Buf) {
    let (batch, tokens, size) = (out.batch(), out.rows(), out.channels() / heads);
    let kernels = &cuda.kernels.attention;
    let grid = |queries: usize| [batch * tokens.div_ceil(queries), heads, 1];
    let chosen = || queries(batch, heads, tokens, cuda.info().multiprocessors as usize);
    let (kernel, grid) = match cuda.forced.queries.unwrap_or_else(chosen) {
        _ if size != HEAD => {
            let (queries, channels) = ANY;
            (&kernels.any, [batch * tokens.div_ceil(queries), heads * size.div_ceil(channels), 1])
        }
        _ if causal => (&kernels.causal_64, grid(64)),
        128 => (&kernels.full_128, grid(128)),
        _ => (&kernels.full_64, grid(64)),
    };
    let params = Params {
        qkv: cuda.address(qkv),
        out: cuda.address(out),
        tokens: tokens as u32,
        heads: heads as u32,
        size: size as u32,
        causal: u32::from(causal),
        scale: 1.0 / (size as f32).sqrt(),
        padding: 0,
    };
    cuda.launch(kernel, grid, &params);
}

#[cfg(test)]
mod tests {
    use super::queries;

    #[test]
    fn blocks_grow_unless_that_leaves_multiprocessors_idle() {
        // vitl16 at 480×480 on an H100, an RTX 4090, an Orin: all busy with 128 queries a block; an A100 needs two rounds.
        assert_eq!([132, 128, 16, 108].map(|count| queries(1, 16, 901, count)), [128, 128, 128, 64]);
        assert_eq!([132, 128, 16, 108].map(|count| queries(16, 16, 901, count)), [128, 128, 128, 128]);
        // Few tokens: more blocks.
        assert_eq!(queries(1, 12, 197, 128), 64);
        assert_eq!(queries(1, 1, 1, 128), 64);
    }
}
