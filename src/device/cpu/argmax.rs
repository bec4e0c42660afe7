//! Each pixel's label: the logits are upsampled and resized to the mask a row at a time.

use rayon::iter::Either;
use rayon::prelude::*;

use super::mask::{self, Labels, LabelsMut};
use super::math::exp;
use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops;
use crate::resample::Taps;

/// float32 values of working memory that a task takes: a row of the logits, and where the winners' softmax is taken a pixel's scores.
pub fn work(op: &ops::Argmax) -> usize {
    (op.logits.shape[2] + usize::from(op.is_confident())) * op.logits.channels()
}

impl Cpu {
    pub(super) fn argmax(&mut self, op: &ops::Argmax) {
        if op.is_confident() {
            return self.argmax_confident(op);
        }
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

impl Cpu {
    /// As [`Cpu::argmax`], all outputs of a row at once.
    fn argmax_confident(&mut self, op: &ops::Argmax) {
        let (isa, [b, h, w, _]) = (self.isa, op.mask.shape);
        let [logits, mask, best, confidence] =
            self.arena.places([Some(op.logits), Some(op.mask), op.best, op.confidence]);
        let best = rows(op.best.map(|_| best), w, b * h);
        let confidence = op.confidence.map(|_| bytemuck::cast_slice_mut::<f32, u8>(confidence));
        let confidence = rows(confidence, w, b * h);
        let (logits, item): (&[f32], _) = (logits, op.logits.rows() * op.logits.channels());
        let counts = mask::rows_mut(mask, op.mask).zip(best).zip(confidence).map(|(((i, mask), best), confidence)| {
            let (logits, mut count) = (&logits[i / h * item..][..item], 0);
            let row = Row { mask, best, confidence };
            scratch::work(work(op), |memory| confident_row(isa, op, logits, i % h, memory, row, &mut count));
            count
        });
        let count: u32 = counts.sum();
        self.arena.bytes_mut(op.not_finite).copy_from_slice(&count.to_ne_bytes());
    }
}

/// A row of what is made.
struct Row<'a> {
    mask: LabelsMut<'a>,
    best: Option<&'a mut [f32]>,
    confidence: Option<&'a mut [u8]>,
}

/// The rows of an output that may be there.
fn rows<T: Send>(
    place: Option<&mut [T]>,
    width: usize,
    count: usize,
) -> impl IndexedParallelIterator<Item = Option<&mut [T]>> {
    match place {
        Some(place) => Either::Left(place.par_chunks_mut(width).map(Some)),
        None => Either::Right((0..count).into_par_iter().map(|_| None)),
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

/// What output `i` of `to` sees of `from` logits.
#[inline(always)]
fn seen(op: &ops::Argmax, i: usize, from: usize, to: usize) -> Taps {
    if op.resized { Taps::through_upsample(i, from, to) } else { Taps::identity(i) }
}

/// The row of logits that a row of the mask sees, `[w, n]`.
#[inline(always)]
fn blend_line(op: &ops::Argmax, logits: &[f32], row: usize, line: &mut [f32]) {
    let ([_, h, w, n], [_, to_h, to_w, _]) = (op.logits.shape, op.mask.shape);
    let rows = seen(op, row, h, to_h);
    if NARROW * to_w < w {
        for i in 0..to_w {
            for (x, _) in seen(op, i, w, to_w).iter() {
                blend(&logits[x * n..], &rows, w * n, &mut line[x * n..][..n]);
            }
        }
    } else {
        blend(logits, &rows, w * n, line);
    }
}

multiversion! {
    /// A row of the mask: `logits` `[h, w, n]` upsampled ×2, resized to the mask's size, the largest label taken (NaN
    /// counts as the largest, as in PyTorch). `line` `[w, n]` is working memory. `count` grows by the pixels whose
    /// largest score is no finite number.
    fn argmax_row(op: &ops::Argmax, logits: &[f32], row: usize, line: &mut [f32], out: LabelsMut<'_>, count: &mut u32) {
        let ([_, _, w, n], [_, _, to_w, _], mut out) = (op.logits.shape, op.mask.shape, out);
        blend_line(op, logits, row, line);
        for i in 0..to_w {
            let taps = seen(op, i, w, to_w);
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

multiversion! {
    /// As [`argmax_row`], with the winner's softmax: `memory` is `[w + 1, n]`.
    fn confident_row(op: &ops::Argmax, logits: &[f32], row: usize, memory: &mut [f32], out: Row<'_>, count: &mut u32) {
        let ([_, _, w, n], [_, _, to_w, _], mut out) = (op.logits.shape, op.mask.shape, out);
        let (line, scores) = memory.split_at_mut(w * n);
        blend_line(op, logits, row, line);
        for i in 0..to_w {
            let taps = seen(op, i, w, to_w);
            let (mut best, mut largest) = (0, f32::NEG_INFINITY);
            for (label, place) in scores.iter_mut().enumerate() {
                let mut score = 0.0;
                for (x, weight) in taps.iter() {
                    score += weight * line[x * n + label];
                }
                *place = score;
                if score > largest || (score.is_nan() && !largest.is_nan()) {
                    (best, largest) = (label, score);
                }
            }
            *count += u32::from(!largest.is_finite());
            let sum: f32 = scores.iter().map(|score| exp::<FMA>(score - largest)).sum();
            let p = if largest.is_finite() { 1.0 / sum } else { f32::NAN };
            match op.threshold {
                Some(threshold) if p < threshold => out.mask.set(i, usize::MAX),
                _ => out.mask.set(i, best),
            }
            if let Some(best) = &mut out.best {
                best[i] = largest;
            }
            if let Some(confidence) = &mut out.confidence {
                confidence[i] = (255.0 * p).round_ties_even() as u8;
            }
        }
    }
}

/// The scores of the labels that [`argmax_row`] took, `mask`: its sums, with its bits, of one label a pixel.
fn best_row(op: &ops::Argmax, logits: &[f32], mask: Labels<'_>, row: usize, out: &mut [f32]) {
    let ([_, h, w, n], [_, to_h, to_w, _]) = (op.logits.shape, op.mask.shape);
    let y_taps = seen(op, row, h, to_h);
    for (i, out) in out.iter_mut().enumerate() {
        *out = 0.0;
        for (x, weight) in seen(op, i, w, to_w).iter() {
            let at = |y: usize| logits[(y * w + x) * n + mask.get(i)];
            *out += weight * y_taps.iter().fold(0.0, |sum, (y, weight)| sum + weight * at(y));
        }
    }
}
