//! Spatial regularisation of the logits: one 3×3 kernel that all labels share.

use super::Cpu;
use super::simd::multiversion;
use crate::ops::{self, Activation};

impl Cpu {
    pub(super) fn regularise(&mut self, op: &ops::Regularise) {
        let (isa, kernel) = (self.isa, self.weights.vector(op.w));
        self.arena.by_rows(op.out, |inputs, b, y, out| row(isa, op, kernel, inputs.item(op.x.all(), b), y, out));
    }
}

multiversion! {
    /// One row of the map: `x` has shape `[h, w, n]`, `out` `[w, n]`, `kernel` nine weights and a bias.
    fn row(op: &ops::Regularise, kernel: &[f32], x: &[f32], y: usize, out: &mut [f32]) {
        let [_, h, w, n] = op.x.shape;
        for (column, out) in out.chunks_exact_mut(n).enumerate() {
            let strongest = if op.bottleneck {
                let pixel = &x[(y * w + column) * n..][..n];
                pixel.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a || b.is_nan() { *b } else { a })
            } else {
                0.0
            };
            out.fill(kernel[9] + strongest);
            for (tap, weight) in kernel[..9].iter().enumerate() {
                let (yy, xx) = ((y + tap / 3).wrapping_sub(1), (column + tap % 3).wrapping_sub(1));
                if yy < h && xx < w {
                    let pixel = &x[(yy * w + xx) * n..][..n];
                    out.iter_mut().zip(pixel).for_each(|(o, v)| *o += weight * v);
                }
            }
            match op.activation {
                None => {}
                Some(Activation::Relu) => out.iter_mut().for_each(|v| *v = super::math::relu(*v)),
                Some(Activation::Lrelu) => out.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.01 * *v } else { *v }),
                Some(Activation::Tanh) => out.iter_mut().for_each(|v| *v = v.tanh()),
            }
        }
    }
}
