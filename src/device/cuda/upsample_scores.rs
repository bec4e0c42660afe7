//! Host side of kernels/upsample_scores.cu.

use bytemuck::{Pod, Zeroable};

use super::driver::Function;
use super::images::Library;
use super::{Cuda, MOST_GRID_YZ};
use crate::device::Buf;
use crate::error::Result;

/// Columns and labels of a block.
const TILE: usize = 32;

pub struct Kernels {
    upsample_scores: Function,
}

/// UpsampleScoresParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    logits: u64,
    out: u64,
    height: u32,
    width: u32,
    labels: u32,
    label_groups: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { upsample_scores: library.load("upsample_scores")?.function::<Params>("upsample_scores", 0)? })
    }
}

pub fn run(cuda: &Cuda, logits: Buf, out: Buf) {
    let [batch, height, width, labels] = logits.shape;
    let groups = labels.div_ceil(TILE);
    let params = Params {
        logits: cuda.address(logits),
        out: cuda.address(out),
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        label_groups: groups as u32,
    };
    let grid = [(2 * width).div_ceil(TILE), (2 * height).min(MOST_GRID_YZ), batch * groups];
    cuda.launch(&cuda.kernels.upsample_scores.upsample_scores, grid, &params);
}
