//! The operations that are bilinear resizing.

use super::mask::{Labels, LabelsMut};
use super::simd::multiversion;
use crate::device::Normalise;
use crate::resample::{Taps, corners, edges};

multiversion! {
    /// One output row of the ×2 upsampling (corners aligned) of `x` `[h, w, c]`; `out` is `[2w, c]`.
    pub fn upsample_row(x: &[f32], h: usize, w: usize, c: usize, row: usize, out: &mut [f32]) {
        let y = corners(row, h, 2 * h);
        let (top, bottom) = (&x[y.low * w * c..][..w * c], &x[y.high * w * c..][..w * c]);
        for (i, out) in out.chunks_exact_mut(c).enumerate() {
            let x = corners(i, w, 2 * w);
            let (a, b) = (&top[x.low * c..][..c], &top[x.high * c..][..c]);
            let (d, e) = (&bottom[x.low * c..][..c], &bottom[x.high * c..][..c]);
            for ((((o, a), b), d), e) in out.iter_mut().zip(a).zip(b).zip(d).zip(e) {
                let upper = a + x.t * (b - a);
                let lower = d + x.t * (e - d);
                *o = upper + y.t * (lower - upper);
            }
        }
    }
}

multiversion! {
    /// One row of one label of the upsampled scores: `logits` is `[h, w, n]`, `out` `[2w]`.
    pub fn score_row(logits: &[f32], shape: (usize, usize, usize), label: usize, row: usize, out: &mut [f32]) {
        let (h, w, n) = shape;
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

multiversion! {
    /// Row `place.0` of the mask's `place.1`: `logits` `[h, w, n]` upsampled ×2, resized to (`place.1`, `out.len()`),
    /// the largest label taken (NaN counts as the largest, as in PyTorch). `line` `[w, n]` is working memory. `not_finite`
    /// grows by the pixels whose largest score is no finite number.
    pub fn argmax_row(
        logits: &[f32],
        shape: (usize, usize, usize),
        place: (usize, usize),
        line: &mut [f32],
        out: LabelsMut<'_>,
        not_finite: &mut u32,
    ) {
        let ((h, w, n), (row, to_h), mut out) = (shape, place, out);
        line.fill(0.0);
        for (y, weight) in Taps::through_upsample(row, h, to_h).iter() {
            line.iter_mut().zip(&logits[y * w * n..][..w * n]).for_each(|(l, v)| *l += weight * v);
        }
        let to_w = out.len();
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
            *not_finite += u32::from(!largest.is_finite());
        }
    }
}

/// The scores of the labels that [`argmax_row`] took, `mask`: its sums, with its bits, of one label a pixel.
pub fn best_row(
    logits: &[f32],
    (h, w, n): (usize, usize, usize),
    (row, to_h): (usize, usize),
    mask: Labels<'_>,
    out: &mut [f32],
) {
    let y_taps = Taps::through_upsample(row, h, to_h);
    let to_w = out.len();
    for (i, out) in out.iter_mut().enumerate() {
        *out = 0.0;
        for (x, weight) in Taps::through_upsample(i, w, to_w).iter() {
            let at = |y: usize| logits[(y * w + x) * n + mask.get(i)];
            *out += weight * y_taps.iter().fold(0.0, |sum, (y, weight)| sum + weight * at(y));
        }
    }
}

/// One row of patches: photo `[h0, w0, 3]` resized to `size` (edges aligned), normalised; `out` is row `py` of the
/// grid, `[size.1 / patch, patch·patch·3]`.
pub fn patch_row(
    photo: &[u8],
    from: (usize, usize),
    size: (usize, usize),
    normalise: &Normalise,
    patch: usize,
    py: usize,
    out: &mut [f32],
) {
    let Normalise { mean, std } = *normalise;
    for ky in 0..patch {
        let y = edges(py * patch + ky, from.0, size.0);
        let (top, bottom) = (&photo[y.low * from.1 * 3..][..from.1 * 3], &photo[y.high * from.1 * 3..][..from.1 * 3]);
        for x_out in 0..size.1 {
            let x = edges(x_out, from.1, size.1);
            let place = ((x_out / patch) * patch * patch + ky * patch + x_out % patch) * 3;
            for c in 0..3 {
                let value = |row: &[u8], x: usize| f32::from(row[x * 3 + c]) / 255.0;
                let upper = value(top, x.low) + x.t * (value(top, x.high) - value(top, x.low));
                let lower = value(bottom, x.low) + x.t * (value(bottom, x.high) - value(bottom, x.low));
                out[place + c] = (upper + y.t * (lower - upper) - mean[c]) / std[c];
            }
        }
    }
}

/// In place on one batch item's tokens `[1 + h·w, d]`: see [`crate::device::Device::add_positions`].
pub fn add_positions(class: &[f32], positions: &[f32], side: usize, grid: (usize, usize), tokens: &mut [f32]) {
    let d = class.len();
    for ((o, c), p) in tokens.iter_mut().zip(class).zip(positions) {
        *o = c + p;
    }
    let table = |y: usize, x: usize| &positions[(1 + y * side + x) * d..][..d];
    for (i, out) in tokens[d..].chunks_exact_mut(d).enumerate() {
        let (y, x) = (edges(i / grid.1, side, grid.0), edges(i % grid.1, side, grid.1));
        let corners = [table(y.low, x.low), table(y.low, x.high), table(y.high, x.low), table(y.high, x.high)];
        for (j, o) in out.iter_mut().enumerate() {
            let [a, b, c, e] = corners.map(|corner| corner[j]);
            let upper = a + x.t * (b - a);
            let lower = c + x.t * (e - c);
            *o += upper + y.t * (lower - upper);
        }
    }
}
