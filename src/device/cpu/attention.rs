//! Attention in tiles with an online softmax (Dao et al., 2205.14135): no score matrix is ever stored.
//!
//! A task takes a block of queries of one batch item and goes through the heads; keys and values come in blocks that
//! stay in the second-level cache. For each panel of [`MR`] queries: scores by the micro-kernel, new maximum,
//! exponentials, rescaled sums, values by the micro-kernel, which reads the exponentials row by row as they lie.
//!
//! By hand: on the CPU only whole frameworks have it.

use super::gemm::{MR, NR, tile, tile_rows};
use super::simd::multiversion;
use super::{Cpu, math, scratch};
use crate::ops;

/// Keys taken at a time.
const KEYS: usize = 256;
/// Stride of the rows of scores: no power of two, which would crowd few sets of the cache.
const STRIDE: usize = KEYS + NR;
/// Queries of a task at most.
const QUERIES: usize = 40 * MR;

impl Cpu {
    pub(super) fn attention(&mut self, op: &ops::Attention) {
        let (isa, per_task) = (self.isa, queries_per_task(op.out.rows(), self.workers.threads));
        self.arena.by_blocks(op.out.all(), per_task, |inputs, b, i, out| {
            let qkv = inputs.item(op.qkv.all(), b);
            scratch::work(work(op), |work| block(isa, op, qkv, i * per_task, work, out));
        });
    }
}

/// Queries of a task, for `t` queries on `threads` threads.
fn queries_per_task(t: usize, threads: usize) -> usize {
    let tasks = t.div_ceil(QUERIES).next_multiple_of(threads.max(1));
    t.div_ceil(tasks).next_multiple_of(MR)
}

/// float32 values of working memory that a task takes.
pub fn work(op: &ops::Attention) -> usize {
    let d = op.size();
    let padded = d.next_multiple_of(NR);
    // queries, keys, values, one panel of scores, sums, maxima and denominators
    QUERIES * d + KEYS * d + KEYS * padded + MR * STRIDE + QUERIES * padded + 2 * QUERIES
}

multiversion! {
    /// The queries from `first` on whose `out` `[queries, heads, d]` is, all heads; `qkv` is `[t, 3, heads, d]`.
    fn block(op: &ops::Attention, qkv: &[f32], first: usize, work: &mut [f32], out: &mut [f32]) {
        let (d, heads, causal) = (op.size(), op.heads, op.causal);
        let (padded, row) = (d.next_multiple_of(NR), 3 * heads * d);
        let (rows, t) = (out.len() / (heads * d), qkv.len() / row);
        let (queries, work) = work.split_at_mut(QUERIES * d);
        let (keys, work) = work.split_at_mut(KEYS * d);
        let (values, work) = work.split_at_mut(KEYS * padded);
        let (scores, work) = work.split_at_mut(MR * STRIDE);
        let (sums, work) = work.split_at_mut(QUERIES * padded);
        let (maxima, denominators) = work.split_at_mut(QUERIES);
        let scale = 1.0 / (d as f32).sqrt();
        // Whole panels of keys, so that the order of the sums does not depend on where a task ends.
        let last = if causal { (first + rows).next_multiple_of(NR).min(t) } else { t };
        for head in 0..heads {
            let column = |part: usize| (part * heads + head) * d;
            pack_columns::<MR>(qkv, row, column(0), first, rows, d, scale, queries);
            sums.fill(0.0);
            maxima.fill(f32::NEG_INFINITY);
            denominators.fill(0.0);
            for k0 in (0..last).step_by(KEYS) {
                let count = KEYS.min(last - k0);
                pack_columns::<NR>(qkv, row, column(1), k0, count, d, 1.0, keys);
                pack_rows(qkv, row, column(2), k0, count, d, values);
                for q0 in (0..rows).step_by(MR) {
                    let panel = &queries[q0 * d..][..MR * d];
                    score::<FMA>(panel, keys, count, scores);
                    for i in 0..MR.min(rows - q0) {
                        let row = &mut scores[i * STRIDE..][..count];
                        if causal {
                            let visible = (first + q0 + i + 1).saturating_sub(k0).min(count);
                            row[visible..].fill(f32::NEG_INFINITY);
                        }
                        let rescale = online_softmax::<FMA>(row, &mut maxima[q0 + i], &mut denominators[q0 + i]);
                        sums[(q0 + i) * padded..][..padded].iter_mut().for_each(|s| *s *= rescale);
                    }
                    weighted_values::<FMA>(scores, values, count, &mut sums[q0 * padded..][..MR * padded], padded);
                }
            }
            for q in 0..rows {
                let scale = 1.0 / denominators[q];
                let place = &mut out[q * heads * d + head * d..][..d];
                place.iter_mut().zip(&sums[q * padded..]).for_each(|(o, s)| *o = s * scale);
            }
        }
    }
}

