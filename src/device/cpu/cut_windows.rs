//! Windows of a photo, a row of patches at a time.

use super::Cpu;
use super::simd::multiversion;
use crate::ops;
use crate::ops::cut_windows::TAPS;

impl Cpu {
    pub(super) fn cut_windows(&mut self, op: &ops::CutWindows) {
        let (isa, (height, width)) = (self.isa, op.window());
        self.arena.by_rows(op.out, |inputs, b, y, out| {
            let first = b * (height + width) * TAPS;
            let seen = &inputs.get_u32(op.seen)[first..][..(height + width) * TAPS];
            let weights = &inputs.get(op.weights)[first..][..(height + width) * TAPS];
            let photo = inputs.get_u8(op.photo.buf);
            for row in y * op.patch..(y + 1) * op.patch {
                row_of_pixels(isa, op, photo, seen, weights, row, out);
            }
        });
    }
}

/// What output `i` of an axis sees: places and weights.
fn taps<'a>(seen: &'a [u32], weights: &'a [f32], i: usize) -> impl Iterator<Item = (usize, f32)> + 'a {
    let all = seen[i * TAPS..][..TAPS].iter().zip(&weights[i * TAPS..][..TAPS]);
    all.filter(|(_, weight)| **weight != 0.0).map(|(place, weight)| (*place as usize, *weight))
}

multiversion! {
    /// Row `row` of a window, into its places in a row of patches `[w, patch·patch·3]`.
    fn row_of_pixels(op: &ops::CutWindows, photo: &[u8], seen: &[u32], weights: &[f32], row: usize, out: &mut [f32]) {
        let ((height, width), patch, from_width) = (op.window(), op.patch, op.photo.width);
        for x in 0..width {
            let mut colours = [0.0f32; 3];
            for (column, column_weight) in taps(seen, weights, height + x) {
                for (line, row_weight) in taps(seen, weights, row) {
                    let pixel = &photo[(line * from_width + column) * 3..][..3];
                    for c in 0..3 {
                        colours[c] += column_weight * row_weight * f32::from(pixel[c]);
                    }
                }
            }
            let place = ((x / patch * patch + row % patch) * patch + x % patch) * 3;
            for c in 0..3 {
                out[place + c] = (colours[c] / 255.0 - op.normalise.mean[c]) / op.normalise.std[c];
            }
        }
    }
}
