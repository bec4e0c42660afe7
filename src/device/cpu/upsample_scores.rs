//! Scores at the network's size, a plane a label.

use super::Cpu;
use super::simd::multiversion;
use crate::ops::{self, Buf};
use crate::resample::corners;

impl Cpu {
    pub(super) fn upsample_scores(&mut self, op: &ops::UpsampleScores) {
        let (isa, [b, n, h, w]) = (self.isa, op.out.shape);
        let planes = Buf { shape: [b * n, h, w, 1], ..op.out };
        self.arena.by_rows(planes, |inputs, plane, y, out| {
            row(isa, op, inputs.item(op.logits.all(), plane / n), plane % n, y, out);
        });
    }
}

multiversion! {
    /// One row of one label of the upsampled scores: `logits` is `[h, w, n]`, `out` `[2w]`.
    fn row(op: &ops::UpsampleScores, logits: &[f32], label: usize, row: usize, out: &mut [f32]) {
        let [_, h, w, n] = op.logits.shape;
        let y = corners(row, h, 2 * h);
        let value = |y: usize, x: usize| logits[(y * w + x) * n + label];
        for (i, out) in out.iter_mut().enumerate() {
            let x = corners(i, w, 2 * w);
            let upper = value(y.low, x.low) + x.t * (value(y.low, x.high) - value(y.low, x.low));
            let lower = value(y.high, x.low) + x.t * (value(y.high, x.high) - value(y.high, x.low));
            *out = upper + y.t * (lower - upper);
        }
    }
}
