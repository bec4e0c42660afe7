//! Host side of kernels/patchify.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::modules::variant;
use super::photo::{Format, Source};
use crate::ops::Patchify;
use crate::ops::patchify::Normalise;
use crate::pixels;

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

/// FormatParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct FormatParams {
    params: Params,
    format: Format,
}

/// Columns of a block, of `all`, resized from a row of `photo` pixels: as many of `most` as have room in `line` bytes of the photo,
/// the same for every block; even numbers where there are more than one. A pixel takes so many bytes, and shares them with others.
fn columns(most: usize, line: usize, all: usize, photo: usize, (bytes, sharing): (usize, usize)) -> usize {
    // n columns lie on at most (n − 1)·photo/all + 3 pixels, which begin up to 3 bytes behind a whole word; with those that share
    // bytes with the first and the last.
    let pixels = (line - 3) / bytes - 3 - 2 * (sharing - 1);
    let most = (pixels * all / photo + 1).min(most);
    if most < 2 {
        return 1;
    }
    all.div_ceil(all.div_ceil(most / 2 * 2)).next_multiple_of(2)
}

pub fn compile(op: &Patchify, to: &mut Assembler<'_>) -> Refused {
    let Patchify { photo, normalise, patch, out } = *op;
    let Source { kind, format, white, line_bytes, sharing } = Source::of(&photo);
    let of_kind = format!("patchify{kind}");
    let find = |to: &Assembler<'_>, which: u32| {
        let is_of_kind = |name: &str| name.rsplit_once('_').is_some_and(|(stem, _)| stem == of_kind);
        to.find("patchify", |kernel| kernel.spec.variant == which && is_of_kind(kernel.name))
    };
    let single = find(to, 0)?;
    let (photo_height, photo_width) = (photo.height, photo.width);
    let [batch, height, width, _] = out.shape;
    let (most, room) = (single.spec.columns, single.spec.room);
    let columns = columns(most, room, width * patch, photo_width, (line_bytes, sharing));
    let segments = (width * patch).div_ceil(columns);
    let Normalise { mean, std } = normalise;
    let params = Params {
        photo: to.address(photo.buf),
        out: to.address(out),
        photo_height: photo_height as u32,
        photo_width: photo_width as u32,
        height: height as u32,
        width: width as u32,
        patch: patch as u32,
        columns: columns as u32,
        segments: segments as u32,
        scale: std.map(|std| 1.0 / (white * std)),
        shift: std::array::from_fn(|c| -mean[c] / std[c]),
        padding: 0,
    };
    let in_pairs = patch.is_multiple_of(2) && columns.is_multiple_of(2);
    let kernel = if in_pairs { find(to, variant::PAIRS)? } else { single };
    let grid = [segments * height * patch * batch, 1, 1];
    match photo.format {
        pixels::Format::Rgb8 => to.launch(kernel, grid, &params),
        _ => to.launch(kernel, grid, &FormatParams { params, format }),
    }
}

#[cfg(test)]
mod tests {
    use super::columns;
    use crate::resample::edges;

    #[test]
    fn the_pixels_of_a_block_fit() {
        const LINE_BYTES: usize = 4096;
        let columns = |all, photo| columns(512, LINE_BYTES, all, photo, (3, 1));
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