/// Rows first.. of one head's part as panels of P rows: `[⌈count / P⌉, d, P]`, zeros beyond `count`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn pack_columns<const P: usize>(
    x: &[f32],
    row: usize,
    column: usize,
    first: usize,
    count: usize,
    d: usize,
    scale: f32,
    panels: &mut [f32],
) {
    for (j, panel) in panels.chunks_exact_mut(P * d).take(count.div_ceil(P)).enumerate() {
        // Rows beyond `count` repeat the last one for the copy, then become zeros.
        let valid = P.min(count - j * P);
        let rows: [&[f32]; P] = std::array::from_fn(|i| &x[(first + j * P + i.min(valid - 1)) * row + column..][..d]);
        for (c, slots) in panel.as_chunks_mut::<P>().0.iter_mut().enumerate().take(d) {
            for i in 0..P {
                slots[i] = rows[i][c] * scale;
            }
            slots[valid..].fill(0.0);
        }
    }
}

/// Rows first.. of one head's part as panels of NR columns: `[⌈d / NR⌉, count, NR]`, zeros beyond d.
#[inline(always)]
fn pack_rows(x: &[f32], row: usize, column: usize, first: usize, count: usize, d: usize, panels: &mut [f32]) {
    for (c0, panel) in (0..d).step_by(NR).zip(panels.chunks_exact_mut(count * NR)) {
        let width = NR.min(d - c0);
        for (slots, k) in panel.as_chunks_mut::<NR>().0.iter_mut().zip(first..) {
            slots[..width].copy_from_slice(&x[k * row + column + c0..][..width]);
            slots[width..].fill(0.0);
        }
    }
}

/// One panel of queries times `count` keys → `scores`, rows of stride `STRIDE`.
#[inline(always)]
fn score<const FMA: bool>(queries: &[f32], keys: &[f32], count: usize, scores: &mut [f32]) {
    let d = queries.len() / MR;
    for (j, keys) in keys.chunks_exact(NR * d).take(count.div_ceil(NR)).enumerate() {
        let mut sums = [[0.0; NR]; MR];
        tile::<FMA>(queries, keys, &mut sums);
        for (i, sums) in sums.iter().enumerate() {
            scores[i * STRIDE + j * NR..][..NR].copy_from_slice(sums);
        }
    }
}

/// Scores → exponentials against the running maximum; returns what the sums so far must be multiplied by.
#[inline(always)]
fn online_softmax<const FMA: bool>(scores: &mut [f32], maximum: &mut f32, denominator: &mut f32) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; NR];
    let (chunks, rest) = scores.as_chunks::<NR>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, s)| *lane = if *s > *lane { *s } else { *lane });
    }
    let largest = rest.iter().chain(&lanes).fold(*maximum, |a, b| if *b > a { *b } else { a });
    if largest == f32::NEG_INFINITY {
        // Nothing but masked keys (weight 0) and NaN, which stay.
        scores.iter_mut().for_each(|s| *s = if s.is_nan() { *s } else { 0.0 });
        return 1.0;
    }
    let rescale = math::exp::<FMA>(*maximum - largest);
    let mut lanes = [0.0f32; NR];
    let (chunks, rest) = scores.as_chunks_mut::<NR>();
    for chunk in chunks {
        for (lane, s) in lanes.iter_mut().zip(chunk) {
            *s = math::exp::<FMA>(*s - largest);
            *lane += *s;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for s in rest {
        *s = math::exp::<FMA>(*s - largest);
        sum += *s;
    }
    *maximum = largest;
    *denominator = *denominator * rescale + sum;
    rescale
}

/// sums += weights · values for one panel of queries; the weights are rows of stride `STRIDE`.
#[inline(always)]
fn weighted_values<const FMA: bool>(weights: &[f32], values: &[f32], count: usize, sums: &mut [f32], padded: usize) {
    for (j, values) in values.chunks_exact(count * NR).take(padded / NR).enumerate() {
        let mut acc = [[0.0; NR]; MR];
        for (acc, row) in acc.iter_mut().zip(sums.chunks_exact(padded)) {
            acc.copy_from_slice(&row[j * NR..][..NR]);
        }
        let rows = std::array::from_fn(|i| &weights[i * STRIDE..][..count]);
        tile_rows::<FMA>(rows, values, &mut acc);
        for (acc, row) in acc.iter().zip(sums.chunks_exact_mut(padded)) {
            row[j * NR..][..NR].copy_from_slice(acc);
        }
    }
}
