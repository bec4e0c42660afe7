//! Host side of kernels/max_pool.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::Buf;
use crate::error::Result;

const THREADS: usize = 256;
/// Channels that a thread takes where they come in whole chunks of 16 bytes.
const CHUNK: usize = 8;

pub struct Kernels {
    chunks: Function,
    single: Function,
}

/// MaxPoolParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    out: u64,
    height: u32,
    width: u32,
    channels: u32,
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        let module = library.load("max_pool")?;
        let kernel = |name| module.function::<Params>(name, 0);
        Ok(Kernels { chunks: kernel("max_pool_8")?, single: kernel("max_pool_1")? })
    }
}

pub fn run(cuda: &Cuda, x: Buf, out: Buf) {
    let kernels = &cuda.kernels.max_pool;
    let whole = x.channels().is_multiple_of(CHUNK);
    let (function, width) = if whole { (&kernels.chunks, CHUNK) } else { (&kernels.single, 1) };
    let params = Params {
        x: cuda.address(x),
        out: cuda.address(out),
        height: x.shape[1] as u32,
        width: x.shape[2] as u32,
        channels: x.channels() as u32,
        padding: 0,
    };
    let groups = x.channels() / width;
    cuda.launch(function, [(out.shape[2] * groups).div_ceil(THREADS), out.shape[1], out.batch()], &params);
}
