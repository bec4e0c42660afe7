//! Host side of kernels/sm90/conv.cu: convolutions on warpgroups, whose maps, weights and results are described by tensor maps.

use bytemuck::{Pod, Zeroable};

use super::ACTIVATION_BYTES;
use super::compile::{Assembler, Refused};
use super::conv::Border;
use super::driver::{EACH, L2Promotion, TensorElement, TensorMap, TensorMapSpec};
use super::epilogue::Epilogue;
use super::memory;
use super::modules::KernelId;
use super::tiles::{Problem, Tile, Tiling};
use crate::ops::{self, Conv, Element};

/// The file beside kernels/conv.cu.
pub const MODULE: &str = "sm90/conv";

/// Channels of a box: a row of the swizzle.
const DEPTH: usize = 64;
/// The most elements that a box spans along a dimension, and of how many one may be taken.
const MOST_SPANNED: usize = 256;
const MOST_STRIDE: usize = 8;

/// ConvParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: TensorMap,
    w: TensorMap,
    out: TensorMap,
    epilogue: Epilogue,
    border: Border,
    channels: u32,
    kernel: u32,
    step: u32,
    pad: u32,
    out_width: u32,
    out_height: u32,
    width_log2: u32,
    across: u32,
    down: u32,
    padding: u32,
    /// A tensor map's alignment.
    tail: [u64; 6],
}

/// The pixels of a block, of which its warpgroups have equal parts, one below the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rectangle {
    width: usize,
    height: usize,
}

impl Rectangle {
    /// That which covers a map of `height` × `width` pixels in fewest, then that whose patches span fewest pixels.
    fn of(op: &Conv, tile: Tile) -> Option<Rectangle> {
        let groups = tile.warpgroups();
        let spans = |side: usize| (side - 1) * op.w.stride + op.w.kernel;
        let widths = (0..).map(|log2| 1 << log2).take_while(|width| width * groups <= tile.rows);
        let all = widths.map(|width| Rectangle { width, height: tile.rows / width });
        let fits = |of: &Rectangle| of.width.max(of.height) * op.w.stride <= MOST_SPANNED;
        all.filter(fits).min_by_key(|of| (of.count(op), spans(of.width) * spans(of.height)))
    }

    /// How many lie beside each other, and below each other, on the output.
    fn sides(self, op: &Conv) -> [usize; 2] {
        [op.out.shape[2].div_ceil(self.width), op.out.shape[1].div_ceil(self.height)]
    }

    fn count(self, op: &Conv) -> usize {
        self.sides(op).iter().product()
    }
}

/// A convolution as the product that a tile computes, whole rectangles and whole boxes of channels counted; none that these kernels do
/// not take.
pub fn problem(op: &Conv, tile: Tile) -> Option<Problem> {
    let Conv { x, w, epilogue, out, .. } = op;
    // The adds' items are the results'.
    let has_items = epilogue.add.iter().flatten().all(|add| add.buf.batch() == out.batch());
    let is_aligned = [x.channels(), w.weight.n].into_iter().all(memory::is_aligned);
    let takes = is_aligned && has_items && out.element == Element::Activation && w.stride <= MOST_STRIDE;
    let rows = Rectangle::of(op, tile).filter(|_| takes)?.count(op) * tile.rows;
    let depth = w.kernel * w.kernel * x.channels().next_multiple_of(DEPTH);
    Some(Problem { items: out.batch(), rows, columns: w.weight.n, depth })
}

/// By this kernel.
pub fn launch(to: &mut Assembler<'_>, (kernel, tiling): (KernelId, Tiling), op: &Conv) -> Refused {
    let Conv { x, w, epilogue, out, .. } = *op;
    let tile = tiling.config.tile;
    let rectangle = Rectangle::of(op, tile).ok_or_else(|| format!("{} does not take it", kernel.name))?;
    let [across, down] = rectangle.sides(op);
    let whole = ops::Epilogue { add: epilogue.add.map(|add| add.map(|add| add.buf.all())), ..epilogue };
    let params = Params {
        x: map(to, x, rectangle, w.stride as u32)?,
        w: w_map(to, op, (tile.columns / tile.sharers()) as u32)?,
        out: map(to, out, Rectangle { height: rectangle.height / tile.warpgroups(), ..rectangle }, 1)?,
        epilogue: Epilogue::new(to, w.bias, whole, out.all()),
        border: Border::of(op),
        channels: x.channels() as u32,
        kernel: w.kernel as u32,
        step: w.stride as u32,
        pad: w.pad as u32,
        out_width: out.shape[2] as u32,
        out_height: out.shape[1] as u32,
        width_log2: rectangle.width.ilog2(),
        across: across as u32,
        down: down as u32,
        padding: 0,
        tail: [0; 6],
    };
    let row_tiles = (across * down).div_ceil(tile.sharers());
    let column_tiles = w.weight.n.div_ceil(tile.columns);
    let grid = [row_tiles * column_tiles * kernel.spec.cluster as usize, 1, out.batch()];
    to.launch_tiled(kernel, grid, &params, Some(tiling))
}

type Map = Result<TensorMap, String>;

/// `{channels, width, height, batch}`, in boxes of 64 channels of a rectangle's pixels, every `stride`-th along both sides.
fn map(to: &Assembler<'_>, buf: ops::Buf, of: Rectangle, stride: u32) -> Map {
    let [batch, height, width, channels] = buf.shape.map(|side| side as u64);
    let pixel = ACTIVATION_BYTES as u64 * channels;
    to.tensor_map(&TensorMapSpec {
        element: TensorElement::F16,
        address: to.address(buf),
        dims: &[channels, width, height, batch],
        strides: &[pixel, pixel * width, pixel * width * height],
        tile: &[DEPTH as u32, stride * of.width as u32, stride * of.height as u32, 1],
        every: [1, stride, stride, 1, 1],
        l2_promotion: L2Promotion::Bytes128,
    })
}

/// `{depth, outputs}`, in boxes of the outputs that a block loads.
fn w_map(to: &Assembler<'_>, op: &Conv, outputs: u32) -> Map {
    let (weight, matrix) = (op.w.weight, to.matrix(op.w.weight));
    to.tensor_map(&TensorMapSpec {
        element: TensorElement::F16,
        address: matrix.address,
        dims: &[weight.k as u64, weight.n as u64],
        strides: &[(ACTIVATION_BYTES * matrix.stride) as u64],
        tile: &[DEPTH as u32, outputs],
        every: EACH,
        l2_promotion: L2Promotion::Bytes256,
    })
}
