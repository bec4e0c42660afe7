//! Host side of kernels/gemm.cu, and the choice between it and kernels/sm90/gemm.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::epilogue::Epilogue;
use super::memory;
use super::split_k::SplitK;
use super::tiles::{self, Config, Problem, Second};
use super::wgmma;
use crate::ops::{Element, Gemm, Rows};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Params {
    pub x: u64,
    pub w: u64,
    pub x_batch_stride: u64,
    pub depth: u32,
    pub stride: u32,
    pub split_k: SplitK,
    pub epilogue: Epilogue,
}

/// Whether the rows of all batch items follow each other without gaps.
fn is_whole(rows: Rows) -> bool {
    rows.buf.batch() == 1 || (rows.first == 0 && rows.count == rows.buf.rows())
}

pub fn compile(op: &Gemm, to: &mut Assembler<'_>) -> Refused {
    let Gemm { x, w, epilogue, out } = *op;
    let weight = to.matrix(w.weight);
    let (mut items, mut out_epilogue) = (out.buf.batch(), Epilogue::new(to, w.bias, epilogue, out));
    let adds_are_whole = epilogue.add.iter().flatten().all(|add| is_whole(*add) && add.count == out.count);
    if items > 1 && is_whole(x) && is_whole(out) && adds_are_whole {
        out_epilogue.rows *= items as u32;
        items = 1;
    }
    let params = Params {
        x: to.rows_address(x),
        w: weight.address,
        x_batch_stride: (x.buf.rows() * x.buf.channels()) as u64,
        depth: w.weight.k as u32,
        stride: weight.stride as u32,
        split_k: SplitK::whole(),
        epilogue: out_epilogue,
    };
    launch(to, x.buf.element, items, params)
}

/// The quickest tile and parts for `items` products.
pub fn launch(to: &mut Assembler<'_>, element: Element, items: usize, mut params: Params) -> Refused {
    let (rows, columns) = (params.epilogue.rows as usize, params.epilogue.columns as usize);
    let problem = Problem { items, rows, columns, depth: params.depth as usize };
    memory::aligned("a depth", problem.depth)?;
    let of_tile = |tile| wgmma::problem(element, &params, problem, tile);
    let second = Second { module: wgmma::MODULE, problem: &of_tile };
    let (kernel, tiling) = tiles::choose(to, "gemm", tiles::takes(element), problem, Some(second))?;
    if tiling.config.tile.is_of_warpgroups() {
        return wgmma::launch(to, (kernel, tiling), element, items, &params);
    }
    let Config { tile, parts } = tiling.config;
    params.split_k = to.split_k(&tiling);
    let grid = [problem.tiles(tile) / items, 1, items * parts];
    to.launch_tiled(kernel, grid, &params, Some(tiling))
}
