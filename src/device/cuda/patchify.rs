//! Host side of kernels/patchify.cu.

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::Function;
use super::images::Library;
use crate::device::{Buf, Normalise};
use crate::error::Result;

/// Columns of the resized photo that a block has room for, and the bytes of a row of the photo.
const COLUMNS: usize = 512;
const LINE_BYTES: usize = 4096;

pub struct Kernels {
    pairs: Function,
    single: Function,
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
    columns: u32,
    segments: u32,
    scale: [f32; 3],
    shift: [f32; 3],
    padding: u32,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        let module = library.load("patchify")?;
        let function = |name: &str| module.function::<Params>(name, 0);
        Ok(Kernels { pairs: function("patchify_pairs")?, single: function("patchify_single")? })
    }
}

/// Columns of a block, of `all`, resized from a row of `photo` pixels: as many as have room, the same for every block; even
/// numbers where there are more than one.
fn columns(all: usize, photo: usize) -> usize {
    // n columns lie on at most (n − 1)·photo/all + 3 pixels, which begin up to 3 bytes behind a whole word.
    let pixels = (LINE_BYTES - 3) / 3 - 3;
    let most = (pixels * all / photo + 1).min(COLUMNS);
    if most < 2 {
        return 1;
    }
    all.div_ceil(all.div_ceil(most / 2 * 2)).next_multiple_of(2)
}

pub fn run(cuda: &Cuda, photo: Buf, normalise: &Normalise, patch: usize, out: Buf) {
    let [batch, photo_height, photo_width, _] = photo.shape;
    let [_, height, width, _] = out.shape;
    let columns = columns(width * patch, photo_width);
    let segments = (width * patch).div_ceil(columns);
    let Normalise { mean, std } = *normalise;
    let params = Params {
        photo: cuda.address(photo),
        out: cuda.address(out),
        photo_height: photo_height as u32,
        photo_width: photo_width as u32,
        height: height as u32,
        width: width as u32,
        patch: patch as u32,
        columns: columns as u32,
        segments: segments as u32,
        scale: std.map(|std| 1.0 / (255.0 * std)),
        shift: std::array::from_fn(|c| -mean[c] / std[c]),
        padding: 0,
    };
    let kernels = &cuda.kernels.patchify;
    let kernel = if patch.is_multiple_of(2) && columns.is_multiple_of(2) { &kernels.pairs } else { &kernels.single };
    cuda.launch(kernel, [segments * height * patch * batch, 1, 1], &params);
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES, columns};
    use crate::resample::edges;

    #[test]
    fn the_pixels_of_a_block_fit() {
        assert_eq!([columns(480, 640), columns(520, 640), columns(1, 1)], [480, 260, 2]);
        for (all, photo) in
            [(480, 640), (32, 48), (96, 9_000), (6, 12_000), (4, 65_000), (4096, 40), (513, 513), (1, 7)]
        {
            let columns = columns(all, photo);
            for first in (0..all).step_by(columns) {
                let last = (first + columns).min(all) - 1;
                let pixels = edges(last, photo, all).low + 2 - edges(first, photo, all).low;
                assert!(pixels * 3 + 3 <= LINE_BYTES, "{all} from {photo}: {columns} columns lie on {pixels} pixels");
            }
        }
    }
}
