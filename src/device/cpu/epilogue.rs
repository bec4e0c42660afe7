//! What happens to sums on their way into memory: the first part of k adds bias and residuals, the last applies the
//! function.

use super::arena::Inputs;
use super::gemm::NR;
use super::math;
use crate::ops::{self, Func, Rows};

/// The epilogue of one batch item's output `[rows, n]`.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    pub n: usize,
    /// `[n]`
    pub bias: Option<&'a [f32]>,
    pub add: [Option<Add<'a>>; 2],
    pub func: Func,
}

/// Something added before the function.
#[derive(Clone, Copy)]
pub enum Add<'a> {
    /// The output's rows, `[rows, n]`.
    Rows(&'a [f32]),
    /// One row `[n]`, for every row.
    Row(&'a [f32]),
}

impl<'a> Epilogue<'a> {
    /// Of batch item `b`.
    pub fn of(op: &ops::Epilogue, n: usize, bias: Option<&'a [f32]>, inputs: Inputs<'a>, b: usize) -> Self {
        let item = |rows: Rows| inputs.item(rows, b);
        let add = |rows: Rows| if rows.count == 1 { Add::Row(item(rows)) } else { Add::Rows(item(rows)) };
        Epilogue { n, bias, add: op.add.map(|rows| rows.map(add)), func: op.func }
    }

    /// Bias and residuals for columns n0 .. n0 + width of row m.
    #[inline(always)]
    pub fn add_bias_residual(&self, m: usize, n0: usize, width: usize, sums: &mut [f32; NR]) {
        if let Some(bias) = self.bias {
            accumulate(sums, &bias[n0..n0 + width]);
        }
        for add in self.add.iter().flatten() {
            match add {
                Add::Rows(rows) => accumulate(sums, &rows[m * self.n + n0..][..width]),
                Add::Row(row) => accumulate(sums, &row[n0..n0 + width]),
            }
        }
    }

    /// Sums into their place: added to what is there unless they begin it, through the function at the end.
    #[inline(always)]
    pub fn store<const FMA: bool>(&self, begin: bool, end: bool, sums: &mut [f32; NR], out: &mut [f32]) {
        if !begin {
            accumulate(sums, out);
        }
        if end {
            math::apply::<FMA, NR>(self.func, sums);
        }
        match <&mut [f32; NR]>::try_from(&mut *out) {
            Ok(out) => *out = *sums,
            Err(_) => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

#[inline(always)]
fn accumulate(sums: &mut [f32; NR], values: &[f32]) {
    match <&[f32; NR]>::try_from(values) {
        Ok(values) => sums.iter_mut().zip(values).for_each(|(s, v)| *s += v),
        Err(_) => sums.iter_mut().zip(values).for_each(|(s, v)| *s += v),
    }
}
