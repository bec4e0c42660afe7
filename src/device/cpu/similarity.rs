//! Scores: numerators over the length of the coordinates, both interpolated from maps of half the size.

use super::math::inverse_root;
use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops;
use crate::resample::{Pair, corners};

/// float32 values of working memory that a task takes: a row of both maps.
pub fn work(op: &ops::Similarity) -> usize {
    op.numerators.shape[2] * (op.numerators.channels() + op.coordinates.channels())
}

impl Cpu {
    pub(super) fn similarity(&mut self, op: &ops::Similarity) {
        let isa = self.isa;
        self.arena.by_rows(op.out, |inputs, b, y, out| {
            let [numerators, coordinates] = [op.numerators, op.coordinates].map(|buf| inputs.item(buf.all(), b));
            scratch::work(work(op), |work| row(isa, op, numerators, coordinates, y, work, out));
        });
    }
}

multiversion! {
    /// One row of logits, `[2w, labels]`.
    fn row(op: &ops::Similarity, numerators: &[f32], coordinates: &[f32], y: usize, work: &mut [f32], out: &mut [f32]) {
        let ([_, h, w, labels], rank) = (op.numerators.shape, op.coordinates.channels());
        let (above, work) = work[..w * (labels + rank)].split_at_mut(w * labels);
        let pair = corners(y, h, 2 * h);
        between(numerators, w * labels, pair, above);
        between(coordinates, w * rank, pair, work);
        for (x, out) in out.chunks_exact_mut(labels).enumerate() {
            let Pair { low, high, t } = corners(x, w, 2 * w);
            let (a, b) = (&work[low * rank..][..rank], &work[high * rank..][..rank]);
            let squares = op.length.rest + squares(a, b, t);
            let inverse = if squares == 0.0 { 0.0 } else { op.length.factor * inverse_root(squares) };
            let (a, b) = (&above[low * labels..][..labels], &above[high * labels..][..labels]);
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = (a + t * (b - a)) * inverse;
            }
        }
    }
}

/// A row between two of a map.
#[inline(always)]
fn between(map: &[f32], len: usize, Pair { low, high, t }: Pair, out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(&map[low * len..][..len]).zip(&map[high * len..][..len]) {
        *out = a + t * (b - a);
    }
}

/// The squared length of what lies between two vectors.
#[inline(always)]
fn squares(a: &[f32], b: &[f32], t: f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            let v = a + t * (b - a);
            *lane += v * v;
        }
    }
    let tail = a_tail.iter().zip(b_tail).map(|(a, b)| a + t * (b - a));
    lanes.iter().sum::<f32>() + tail.map(|v| v * v).sum::<f32>()
}
