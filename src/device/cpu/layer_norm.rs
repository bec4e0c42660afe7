//! LayerNorm over the channels of each row: mean, then variance around it, both in 16 partial sums.

use rayon::prelude::*;

use super::Cpu;
use super::math::inverse_root;
use super::simd::multiversion;
use crate::ops;

const LANES: usize = 16;

impl Cpu {
    pub(super) fn layer_norm(&mut self, op: &ops::LayerNorm) {
        let ops::LayerNorm { x, w, out } = *op;
        let (weight, bias) = (self.weights.vector(w.weight), self.weights.vector(w.bias));
        let (inputs, out_all) = self.arena.split(out);
        let (isa, c) = (self.isa, x.channels());
        out_all.par_chunks_mut(c).zip(inputs.get(x).par_chunks(c)).with_min_len(8).for_each(|(out, x)| {
            row(isa, x, weight, bias, w.eps, out);
        });
    }
}

#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += f(*v));
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|v| f(*v)).sum::<f32>()
}

multiversion! {
    /// One row: out = (x − mean) / √(variance + eps) · weight + bias.
    fn row(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let n = x.len() as f32;
        let mean = sum(x, |v| v) / n;
        let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
        let scale = inverse_root(variance + eps);
        for (((o, v), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *o = (v - mean) * scale * w + b;
        }
    }
}
