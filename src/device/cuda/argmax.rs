//! Host side of kernels/argmax.cu.

use bytemuck::{Pod, Zeroable};

use super::driver::Function;
use super::images::Library;
use super::{Cuda, MOST_GRID_YZ};
use crate::device::Buf;
use crate::error::Result;

/// Columns of the mask that a block takes, and columns of the logits that it may see, at most.
const COLUMNS: usize = 128;
const SEEN: usize = 72;

pub struct Kernels {
    argmax: Function,
}

/// ArgmaxParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    logits: u64,
    mask: u64,
    height: u32,
    width: u32,
    labels: u32,
    mask_height: u32,
    mask_width: u32,
    columns: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        Ok(Kernels { argmax: library.load("argmax")?.function::<Params>("argmax", 0)? })
    }
}

/// So many that they see at most [`SEEN`] columns of the logits: n of them are n·width/mask_width apart, and each sees three.
fn columns(width: usize, mask_width: usize) -> usize {
    ((SEEN - 4) * mask_width / width).clamp(1, COLUMNS)
}

pub fn run(cuda: &Cuda, logits: Buf, mask: Buf) {
    let [batch, height, width, labels] = logits.shape;
    let [_, mask_height, mask_width, _] = mask.shape;
    let columns = columns(width, mask_width);
    let params = Params {
        logits: cuda.address(logits),
        mask: cuda.address(mask),
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        mask_height: mask_height as u32,
        mask_width: mask_width as u32,
        columns: columns as u32,
    };
    let grid = [mask_width.div_ceil(columns), mask_height.min(MOST_GRID_YZ), batch];
    cuda.launch(&cuda.kernels.argmax.argmax, grid, &params);
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, SEEN, columns};
    use crate::resample::Taps;

    #[test]
    fn no_block_sees_more_than_it_holds() {
        for width in [1, 2, 7, 72, 240, 241, 1000] {
            for mask_width in [1, 3, 50, 100, 479, 480, 640, 5000] {
                let columns = columns(width, mask_width);
                assert!((1..=COLUMNS).contains(&columns));
                for begin in (0..mask_width).step_by(columns) {
                    let last = (begin + columns).min(mask_width) - 1;
                    let first = Taps::through_upsample(begin, width, mask_width).index[0];
                    let seen = Taps::through_upsample(last, width, mask_width).index[0] + 3 - first;
                    assert!(seen <= SEEN, "{seen} of {width} in {mask_width} at {begin}");
                }
            }
        }
    }
}
