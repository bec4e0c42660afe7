//! Linear steps behind each other as one: their weights multiplied out in float64, once, at load.
//!
//! Borders: a 3×3 convolution pads with zeros what the step before it has given a bias, so that at the map's border the bias of
//! the two together lacks what those zeros stand for. It is a table by border.
#![allow(unsafe_code)]

use rayon::prelude::*;

use crate::ops::{conv, polyphase};

/// What a composed value is kept as: rounded to float32, or as it is.
pub trait Kept: Copy + Default + Send {
    fn keep(value: f64) -> Self;
}

impl Kept for f32 {
    fn keep(value: f64) -> f32 {
        value as f32
    }
}

impl Kept for f64 {
    fn keep(value: f64) -> f64 {
        value
    }
}

/// Rows of a convolution's filters that are composed at a time.
const ROWS: usize = 64;

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// A matrix whose rows and columns lie so far apart.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f64],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> View<'a> {
    fn of(values: &'a [f64], rows: usize, columns: usize) -> Self {
        View { values, rows, columns, row_step: columns, column_step: 1 }
    }

    fn fits(&self) -> bool {
        let empty = self.rows == 0 || self.columns == 0;
        empty || (self.rows - 1) * self.row_step + (self.columns - 1) * self.column_step < self.values.len()
    }
}

/// out += a·b, `out` row-major.
fn add_product(a: View<'_>, b: View<'_>, out: &mut [f64]) {
    assert!(a.columns == b.rows && a.fits() && b.fits() && out.len() == a.rows * b.columns);
    // SAFETY: the assertion above says that every element that dgemm reads or writes lies within its slice, and a slice that is
    // written is borrowed by nobody else.
    unsafe {
        matrixmultiply::dgemm(
            a.rows,
            a.columns,
            b.columns,
            1.0,
            a.values.as_ptr(),
            a.row_step as isize,
            a.column_step as isize,
            b.values.as_ptr(),
            b.row_step as isize,
            b.column_step as isize,
            1.0,
            out.as_mut_ptr(),
            b.columns as isize,
            1,
        );
    }
}

/// `[outputs, middle]` · `[middle, inputs]`
pub fn matrices(second: &[f32], first: &[f32], middle: usize) -> Vec<f64> {
    let (outputs, inputs) = (second.len() / middle, first.len() / middle);
    let mut out = vec![0.0; outputs * inputs];
    let (second, first) = (to_f64(second), to_f64(first));
    add_product(View::of(&second, outputs, middle), View::of(&first, middle, inputs), &mut out);
    out
}

