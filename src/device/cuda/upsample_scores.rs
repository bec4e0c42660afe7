//! Host side of kernels/upsample_scores.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use super::scores::Lines;
use crate::device::Buf;
use crate::error::Result;

/// Output columns of a warp, and rows of a block.
const COLUMNS: usize = 32;
const ROWS: usize = 4;

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
    padding: u32,
    lines: Lines,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { upsample_scores: library.load("upsample_scores")?.function::<Params>("upsample_scores", 0)? })
    }
}

pub fn run(cuda: &Cuda, logits: Buf, out: Buf) {
    let [batch, height, width, labels] = logits.shape;
    // Outputs are a little less than half a column apart, and each sees two.
    let seen = (COLUMNS / 2 + 2).min(width);
    let params = Params {
        logits: cuda.address(logits),
        out: cuda.address(out),
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        padding: 0,
        lines: Lines::new(seen, labels),
    };
    let grid = [(2 * width).div_ceil(COLUMNS) * (2 * height).div_ceil(ROWS), batch, 1];
    cuda.launch(&cuda.kernels.upsample_scores.upsample_scores, grid, &params);
}
