//! Each pixel's label: the logits are upsampled and resized to the mask a row at a time.

use rayon::prelude::*;

use super::mask::{self, Labels, LabelsMut};
use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops;
use crate::resample::Taps;

/// float32 values of working memory that a task takes: a row of the logits.
pub fn work(op: &ops::Argmax) -> usize {
    op.logits.shape[2] * op.logits.channels()
}

impl Cpu {
    pub(super) fn argmax(&mut self, op: &ops::Argmax) {
        let (isa, [_, h, w, _], all) = (self.isa, op.mask.shape, op.logits.all());
        let (inputs, mask_all) = self.arena.split(op.mask);
        let counts = mask::rows_mut(mask_all, op.mask).map(|(i, out)| {
            let (logits, mut count) = (inputs.item(all, i / h), 0);
            scratch::work(work(op), |line| argmax_row(isa, op, logits, i % h, line, out, &mut count));
            count
        });
        let count: u32 = counts.sum();
        self.arena.bytes_mut(op.not_finite).copy_from_slice(&count.to_ne_bytes());
        let Some(best) = op.best else { return };
        self.arena.by_rows(best, |inputs, b, y, out| {
            best_row(op, inputs.item(all, b), inputs.labels(op.mask).row(b * h + y, w), y, out);
        });
    }
}

/// Columns of the logits for one of the mask from which on only those that the mask reads are blended: a narrow photo has many
/// rows.
const NARROW: usize = 8;

/// The weighted sum of some values of rows that are `width` values long; the first row's begin where `values` does.
#[inline(always)]
fn blend(values: &[f32], rows: &Taps, width: usize, out: &mut [f32]) {
    out.fill(0.0);
    for (y, weight) in rows.iter() {
        out.iter_mut().zip(&values[y * width..]).for_each(|(o, v)| *o += weight * v);
    }
}

multiversion! {
    /// A row of the mask: `logits` `[h, w, n]` upsampled ×2, resized to the mask's size, the largest label taken (NaN
    /// counts as the largest, as in PyTorch). `line` `[w, n]` is working memory. `count` grows by the pixels whose
    /// largest score is no finite number.
    fn argmax_row(op: &ops::Argmax, logits: &[f32], row: usize, line: &mut [f32], out: LabelsMut<'_>, count: &mut u32) {
        let ([_, h, w, n], [_, to_h, to_w, _], mut out) = (op.logits.shape, op.mask.shape, out);
        let rows = Taps::through_upsample(row, h, to_h);
        if NARROW * to_w < w {
            for i in 0..to_w {
                for (x, _) in Taps::through_upsample(i, w, to_w).iter() {
                    blend(&logits[x * n..], &rows, w * n, &mut line[x * n..][..n]);
                }
            }
        } else {
            blend(logits, &rows, w * n, line);
        }
        for i in 0..to_w {
            let taps = Taps::through_upsample(i, w, to_w);
            let (mut best, mut largest) = (0, f32::NEG_INFINITY);
            for label in 0..n {
                let mut score = 0.0;
                for (x, weight) in taps.iter() {
                    score += weight * line[x * n + label];
                }
                if score > largest || (score.is_nan() && !largest.is_nan()) {
                    (best, largest) = (label, score);
                }
            }
            out.set(i, best);
            *count += u32::from(!largest.is_finite());
        }
    }
}

/// The scores of the labels that [`argmax_row`] took, `mask`: its sums, with its bits, of one label a pixel.
fn best_row(op: &ops::Argmax, logits: &[f32], mask: Labels<'_>, row: usize, out: &mut [f32]) {
    let ([_, h, w, n], [_, to_h, to_w, _]) = (op.logits.shape, op.mask.shape);
    let y_taps = Taps::through_upsample(row, h, to_h);
    for (i, out) in out.iter_mut().enumerate() {
        *out = 0.0;
        for (x, weight) in Taps::through_upsample(i, w, to_w).iter() {
            let at = |y: usize| logits[(y * w + x) * n + mask.get(i)];
            *out += weight * y_taps.iter().fold(0.0, |sum, (y, weight)| sum + weight * at(y));
        }
    }
}
