//! Scores of a block of pixels: their norms by the small product R·f + c, then the labels' product, then the quotient.

use super::math::inverse_root;
use super::product::{Layout, Packed, Patches, Product};
use super::simd::{Isa, multiversion};
use crate::device::Func;

/// Pixels of a task at most.
pub const PIXELS: usize = 96;

/// Weights of [`crate::device::Similarity`], looked up.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub labels: (&'a Packed, &'a [f32]),
    pub norm: (&'a Packed, &'a [f32]),
    pub rest: f32,
}

/// float32 values of working memory that a task takes where the norm has `rank` coordinates.
pub fn work(rank: usize) -> usize {
    PIXELS * rank
}

/// `x` is `[pixels, features]` (at most [`PIXELS`]), `out` `[pixels, labels]`, `work` [`work`] values.
pub fn block(isa: Isa, w: &Weights<'_>, x: &[f32], work: &mut [f32], out: &mut [f32]) {
    let pixels = x.len() / w.norm.0.k;
    let coordinates = &mut work[..pixels * w.norm.0.n];
    linear(w.norm, x).block(isa, 0, pixels, coordinates);
    linear(w.labels, x).block(isa, 0, pixels, out);
    divide(isa, coordinates, w.norm.0.n, w.rest, out, w.labels.0.n);
}

fn linear<'a>((w, bias): (&'a Packed, &'a [f32]), x: &'a [f32]) -> Product<'a> {
    let x = Patches::rows(x, x.len() / w.k, w.k);
    Product { x, w, bias: Some(bias), add: [None, None], func: Func::Identity, layout: Layout::Rows }
}

multiversion! {
    fn divide(coordinates: &[f32], rank: usize, rest: f32, out: &mut [f32], labels: usize) {
        for (coordinates, out) in coordinates.chunks_exact(rank).zip(out.chunks_exact_mut(labels)) {
            let mut lanes = [0.0f32; 16];
            let (chunks, tail) = coordinates.as_chunks::<16>();
            for chunk in chunks {
                lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v * v);
            }
            let squares = rest + lanes.iter().sum::<f32>() + tail.iter().map(|v| v * v).sum::<f32>();
            let inverse = if squares == 0.0 { 0.0 } else { inverse_root(squares) };
            out.iter_mut().for_each(|v| *v *= inverse);
        }
    }
}
