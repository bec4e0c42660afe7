//! The photo resized, normalised and cut in patches.

use super::Cpu;
use super::photo::{self, Colours};
use crate::ops;
use crate::ops::patchify::Normalise;
use crate::resample::edges;

impl Cpu {
    pub(super) fn patchify(&mut self, op: &ops::Patchify) {
        let bytes = op.photo.bytes();
        self.arena.by_rows(op.out, |inputs, b, y, out| {
            photo::read(&op.photo, &inputs.bytes(op.photo.buf)[b * bytes..][..bytes], Row { op, y, out });
        });
    }
}

/// Row `y` of the grid of patches of one photo: `out` is `[w, patch·patch·3]`.
struct Row<'a> {
    op: &'a ops::Patchify,
    y: usize,
    out: &'a mut [f32],
}

impl photo::Reader for Row<'_> {
    fn read(self, photo: &impl Colours) {
        let Row { op, y: py, out } = self;
        let ops::Patchify { normalise: Normalise { mean, std }, patch, .. } = *op;
        let (from_h, from_w, [_, h, w, _]) = (op.photo.height, op.photo.width, op.out.shape);
        for ky in 0..patch {
            let y = edges(py * patch + ky, from_h, h * patch);
            let (top, bottom) = (photo.row(y.low), photo.row(y.high));
            for x_out in 0..w * patch {
                let x = edges(x_out, from_w, w * patch);
                let place = ((x_out / patch) * patch * patch + ky * patch + x_out % patch) * 3;
                let [top_left, top_right, bottom_left, bottom_right] =
                    [top(x.low), top(x.high), bottom(x.low), bottom(x.high)];
                for c in 0..3 {
                    let upper = top_left[c] + x.t * (top_right[c] - top_left[c]);
                    let lower = bottom_left[c] + x.t * (bottom_right[c] - bottom_left[c]);
                    out[place + c] = (upper + y.t * (lower - upper) - mean[c]) / std[c];
                }
            }
        }
    }
}
