//! Host side of kernels/gemm.cu.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::driver::{Function, Gpu, Memory};
use super::images::Library;
use super::memory;
use super::tiles::{self, Choice, Shape, Size, Tile};
use crate::device::{self, Buf, ConvTranspose, Element, Func, Linear, Rows};
use crate::error::Result;

/// Outputs of a block of gemv.
const GEMV_OUTPUTS: usize = 8;

pub struct Kernels {
    wide: Function,
    large: Function,
    middle: Function,
    small: Of,
    any: Of,
    gemv: Function,
    parts: Parts,
}

/// A kernel for each element of x.
struct Of {
    half: Function,
    float: Function,
}

/// Where blocks that share a tile meet. One product at a time uses it: they follow each other on one stream.
pub struct Parts {
    sums: Memory,
    arrived: Memory,
}

/// `Split` of kernels/product.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Split {
    parts: u64,
    arrived: u64,
    count: u32,
    padding: u32,
}

/// `Added` of kernels/epilogue.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Added {
    rows: u64,
    item_step: u64,
    row_step: u32,
    is_float: u32,
}

/// `Epilogue` of kernels/epilogue.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Epilogue {
    bias: u64,
    add: [Added; 2],
    out: u64,
    item_step: u64,
    rows: u32,
    columns: u32,
    func: u32,
    out_is_float: u32,
    shuffle: u32,
    width: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    w: u64,
    x_item_step: u64,
    depth: u32,
    stride: u32,
    split: Split,
    epilogue: Epilogue,
}

impl Parts {
    pub fn new(gpu: &Arc<Gpu>) -> Result<Parts> {
        let (size, what) = (Size::of(gpu.info()), "the products' workspace");
        let sums = gpu.allocate(size.workspace_bytes(), what)?;
        let arrived = gpu.allocate(4 * size.most_cut_tiles(), what)?;
        gpu.fill(&arrived, 0, 0, arrived.bytes())?;
        Ok(Parts { sums, arrived })
    }

    pub fn split(&self, count: usize) -> Split {
        Split { parts: self.sums.address(), arrived: self.arrived.address(), count: count as u32, padding: 0 }
    }
}

impl Kernels {
    pub fn load(library: &Library<'_>, gpu: &Arc<Gpu>) -> Result<Kernels> {
        let module = library.load("gemm")?;
        let function = |name: &str, shared: usize| module.function::<Params>(name, shared as u32);
        let of = |name: &str| -> Result<Of> {
            let shared = Tile::Small.shared_bytes();
            let half = function(&format!("{name}_half"), shared)?;
            Ok(Of { half, float: function(&format!("{name}_float"), shared)? })
        };
        Ok(Kernels {
            wide: function("gemm_128x256_half", Tile::Wide.shared_bytes())?,
            large: function("gemm_128x128_half", Tile::Large.shared_bytes())?,
            middle: function("gemm_128x64_half", Tile::Middle.shared_bytes())?,
            small: of("gemm_64x64")?,
            any: of("gemm_64x64_any")?,
            gemv: function("gemv_float", 0)?,
            parts: Parts::new(gpu)?,
        })
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }
}

impl Of {
    fn element(&self, element: Element) -> &Function {
        if element == Element::F32 { &self.float } else { &self.half }
    }
}

pub fn func(func: Func) -> u32 {
    match func {
        Func::Identity => 0,
        Func::Relu => 1,
        Func::Gelu => 2,
        Func::QuickGelu => 3,
    }
}

impl Added {
    const NONE: Added = Added { rows: 0, item_step: 0, row_step: 0, is_float: 0 };

    /// One row stands for all rows of its batch item; `rows` are those of the product.
    fn new(cuda: &Cuda, add: Option<Rows>, rows: usize) -> Added {
        let Some(add) = add else { return Added::NONE };
        let channels = add.buf.channels();
        Added {
            rows: cuda.rows_address(add),
            item_step: (add.buf.rows() * channels) as u64,
            row_step: if add.count == rows { channels as u32 } else { 0 },
            is_float: u32::from(add.buf.element == Element::F32),
        }
    }
}

