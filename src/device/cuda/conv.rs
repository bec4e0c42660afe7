//! Host side of kernels/conv.cu, and the choice between it and kernels/sm90/conv.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::epilogue::Epilogue;
use super::modules::{KernelId, variant};
use super::split_k::SplitK;
use super::tiles::{self, Config, Problem, Second, Tiling};
use super::{gemm, memory, wgmma_conv};
use crate::ops::{self, Buf, Conv, Gemm, Linear, Rows};

/// `PatchSource` of kernels/patches.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Source {
    x: u64,
    height: u32,
    width: u32,
    channels: u32,
    kernel: [u32; 2],
    stride: u32,
    pad: [u32; 2],
    out_height: u32,
    out_width: u32,
}

/// `Border` of kernels/conv.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Border {
    width: u32,
    height: u32,
    last_row: u32,
    last_column: u32,
}

impl Border {
    pub fn of(op: &Conv) -> Border {
        let [_, height, width, _] = op.out.shape.map(|side| side as u32);
        let [last_row, last_column] = op.over_the_end().map(|last| last.map_or(u32::MAX, |last| last as u32));
        match op.is_bordered() {
            true => Border { width, height, last_row, last_column },
            false => Border::zeroed(),
        }
    }
}

/// ConvParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    source: Source,
    w: u64,
    depth: u32,
    stride: u32,
    split_k: SplitK,
    epilogue: Epilogue,
    border: Border,
}

pub fn compile(op: &Conv, to: &mut Assembler<'_>) -> Refused {
    let Conv { x, w, relu_in, epilogue, out } = *op;
    if w.kernel == 1 && w.stride == 1 && w.pad == 0 && !relu_in {
        let w = Linear { weight: w.weight, bias: w.bias };
        return gemm::compile(&Gemm { x: x.all(), w, epilogue, out: out.all() }, to);
    }
    let whole = ops::Epilogue { add: epilogue.add.map(|add| add.map(|add| as_one(add.buf))), ..epilogue };
    let weight = to.matrix(w.weight);
    let problem = Problem { items: 1, rows: out.batch() * out.rows(), columns: w.weight.n, depth: w.weight.k };
    let (kernel, tiling) = choose(to, op, problem)?;
    if tiling.config.tile.is_of_warpgroups() {
        return wgmma_conv::launch(to, (kernel, tiling), op);
    }
    let Config { tile, parts } = tiling.config;
    let params = Params {
        source: Source {
            x: to.address(x),
            height: x.shape[1] as u32,
            width: x.shape[2] as u32,
            channels: x.channels() as u32,
            kernel: [w.kernel as u32; 2],
            stride: w.stride as u32,
            pad: [w.pad as u32; 2],
            out_height: out.shape[1] as u32,
            out_width: out.shape[2] as u32,
        },
        w: weight.address,
        depth: w.weight.k as u32,
        stride: weight.stride as u32,
        split_k: to.split_k(&tiling),
        epilogue: Epilogue::new(to, w.bias, whole, as_one(out)),
        border: Border::of(op),
    };
    to.launch_tiled(kernel, [problem.tiles(tile), 1, parts], &params, Some(tiling))
}

/// The quickest tile; channels that are no whole chunks (a photo's) have one kernel.
fn choose(to: &Assembler<'_>, op: &Conv, problem: Problem) -> Result<(KernelId, Tiling), String> {
    let takes = if op.relu_in { variant::RELU_INPUT } else { 0 };
    let any = to.find("conv", |kernel| kernel.spec.variant == takes | variant::ANY_SHAPE);
    let (kernel, tiling) = match any {
        Ok(any) if !memory::is_aligned(op.x.channels()) => {
            (any, Tiling { problem, config: Config { tile: any.tile(), parts: 1 } })
        }
        _ => {
            memory::aligned("input channels", op.x.channels())?;
            let of_tile = |tile| wgmma_conv::problem(op, tile);
            let second = Second { module: wgmma_conv::MODULE, problem: &of_tile };
            tiles::choose(to, "conv", takes, problem, Some(second))?
        }
    };
    let most = kernel.spec.most;
    if op.w.kernel > most && most > 0 {
        return Err(format!("a kernel of {} taps a row; {most} are the most", op.w.kernel));
    }
    Ok((kernel, tiling))
}

/// The pixels of all batch items as rows of one.
pub fn as_one(buf: Buf) -> Rows {
    Buf { shape: [1, buf.batch() * buf.shape[1], buf.shape[2], buf.channels()], ..buf }.all()
}
