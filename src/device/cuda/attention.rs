//! Host side of kernels/attention.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::Buf;
use crate::error::Result;

/// The head size that the tensor-core kernels are written for: that of every published model.
const HEAD: usize = 64;
/// Queries of a block of `attention_any`.
const ANY_QUERIES: usize = 4;

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
            full_128: module.function::<Params>("attention_full_128", 49152)?,
            full_64: module.function::<Params>("attention_full_64", 40960)?,
            causal_64: module.function::<Params>("attention_causal_64", 40960)?,
            any: module.function::<Params>("attention_any", 0)?,
        })
    }
}

/// Queries of a block: 128 read keys and values half as often, 64 are more blocks. The larger one where each
/// multiprocessor still gets two.
fn queries(batch: usize, heads: usize, tokens: usize, multiprocessors: usize) -> usize {
    if batch * heads * tokens.div_ceil(128) >= 2 * multiprocessors { 128 } else { 64 }
}

pub fn run(cuda: &Cuda, qkv: Buf, heads: usize, causal: bool, out: Buf) {
    let (batch, tokens, size) = (out.batch(), out.rows(), out.channels() / heads);
    let kernels = &cuda.kernels.attention;
    let (kernel, queries) = match queries(batch, heads, tokens, cuda.info().multiprocessors as usize) {
        _ if size != HEAD => (&kernels.any, ANY_QUERIES),
        _ if causal => (&kernels.causal_64, 64),
        128 => (&kernels.full_128, 128),
        _ => (&kernels.full_64, 64),
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
    cuda.launch(kernel, [tokens.div_ceil(queries), heads, batch], &params);
}

#[cfg(test)]
mod tests {
    use super::queries;

    #[test]
    fn blocks_fill_the_gpu_before_they_grow() {
        for multiprocessors in [108, 128, 132] {
            assert_eq!(queries(1, 16, 901, multiprocessors), 64);
            assert_eq!(queries(1, 16, 4097, multiprocessors), 128);
            assert_eq!(queries(4, 16, 901, multiprocessors), 128);
        }
        assert_eq!(queries(1, 16, 901, 16), 128);
    }
}
