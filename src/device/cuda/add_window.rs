//! Host side of kernels/add_window.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use crate::ops::add_window::Place;
use crate::ops::{AddWindow, Element};

/// AddWindowParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    sums: u64,
    map: u64,
    place: u64,
    height: u32,
    width: u32,
    channels: u32,
    doubled: u32,
    columns: u32,
    piece: u32,
}

/// Pixels of a row that a block takes at most.
const COLUMNS: usize = 256;
/// Channels that it takes at most: so that it has room for the three pixels that two see.
const PIECE: usize = 2048;

pub fn compile(op: &AddWindow, to: &mut Assembler<'_>) -> Refused {
    let AddWindow { sums, map, places, item, doubled } = *op;
    let name = if map.element == Element::F16 { "add_window_half" } else { "add_window" };
    let kernel = to.find("add_window", |kernel| kernel.name == name)?;
    let ([batch, height, width, channels], (to_height, to_width)) = (map.shape, op.window());
    let piece = channels.min(PIECE);
    // Neighbours that are upsampled see half as many, and two.
    let pixels = kernel.spec.room / piece;
    let columns = if doubled { 2 * (pixels - 2) } else { pixels }.min(COLUMNS);
    let item_bytes = map.len() / batch * map.element.bytes(2);
    let params = Params {
        sums: to.address(sums),
        map: to.address(map) + (item * item_bytes) as u64,
        place: to.address(places) + (item * size_of::<Place>()) as u64,
        height: height as u32,
        width: width as u32,
        channels: channels as u32,
        doubled: doubled.into(),
        columns: columns as u32,
        piece: piece as u32,
    };
    to.launch(kernel, [to_width.div_ceil(columns), to_height, channels.div_ceil(piece)], &params)
}
