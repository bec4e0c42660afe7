//! Host side of kernels/patchify.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::modules::variant;
use crate::ops::Patchify;
use crate::ops::patchify::Normalise;

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

/// Columns of a block, of `all`, resized from a row of `photo` pixels: as many of `most` as have room in `line` bytes of the photo,
/// the same for every block; even numbers where there are more than one.
fn columns(most: usize, line: usize, all: usize, photo: usize) -> usize {
    // n columns lie on at most (n − 1)·photo/all + 3 pixels, which begin up to 3 bytes behind a whole word.
    let pixels = (line - 3) / 3 - 3;
    let most = (pixels * all / photo + 1).min(most);
    if most < 2 {
        return 1;
    }
    all.div_ceil(all.div_ceil(most / 2 * 2)).next_multiple_of(2)
}

pub fn compile(op: &Patchify, to: &mut Assembler<'_>) -> Refused {
    let Patchify { photo, normalise, patch, out } = *op;
    let single = to.find("patchify", |kernel| kernel.spec.variant == 0)?;
    let [batch, photo_height, photo_width, _] = photo.shape;
    let [_, height, width, _] = out.shape;
    let columns = columns(single.spec.columns, single.spec.room, width * patch, photo_width);
    let segments = (width * patch).div_ceil(columns);
    let Normalise { mean, std } = normalise;
    let params = Params {
        photo: to.address(photo),
        out: to.address(out),
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
    let in_pairs = patch.is_multiple_of(2) && columns.is_multiple_of(2);
    let pairs = to.find("patchify", |kernel| kernel.spec.variant == variant::PAIRS)?;
    to.launch(if in_pairs { pairs } else { single }, [segments * height * patch * batch, 1, 1], &params)
}

#[cfg(test)]
mod tests {
    use super::columns;
    use crate::resample::edges;

    #[test]
    fn the_pixels_of_a_block_fit() {
        const LINE_BYTES: usize = 4096;
        let columns = |all, photo| columns(512, LINE_BYTES, all, photo);
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
