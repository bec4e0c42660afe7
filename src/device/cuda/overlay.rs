//! Host side of kernels/overlay.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, Element};
use crate::error::Result;

/// Pixels of a block.
const PIXELS: usize = 640;

pub struct Kernels {
    overlay: Function,
}

/// OverlayParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    mask: u64,
    palette: u64,
    photo: u64,
    pixels: u64,
    labels: u32,
    wide: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { overlay: library.load("overlay")?.function::<Params>("overlay", 0)? })
    }
}

pub fn run(cuda: &Cuda, mask: Buf, palette: Buf, photo: Buf) {
    let params = Params {
        mask: cuda.address(mask),
        palette: cuda.address(palette),
        photo: cuda.address(photo),
        pixels: mask.len() as u64,
        labels: palette.rows() as u32,
        wide: u32::from(mask.element == Element::U16),
    };
    cuda.launch(&cuda.kernels.overlay.overlay, [mask.len().div_ceil(PIXELS), 1, 1], &params);
}
