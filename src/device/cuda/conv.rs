//! Host side of kernels/conv.cu.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::driver::{Function, Gpu};
use super::gemm::{self, Split};
use super::images::Library;
use super::tiles::{self, Choice, Shape, Size, Tile};
use super::{Cuda, memory};
use crate::device::{Buf, Conv, Epilogue, Linear, Rows};
use crate::error::Result;

/// The kernel file keeps a tap in 16 bits, the last of which is for no tap.
const LARGEST_KERNEL: usize = 15;

pub struct Kernels {
    wide: Of,
    large: Of,
    middle: Of,
    small: Of,
    any: Of,
}

/// A kernel that takes its input as it is, and one that passes it through a ReLU.
struct Of {
    plain: Function,
    relu: Function,
}

/// `PatchSource` of kernels/patches.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Source {
    x: u64,
    height: u32,
    width: u32,
    channels: u32,
    kernel: u32,
    stride: u32,
    pad: u32,
    out_height: u32,
    out_width: u32,
}

/// ConvParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    source: Source,
    w: u64,
    depth: u32,
    stride: u32,
    split: Split,
    epilogue: gemm::Epilogue,
}

impl Kernels {
    pub fn load(library: &Library<'_>, _gpu: &Arc<Gpu>) -> Result<Kernels> {
        let module = library.load("conv")?;
        let of = |name: &str, tile: Tile| {
            let function = |name: &str| module.function::<Params>(name, tile.shared_bytes() as u32);
            Ok(Of { plain: function(name)?, relu: function(&format!("{name}_relu"))? })
        };
        Ok(Kernels {
            wide: of("conv_128x256", Tile::Wide)?,
            large: of("conv_128x128", Tile::Large)?,
            middle: of("conv_128x64", Tile::Middle)?,
            small: of("conv_64x64", Tile::Small)?,
            any: of("conv_64x64_any", Tile::Small)?,
        })
    }
}

pub fn run(cuda: &Cuda, x: Buf, w: &Conv, relu_in: bool, epilogue: Epilogue, out: Buf) {
    if w.kernel == 1 && w.stride == 1 && w.pad == 0 && !relu_in {
        let linear = Linear { weight: w.weight, bias: w.bias };
        return gemm::run(cuda, x.all(), &linear, epilogue, out.all());
    }
    assert!(w.kernel <= LARGEST_KERNEL, "a kernel of {} taps a row; {LARGEST_KERNEL} are the most", w.kernel);
    let whole = out.batch() * out.rows();
    assert!(
        epilogue.add.iter().flatten().all(|add| add.buf.batch() * add.count == whole),
        "added maps have out's shape"
    );
    let epilogue = Epilogue { add: epilogue.add.map(|add| add.map(|add| as_one(add.buf))), ..epilogue };
    let memory::Matrix { address, stride } = cuda.matrix(w.weight);
    let params = Params {
        source: Source {
            x: cuda.address(x),
            height: x.shape[1] as u32,
            width: x.shape[2] as u32,
            channels: x.channels() as u32,
            kernel: w.kernel as u32,
            stride: w.stride as u32,
            pad: w.pad as u32,
            out_height: out.shape[1] as u32,
            out_width: out.shape[2] as u32,
        },
        w: address,
        depth: w.weight.k as u32,
        stride: stride as u32,
        split: cuda.kernels.gemm.parts().split(1),
        epilogue: gemm::Epilogue::new(cuda, w.bias, epilogue, as_one(out)),
    };
    let shape = Shape { items: 1, rows: whole, columns: w.weight.n, depth: w.weight.k };
    launch(cuda, shape, relu_in, params);
}

/// The pixels of all batch items as rows of one.
fn as_one(buf: Buf) -> Rows {
    Buf { shape: [1, buf.batch() * buf.shape[1], buf.shape[2], buf.channels()], ..buf }.all()
}

fn launch(cuda: &Cuda, shape: Shape, relu_in: bool, mut params: Params) {
    let kernels = &cuda.kernels.conv;
    let (Choice { tile, parts }, kernel) = if params.source.channels.is_multiple_of(memory::ROW_ALIGN as u32) {
        let choice = tiles::choose_or(cuda.forced.choice, shape, Size::of(cuda.info()));
        let kernel = match choice.tile {
            Tile::Wide => &kernels.wide,
            Tile::Large => &kernels.large,
            Tile::Middle => &kernels.middle,
            Tile::Small => &kernels.small,
        };
        (choice, kernel)
    } else {
        (Choice { tile: Tile::Small, parts: 1 }, &kernels.any)
    };
    params.split = cuda.kernels.gemm.parts().split(parts);
    let function = if relu_in { &kernel.relu } else { &kernel.plain };
    cuda.launch_tiled(function, [shape.tiles(tile), 1, parts], &params, Some(Choice { tile, parts }));
}
