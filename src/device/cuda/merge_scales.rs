//! Host side of kernels/merge_scales.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::MergeScales;

/// MergeScalesParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    sums: u64,
    rows: u64,
    row_weights: u64,
    columns: u64,
    column_weights: u64,
    out: u64,
    scales: u32,
    height: u32,
    width: u32,
    channels: u32,
    columns_of_block: u32,
    piece: u32,
}

/// Columns and channels of a block that makes `most` values: its columns see `room` values of a row of sums at most.
fn block(most: usize, room: usize, channels: usize, density: usize) -> (usize, usize) {
    let piece = channels.min(most).min(room / (density + 1));
    let lanes = if piece > 32 { piece.next_multiple_of(32) } else { piece };
    (((room / piece - 1) / density).min(most / lanes), piece)
}

pub fn compile(op: &MergeScales, to: &mut Assembler<'_>) -> Refused {
    let MergeScales { sums, rows, row_weights, columns, column_weights, density, out } = *op;
    let kernel = to.kernel("merge_scales")?;
    let [_, height, width, channels] = out.shape;
    if density >= kernel.spec.room {
        return Err(format!(
            "a column of the photo's map on {density} of a scale's: give a smaller base or a larger photo"
        ));
    }
    let (columns_of_block, piece) = block(kernel.spec.columns, kernel.spec.room, channels, density);
    let params = Params {
        sums: to.address(sums),
        rows: to.address(rows),
        row_weights: to.address(row_weights),
        columns: to.address(columns),
        column_weights: to.address(column_weights),
        out: to.address(out),
        scales: op.scales() as u32,
        height: height as u32,
        width: width as u32,
        channels: channels as u32,
        columns_of_block: columns_of_block as u32,
        piece: piece as u32,
    };
    to.launch(kernel, [width.div_ceil(columns_of_block), height, channels.div_ceil(piece)], &params)
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn a_block_has_room_for_what_it_sees() {
        for channels in [1, 3, 20, 150, 512, 3000, 10_000] {
            for density in [1, 2, 17, 900, 6143] {
                let (columns, piece) = block(2048, 6144, channels, density);
                assert!(columns > 0 && piece > 0 && columns * piece <= 2048, "{channels}, {density}");
                assert!((columns * density + 1) * piece <= 6144, "{channels}, {density}: {columns} of {piece}");
            }
        }
    }
}
