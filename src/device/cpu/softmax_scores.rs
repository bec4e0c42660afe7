//! Each label's probability at each pixel: first every pixel's sum, then the labels' planes, each row by itself.

use super::Cpu;
use crate::ops::{self, Buf};

impl Cpu {
    pub(super) fn softmax_scores(&mut self, op: &ops::SoftmaxScores) {
        let [b, labels, h, w] = op.scores.shape;
        let sums = Buf { shape: [b, h, w, 1], ..op.lse };
        self.arena.by_rows(sums, |inputs, b, y, out| lse(inputs.item(op.scores.all(), b), labels, y, out));
        let planes = Buf { shape: [b * labels, h, w, 1], ..op.scores };
        self.arena.by_rows(planes, |inputs, plane, y, scores| {
            let sums = &inputs.item(op.lse.all(), plane / labels)[y * w..][..w];
            scores.iter_mut().zip(sums).for_each(|(score, lse)| *score = (*score - lse).exp());
        });
    }
}

/// Row `y` of log Σ exp over the labels: `scores` is `[labels, h, w]`, `out` `[w]`. The largest score leaves the sum first, so that
/// nothing overflows; what is no finite number is NaN times 0.
fn lse(scores: &[f32], labels: usize, y: usize, out: &mut [f32]) {
    let (w, plane) = (out.len(), scores.len() / labels);
    for (x, out) in out.iter_mut().enumerate() {
        let at = |label: usize| scores[label * plane + y * w + x];
        let largest = (0..labels).map(at).fold(f32::NEG_INFINITY, f32::max);
        *out = largest + (0..labels).map(|label| (at(label) - largest).exp() + 0.0 * at(label)).sum::<f32>().ln();
    }
}
