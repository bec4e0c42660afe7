//! Scores of a block of pixels: their norms by the small product R·f + c, then the labels' product, then the quotient.

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::gemm::{BlockedGemm, Layout, Packed, Patches};
use super::math::inverse_root;
use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops::{self, Func};

/// Pixels of a task at most.
const PIXELS: usize = 96;

/// float32 values of working memory that a task takes: its pixels' coordinates in the norm.
pub fn work(op: &ops::Similarity) -> usize {
    PIXELS * op.w.norm.weight.n
}

impl Cpu {
    pub(super) fn similarity(&mut self, op: &ops::Similarity) {
        let ops::Similarity { x, w, out } = *op;
        let (labels, norm) = (self.weights.linear(w.labels), self.weights.linear(w.norm));
        let (inputs, out_all) = self.arena.split(out);
        let (isa, [_, _, _, features], [_, _, _, n], rank) = (self.isa, x.shape, out.shape, w.norm.weight.n);
        let x_blocks = inputs.get(x).par_chunks(PIXELS * features);
        out_all.par_chunks_mut(PIXELS * n).zip(x_blocks).for_each(|(out, x)| {
            scratch::work(work(op), |work| {
                let pixels = x.len() / features;
                let coordinates = &mut work[..pixels * rank];
                linear(norm, x).block(isa, 0, pixels, coordinates);
                linear(labels, x).block(isa, 0, pixels, out);
                divide(isa, coordinates, rank, w.rest, out, n);
            });
        });
    }
}

fn linear<'a>((w, bias): (&'a Packed, Option<&'a [f32]>), x: &'a [f32]) -> BlockedGemm<'a> {
    let epilogue = Epilogue { n: w.n, bias, add: [None, None], func: Func::Identity };
    BlockedGemm { x: Patches::rows(x, x.len() / w.k, w.k), w, epilogue, layout: Layout::Rows }
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
