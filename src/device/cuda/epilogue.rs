//! Host side of kernels/epilogue.cuh.

use bytemuck::{Pod, Zeroable};

use super::compile::Assembler;
use crate::ops::{self, Element, Func, Rows, Vector};

/// `Residual` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Residual {
    rows: u64,
    batch_stride: u64,
    row_stride: u32,
    is_float: u32,
}

/// `Epilogue` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Epilogue {
    bias: u64,
    add: [Residual; 2],
    pub out: u64,
    pub batch_stride: u64,
    pub rows: u32,
    pub columns: u32,
    func: u32,
    pub out_is_float: u32,
}

fn code(func: Func) -> u32 {
    match func {
        Func::Identity => 0,
        Func::Relu => 1,
        Func::Gelu => 2,
        Func::QuickGelu => 3,
    }
}

impl Residual {
    const NONE: Residual = Residual { rows: 0, batch_stride: 0, row_stride: 0, is_float: 0 };

    /// One row stands for all rows of its batch item; `rows` are those of the product.
    fn new(to: &Assembler<'_>, add: Option<Rows>, rows: usize) -> Residual {
        let Some(add) = add else { return Residual::NONE };
        let channels = add.buf.channels();
        Residual {
            rows: to.rows_address(add),
            batch_stride: (add.buf.rows() * channels) as u64,
            row_stride: if add.count == rows { channels as u32 } else { 0 },
            is_float: u32::from(add.buf.element == Element::F32),
        }
    }
}

impl Epilogue {
    /// Whether something is added to the product beside the bias.
    pub fn adds(&self) -> bool {
        self.add.iter().any(|add| add.rows != 0 || add.row_stride != 0 || add.batch_stride != 0)
    }

    /// For `out` [.., columns], rows as they are.
    pub fn new(to: &Assembler<'_>, bias: Option<Vector>, epilogue: ops::Epilogue, out: Rows) -> Epilogue {
        let channels = out.buf.channels();
        Epilogue {
            bias: to.optional_vector(bias),
            add: epilogue.add.map(|add| Residual::new(to, add, out.count)),
            out: to.rows_address(out),
            batch_stride: (out.buf.rows() * channels) as u64,
            rows: out.count as u32,
            columns: channels as u32,
            func: code(epilogue.func),
            out_is_float: u32::from(out.buf.element == Element::F32),
        }
    }
}