impl Epilogue {
    /// For `out` [.., columns], rows as they are.
    pub fn new(cuda: &Cuda, bias: Option<device::Vector>, epilogue: device::Epilogue, out: Rows) -> Epilogue {
        let channels = out.buf.channels();
        Epilogue {
            bias: cuda.optional_vector(bias),
            add: epilogue.add.map(|add| Added::new(cuda, add, out.count)),
            out: cuda.rows_address(out),
            item_step: (out.buf.rows() * channels) as u64,
            rows: out.count as u32,
            columns: channels as u32,
            func: func(epilogue.func),
            out_is_float: u32::from(out.buf.element == Element::F32),
            shuffle: 0,
            width: 0,
        }
    }
}

/// Whether the rows of all batch items follow each other without gaps.
fn is_whole(rows: Rows) -> bool {
    rows.buf.batch() == 1 || (rows.first == 0 && rows.count == rows.buf.rows())
}

pub fn run(cuda: &Cuda, x: Rows, w: &Linear, epilogue: device::Epilogue, out: Rows) {
    let weight = cuda.matrix(w.weight);
    let (mut items, mut out_epilogue) = (out.buf.batch(), Epilogue::new(cuda, w.bias, epilogue, out));
    let adds_are_whole = epilogue.add.iter().flatten().all(|add| is_whole(*add) && add.count == out.count);
    if items > 1 && is_whole(x) && is_whole(out) && adds_are_whole {
        out_epilogue.rows *= items as u32;
        items = 1;
    }
    let params = Params {
        x: cuda.rows_address(x),
        w: weight.address,
        x_item_step: (x.buf.rows() * x.buf.channels()) as u64,
        depth: w.weight.k as u32,
        stride: weight.stride as u32,
        split: cuda.kernels.gemm.parts.split(1),
        epilogue: out_epilogue,
    };
    let aligned = w.weight.k.is_multiple_of(memory::ROW_ALIGN);
    if x.buf.element == Element::F32 && out_epilogue.rows == 1 && aligned {
        return cuda.launch(&cuda.kernels.gemm.gemv, [w.weight.n.div_ceil(GEMV_OUTPUTS), 1, items], &params);
    }
    launch(cuda, x.buf.element, items, params);
}

pub fn run_transpose(cuda: &Cuda, x: Buf, w: &ConvTranspose, out: Buf) {
    let weight = cuda.matrix(w.weight);
    let mut epilogue = Epilogue::new(cuda, Some(w.bias), device::Epilogue::NONE, out.all());
    epilogue.rows = x.rows() as u32;
    epilogue.columns = w.weight.n as u32;
    (epilogue.shuffle, epilogue.width) = (w.stride as u32, x.shape[2] as u32);
    let params = Params {
        x: cuda.address(x),
        w: weight.address,
        x_item_step: (x.rows() * x.channels()) as u64,
        depth: w.weight.k as u32,
        stride: weight.stride as u32,
        split: cuda.kernels.gemm.parts.split(1),
        epilogue,
    };
    launch(cuda, x.element, x.batch(), params);
}

fn launch(cuda: &Cuda, element: Element, items: usize, mut params: Params) {
    let (kernels, epilogue) = (&cuda.kernels.gemm, &params.epilogue);
    let (rows, columns, depth) = (epilogue.rows as usize, epilogue.columns as usize, params.depth as usize);
    let shape = Shape { items, rows, columns, depth };
    let gpu = Size::of(cuda.info());
    let (Choice { tile, parts }, kernel) = if !depth.is_multiple_of(memory::ROW_ALIGN) {
        (Choice { tile: Tile::Small, parts: 1 }, kernels.any.element(element))
    } else if element == Element::F32 {
        (tiles::choose_among(&[Tile::Small], shape, gpu), &kernels.small.float)
    } else {
        let choice = tiles::choose_or(cuda.forced.choice, shape, gpu);
        let kernel = match choice.tile {
            Tile::Wide => &kernels.wide,
            Tile::Large => &kernels.large,
            Tile::Middle => &kernels.middle,
            Tile::Small => &kernels.small.half,
        };
        (choice, kernel)
    };
    params.split = kernels.parts.split(parts);
    let grid = [shape.tiles(tile) / items, 1, items * parts];
    cuda.launch_tiled(kernel, grid, &params, Some(Choice { tile, parts }));
}
