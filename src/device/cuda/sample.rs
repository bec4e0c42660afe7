//! Host side of kernels/sample.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::Buf;
use crate::error::Result;

pub struct Kernels {
    sample: Function,
}

/// SampleParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    points: u64,
    out: u64,
    height: u32,
    width: u32,
    channels: u32,
    photo_height: u32,
    photo_width: u32,
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { sample: library.load("sample")?.function::<Params>("sample", 0)? })
    }
}

pub fn run(cuda: &Cuda, x: Buf, points: Buf, photo: (usize, usize), out: Buf) {
    let [batch, height, width, channels] = x.shape;
    let params = Params {
        x: cuda.address(x),
        points: cuda.address(points),
        out: cuda.address(out),
        height: height as u32,
        width: width as u32,
        channels: channels as u32,
        photo_height: photo.0 as u32,
        photo_width: photo.1 as u32,
        padding: 0,
    };
    cuda.launch(&cuda.kernels.sample.sample, [points.rows(), 1, batch], &params);
}
