//! Host side of kernels/epilogue.cuh.

use bytemuck::{Pod, Zeroable};

use super::compile::Assembler;
use crate::ops::{self, Element, Func, Rows, Vector};

/// `Added` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Added {
    rows: u64,
    item_step: u64,
    row_step: u32,
    is_float: u32,
}

/// `Epilogue` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Epilogue {
    bias: u64,
    add: [Added; 2],
    out: u64,
    item_step: u64,
    pub rows: u32,
    pub columns: u32,
    func: u32,
    out_is_float: u32,
    pub shuffle: u32,
    pub width: u32,
}

fn code(func: Func) -> u32 {
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
    fn new(to: &Assembler<'_>, add: Option<Rows>, rows: usize) -> Added {
        let Some(add) = add else { return Added::NONE };
        let channels = add.buf.channels();
        Added {
            rows: to.rows_address(add),
            item_step: (add.buf.rows() * channels) as u64,
            row_step: if add.count == rows { channels as u32 } else { 0 },
            is_float: u32::from(add.buf.element == Element::F32),
        }
    }
}

impl Epilogue {
    /// For `out` [.., columns], rows as they are.
    pub fn new(to: &Assembler<'_>, bias: Option<Vector>, epilogue: ops::Epilogue, out: Rows) -> Epilogue {
        let channels = out.buf.channels();
        Epilogue {
            bias: to.optional_vector(bias),
            add: epilogue.add.map(|add| Added::new(to, add, out.count)),
            out: to.rows_address(out),
            item_step: (out.buf.rows() * channels) as u64,
            rows: out.count as u32,
            columns: channels as u32,
            func: code(epilogue.func),
            out_is_float: u32::from(out.buf.element == Element::F32),
            shuffle: 0,
            width: 0,
        }
    }
}