/// `second · first + after`, of a bias.
pub fn bias(second: &[f32], first: &[f32], after: &[f32]) -> Vec<f64> {
    let rows = second.chunks_exact(first.len()).zip(after);
    rows.map(|(row, after)| dot(row, first) + f64::from(*after)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// A convolution's filters `[outputs, taps, middle]` behind a 1×1 `[middle, inputs]`: `[outputs, taps, inputs]`.
pub fn conv_behind_linear<T: Kept>(filters: &[f32], linear: &[f32], shape: conv::Shape, middle: usize) -> Vec<T> {
    let conv::Shape { outputs, inputs, kernel, .. } = shape;
    let (taps, linear) = (kernel * kernel, to_f64(linear));
    let mut out = vec![T::default(); outputs * taps * inputs];
    out.par_chunks_mut(ROWS * taps * inputs).zip(filters.par_chunks(ROWS * taps * middle)).for_each(
        |(out, filters)| {
            // An output and a tap are a row.
            let filters = to_f64(filters);
            let mut composed = vec![0.0; out.len()];
            let rows = filters.len() / middle;
            add_product(View::of(&filters, rows, middle), View::of(&linear, middle, inputs), &mut composed);
            out.iter_mut().zip(composed).for_each(|(out, value)| *out = T::keep(value));
        },
    );
    out
}

/// The bias of both, `[conv::BORDERS, outputs]`: 3×3 filters `[outputs, 9, middle]`, what stood behind the 1×1 `[middle]`, and
/// what stands behind the convolution `[outputs]`, or nothing.
pub fn conv_borders(filters: &[f32], before: &[f32], after: Option<&[f32]>) -> Vec<f64> {
    let middle = before.len();
    let constants: Vec<f64> = filters.chunks_exact(middle).map(|row| dot(row, before)).collect();
    let outputs = constants.len() / 9;
    let is_inside = |border: usize, tap: usize| {
        // What of a row or column lies outside: 1 the first, 2 the last.
        let within = |missing: usize, at: usize| !(missing & 1 != 0 && at == 0 || missing & 2 != 0 && at == 2);
        within(border & 3, tap / 3) && within(border >> 2, tap % 3)
    };
    let value = |border: usize, output: usize| {
        let taps = (0..9).filter(|tap| is_inside(border, *tap)).map(|tap| constants[9 * output + tap]);
        taps.sum::<f64>() + after.map_or(0.0, |after| f64::from(after[output]))
    };
    (0..conv::BORDERS)
        .flat_map(|border| (0..outputs).map(move |output| (border, output)))
        .map(|(b, o)| value(b, o))
        .collect()
}

/// A 3×3 neighbour of a phase, along one axis: which of its window's coarse rows it lies in, and at which tap of the transposed
/// convolution.
fn neighbour(shape: polyphase::Shape, phase: usize, at: usize) -> (usize, usize) {
    let fine = phase + at + shape.stride - 1;
    let (coarse, tap) = (fine / shape.stride, fine % shape.stride);
    // `coarse` counts from the row before the phase's own.
    (coarse - usize::from(!shape.window(phase).is_before), tap)
}

/// 3×3 filters `[outputs, 9, middle]` behind a transposed convolution `[inputs, middle, stride, stride]` whose stride is its
/// kernel: phase by phase, each `[outputs, rows, columns, inputs]`.
pub fn polyphase<T: Kept>(filters: &[f32], transposed: &[f32], shape: polyphase::Shape, middle: usize) -> Vec<T> {
    let polyphase::Shape { outputs, inputs, stride } = shape;
    let (filters, transposed) = (to_f64(filters), to_f64(transposed));
    let compose = |phase: usize| {
        let (py, px) = (phase / stride, phase % stride);
        let (taps, across) = (shape.taps(phase), shape.window(px).count);
        // One tap of the window after the other.
        let mut composed = vec![0.0; taps * outputs * inputs];
        for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
            let ((row, ty), (column, tx)) = (neighbour(shape, py, ky), neighbour(shape, px, kx));
            let filter = View {
                values: &filters[(3 * ky + kx) * middle..],
                row_step: 9 * middle,
                ..View::of(&[], outputs, middle)
            };
            let spread = View {
                values: &transposed[ty * stride + tx..],
                rows: middle,
                columns: inputs,
                row_step: stride * stride,
                column_step: middle * stride * stride,
            };
            let out = &mut composed[(row * across + column) * outputs * inputs..][..outputs * inputs];
            add_product(filter, spread, out);
        }
        let at = |output: usize, tap: usize| &composed[(tap * outputs + output) * inputs..][..inputs];
        let rows = (0..outputs).flat_map(|output| (0..taps).map(move |tap| (output, tap)));
        rows.flat_map(|(output, tap)| at(output, tap)).map(|value| T::keep(*value)).collect::<Vec<T>>()
    };
    (0..shape.phases()).into_par_iter().map(compose).collect::<Vec<_>>().concat()
}

/// The bias of both, `[phases, polyphase::BORDERS, outputs]`: 3×3 filters `[outputs, 9, middle]` and the transposed convolution's
/// `[middle]`.
pub fn polyphase_borders(filters: &[f32], before: &[f32], shape: polyphase::Shape) -> Vec<f64> {
    let constants: Vec<f64> = filters.chunks_exact(before.len()).map(|row| dot(row, before)).collect();
    let mut out = Vec::with_capacity(shape.phases() * polyphase::BORDERS * shape.outputs);
    for phase in 0..shape.phases() {
        let windows = [phase / shape.stride, phase % shape.stride].map(|phase| shape.window(phase));
        for border in 0..polyphase::BORDERS {
            // The neighbour that lies over the border: the first of a window that begins before, else the last.
            let is_inside = |axis: usize, at: usize| {
                let outer = if windows[axis].is_before { 0 } else { 2 };
                border >> axis & 1 == 0 || windows[axis].count == 1 || at != outer
            };
            let taps: Vec<usize> = (0..9).filter(|tap| is_inside(0, tap / 3) && is_inside(1, tap % 3)).collect();
            out.extend(constants.chunks_exact(9).map(|output| taps.iter().map(|tap| output[*tap]).sum::<f64>()));
        }
    }
    out
}
