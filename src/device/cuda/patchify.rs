//! Host side of kernels/patchify.cu.

use bytemuck::{Pod, Zeroable};

use super::driver::Function;
use super::images::Library;
use super::{Cuda, MOST_GRID_YZ};
use crate::device::{Buf, Normalise};
use crate::error::Result;

const THREADS: usize = 128;

pub struct Kernels {
    patchify: Function,
}

/// PatchifyParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    photo: u64,
    out: u64,
    photo_height: u32,
    photo_width: u32,
    height: u32,
    width: u32,
    patch: u32,
    mean: [f32; 3],
    std: [f32; 3],
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { patchify: library.load("patchify")?.function::<Params>("patchify", 0)? })
    }
}

pub fn run(cuda: &Cuda, photo: Buf, normalise: &Normalise, patch: usize, out: Buf) {
    let [batch, photo_height, photo_width, _] = photo.shape;
    let [_, height, width, _] = out.shape;
    let params = Params {
        photo: cuda.address(photo),
        out: cuda.address(out),
        photo_height: photo_height as u32,
        photo_width: photo_width as u32,
        height: height as u32,
        width: width as u32,
        patch: patch as u32,
        mean: normalise.mean,
        std: normalise.std,
        padding: 0,
    };
    let rows = (height * patch).min(MOST_GRID_YZ);
    cuda.launch(&cuda.kernels.patchify.patchify, [(width * patch).div_ceil(THREADS), rows, batch], &params);
}
