//! Host side of kernels/sm90/gemm.cu: products on warpgroups, whose operands and results are described by tensor maps.

use bytemuck::{Pod, Zeroable};

use super::ACTIVATION_BYTES;
use super::compile::{Assembler, Refused};
use super::driver::{EACH, L2Promotion, TensorElement, TensorMap, TensorMapSpec};
use super::epilogue::Epilogue;
use super::gemm;
use super::modules::KernelId;
use super::tiles::{Problem, Tile, Tiling};
use crate::ops::Element;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: TensorMap,
    w: TensorMap,
    out: TensorMap,
    epilogue: Epilogue,
    depth: u32,
    padding: u32,
    /// A tensor map's alignment.
    tail: [u64; 4],
}

/// Bytes of a row of every box: the swizzle's.
const ROW_BYTES: usize = 128;
/// What every address and every distance must be a multiple of.
const ALIGNMENT: usize = 16;
/// What a tensor map calls it, and the values of it in a box's row.
fn described(element: Element) -> (TensorElement, u32) {
    let of_row = (ROW_BYTES / element.bytes(ACTIVATION_BYTES)) as u32;
    (if element == Element::F32 { TensorElement::F32 } else { TensorElement::F16 }, of_row)
}

/// The file beside kernels/gemm.cu.
pub const MODULE: &str = "sm90/gemm";

/// The problem as a tile computes it; none where tensor maps cannot describe operands and results, or the tile does not take what is
/// added.
pub fn problem(element: Element, params: &gemm::Params, problem: Problem, tile: Tile) -> Option<Problem> {
    let columns = params.epilogue.columns as usize;
    let x_bytes = element.bytes(ACTIVATION_BYTES);
    let is_aligned = |bytes: usize| bytes.is_multiple_of(ALIGNMENT);
    let fits = is_aligned(2 * columns)
        && is_aligned(x_bytes * params.depth as usize)
        && is_aligned(params.epilogue.out as usize);
    (fits && (tile.adds() || !params.epilogue.adds())).then_some(problem)
}

/// `items` products by this kernel of warpgroups.
pub fn launch(
    to: &mut Assembler<'_>,
    (kernel, tiling): (KernelId, Tiling),
    element: Element,
    items: usize,
    params: &gemm::Params,
) -> Refused {
    let tile = tiling.config.tile;
    let params = Params {
        x: x_map(to, element, items, params, tile.rows as u32)?,
        w: w_map(to, params, (tile.columns / tile.sharers()) as u32)?,
        out: out_map(to, items, &params.epilogue, kernel.spec.group)?,
        epilogue: params.epilogue,
        depth: params.depth,
        padding: 0,
        tail: [0; 4],
    };
    let row_tiles = tiling.problem.rows.div_ceil(tile.rows * tile.sharers());
    let column_tiles = tiling.problem.columns.div_ceil(tile.columns);
    let grid = [row_tiles * column_tiles * kernel.spec.cluster as usize, 1, items];
    to.launch_tiled(kernel, grid, &params, Some(tiling))
}

type Map = Result<TensorMap, String>;

/// `{depth, rows, batch}`, in boxes of a block's rows.
fn x_map(to: &Assembler<'_>, element: Element, items: usize, params: &gemm::Params, rows: u32) -> Map {
    let (depth, value) = (u64::from(params.depth), element.bytes(ACTIVATION_BYTES) as u64);
    let (element, of_row) = described(element);
    to.tensor_map(&TensorMapSpec {
        element,
        address: params.x,
        dims: &[depth, u64::from(params.epilogue.rows), items as u64],
        strides: &[value * depth, value * params.x_batch_stride],
        tile: &[of_row, rows, 1],
        every: EACH,
        l2_promotion: L2Promotion::Bytes128,
    })
}

/// `{depth, columns}`, in boxes of the columns that a block loads.
fn w_map(to: &Assembler<'_>, params: &gemm::Params, columns: u32) -> Map {
    let (element, of_row) = described(Element::Activation);
    to.tensor_map(&TensorMapSpec {
        element,
        address: params.w,
        dims: &[u64::from(params.depth), u64::from(params.epilogue.columns)],
        strides: &[2 * u64::from(params.stride)],
        tile: &[of_row, columns],
        every: EACH,
        l2_promotion: L2Promotion::Bytes256,
    })
}

fn out_element(epilogue: &Epilogue) -> Element {
    if epilogue.out_is_float == 0 { Element::Activation } else { Element::F32 }
}

/// `{columns, rows, batch}`, in boxes of a warpgroup's rows.
fn out_map(to: &Assembler<'_>, items: usize, epilogue: &Epilogue, rows: u32) -> Map {
    let (columns, value) = (u64::from(epilogue.columns), out_element(epilogue).bytes(ACTIVATION_BYTES) as u64);
    let (element, of_row) = described(out_element(epilogue));
    to.tensor_map(&TensorMapSpec {
        element,
        address: epilogue.out,
        dims: &[columns, u64::from(epilogue.rows), items as u64],
        strides: &[value * columns, value * epilogue.batch_stride],
        tile: &[of_row, rows, 1],
        every: EACH,
        l2_promotion: L2Promotion::Bytes128,
    })
}
