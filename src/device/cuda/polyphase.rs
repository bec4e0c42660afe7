//! Host side of kernels/polyphase.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::conv::as_one;
use super::epilogue::Epilogue;
use super::memory;
use super::tiles::{self, Problem};
use crate::ops::{self, Polyphase};

/// PolyphaseParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    w: u64,
    epilogue: Epilogue,
    height: u32,
    width: u32,
    channels: u32,
    stride: u32,
}

pub fn compile(op: &Polyphase, to: &mut Assembler<'_>) -> Refused {
    let (Polyphase { x, w, out }, shape) = (*op, op.shape());
    memory::aligned("input channels", x.channels())?;
    let mut epilogue = Epilogue::new(to, Some(w.bias), ops::Epilogue::NONE, as_one(out));
    epilogue.rows = (x.batch() * x.rows()) as u32;
    let params = Params {
        x: to.address(x),
        w: to.matrix(w.weight).address,
        epilogue,
        height: x.shape[1] as u32,
        width: x.shape[2] as u32,
        channels: x.channels() as u32,
        stride: w.stride as u32,
    };
    // Phases are weighed as if all saw equally many pixels.
    let problem = Problem {
        items: shape.phases(),
        rows: epilogue.rows as usize,
        columns: shape.outputs,
        depth: shape.all_taps() * shape.inputs / shape.phases(),
    };
    let (kernel, tiling) = tiles::choose_whole(to, "polyphase", problem)?;
    let blocks = problem.tiles(tiling.config.tile) / shape.phases();
    to.launch_tiled(kernel, [blocks, 1, shape.phases()], &params, Some(tiling))
}
