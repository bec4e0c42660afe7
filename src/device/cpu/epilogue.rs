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
    pub bias: Option<Bias<'a>>,
    pub add: [Option<Add<'a>>; 2],
    pub func: Func,
}

/// What is added to a row whatever it is.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    /// `[n]`, or `[borders, n]`
    values: &'a [f32],
    place: Place,
}

/// Where a row's bias stands among several.
#[derive(Clone, Copy)]
enum Place {
    First,
    /// Rows are pixels of a map so wide; a 3×3 patch's first row and column lie outside for the map's first, its last for these.
    Three {
        width: usize,
        last: [Option<usize>; 2],
    },
    /// Of a phase's window: those rows and columns over which it reaches.
    Window {
        width: usize,
        over: [Option<usize>; 2],
    },
}

impl<'a> Bias<'a> {
    /// The same for all rows.
    pub fn plain(values: &'a [f32]) -> Self {
        Bias { values, place: Place::First }
    }

    /// Of a 3×3 convolution, by the border: see [`ops::conv::BORDERS`].
    pub fn three(values: &'a [f32], op: &ops::Conv) -> Self {
        Bias { values, place: Place::Three { width: op.out.shape[2], last: op.over_the_end() } }
    }

    /// Of a phase, by the border: see [`ops::polyphase::BORDERS`].
    pub fn window(values: &'a [f32], width: usize, over: [Option<usize>; 2]) -> Self {
        Bias { values, place: Place::Window { width, over } }
    }

    #[inline(always)]
    fn row(&self, m: usize, n: usize) -> &'a [f32] {
        let border = match self.place {
            Place::First => 0,
            Place::Three { width, last } => {
                let axis = |at: usize, last: Option<usize>| usize::from(at == 0) + 2 * usize::from(last == Some(at));
                axis(m / width, last[0]) + 4 * axis(m % width, last[1])
            }
            Place::Window { width, over } => {
                usize::from(over[0] == Some(m / width)) + 2 * usize::from(over[1] == Some(m % width))
            }
        };
        &self.values[border * n..][..n]
    }
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
    pub fn of(op: &ops::Epilogue, n: usize, bias: Option<Bias<'a>>, inputs: Inputs<'a>, b: usize) -> Self {
        let item = |rows: Rows| inputs.item(rows, b);
        let add = |rows: Rows| if rows.count == 1 { Add::Row(item(rows)) } else { Add::Rows(item(rows)) };
        Epilogue { n, bias, add: op.add.map(|rows| rows.map(add)), func: op.func }
    }

    /// Bias and residuals for columns n0 .. n0 + width of row m.
    #[inline(always)]
    pub fn add_bias_residual(&self, m: usize, n0: usize, width: usize, sums: &mut [f32; NR]) {
        if let Some(bias) = self.bias {
            accumulate(sums, &bias.row(m, self.n)[n0..n0 + width]);
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
