//! Everything bilinear: positions and weights along one axis, and the operations built on them.

use super::simd::multiversion;
use crate::device::Normalise;

/// Two neighbours on one axis and the weight of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub low: usize,
    pub high: usize,
    pub t: f32,
}

/// Where output `i` of `to` falls among `from` inputs, edges aligned (PyTorch's align_corners=False).
#[inline(always)]
pub fn edges(i: usize, from: usize, to: usize) -> Pair {
    if from == to {
        return Pair { low: i, high: i, t: 0.0 };
    }
    at(((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0), from)
}

/// Where output `i` of `to` falls among `from` inputs, first and last aligned (align_corners=True).
#[inline(always)]
pub fn corners(i: usize, from: usize, to: usize) -> Pair {
    if to <= 1 || from <= 1 {
        return Pair { low: 0, high: 0, t: 0.0 };
    }
    at(i as f64 * (from - 1) as f64 / (to - 1) as f64, from)
}

#[inline(always)]
fn at(position: f64, from: usize) -> Pair {
    let low = (position as usize).min(from - 1);
    Pair { low, high: (low + 1).min(from - 1), t: (position - low as f64) as f32 }
}

/// Up to four neighbours on one axis: two bilinear steps after each other.
#[derive(Clone, Copy, Debug)]
pub struct Taps {
    pub index: [usize; 4],
    pub weight: [f32; 4],
    pub count: usize,
}

impl Taps {
    /// Output `i` of `to`, resized (edges aligned) from 2·`half`, upsampled (corners aligned) from `half`.
    #[inline(always)]
    pub fn through_upsample(i: usize, half: usize, to: usize) -> Taps {
        let mut taps = Taps { index: [0; 4], weight: [0.0; 4], count: 0 };
        let outer = edges(i, 2 * half, to);
        for (j, weight) in [(outer.low, 1.0 - outer.t), (outer.high, outer.t)] {
            let inner = corners(j, half, 2 * half);
            taps.add(inner.low, weight * (1.0 - inner.t));
            taps.add(inner.high, weight * inner.t);
        }
        taps
    }

    #[inline(always)]
    fn add(&mut self, index: usize, weight: f32) {
        if weight == 0.0 {
            return;
        }
        match self.index[..self.count].iter().position(|i| *i == index) {
            Some(i) => self.weight[i] += weight,
            None => {
                self.index[self.count] = index;
                self.weight[self.count] = weight;
                self.count += 1;
            }
        }
    }

    #[inline(always)]
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.index[..self.count].iter().copied().zip(self.weight[..self.count].iter().copied())
    }
}

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
    /// the largest label taken (NaN counts as the largest, as in PyTorch). `line` `[w, n]` is working memory.
    pub fn argmax_row(
        logits: &[f32],
        shape: (usize, usize, usize),
        place: (usize, usize),
        line: &mut [f32],
        out: &mut [u16],
    ) {
        let ((h, w, n), (row, to_h)) = (shape, place);
        line.fill(0.0);
        for (y, weight) in Taps::through_upsample(row, h, to_h).iter() {
            line.iter_mut().zip(&logits[y * w * n..][..w * n]).for_each(|(l, v)| *l += weight * v);
        }
        let to_w = out.len();
        for (i, out) in out.iter_mut().enumerate() {
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
            *out = best as u16;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_step_taps_are_the_two_steps() {
        for (half, to) in [(1, 1), (1, 7), (3, 6), (5, 10), (7, 33), (16, 5), (48, 96), (48, 500)] {
            let values: Vec<f32> = (0..half).map(|i| ((i * 7919) % 13) as f32).collect();
            let pick = |v: &[f32], p: Pair| v[p.low] + p.t * (v[p.high] - v[p.low]);
            let doubled: Vec<f32> = (0..2 * half).map(|i| pick(&values, corners(i, half, 2 * half))).collect();
            for i in 0..to {
                let want = pick(&doubled, edges(i, 2 * half, to));
                let taps = Taps::through_upsample(i, half, to);
                let got: f32 = taps.iter().map(|(j, w)| w * values[j]).sum();
                assert!((got - want).abs() < 1e-4, "{half} → {to}, {i}: {got}, not {want}");
            }
        }
    }
}
