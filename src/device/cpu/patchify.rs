//! The photo resized, normalised and cut in patches.

use super::Cpu;
use crate::ops;
use crate::ops::patchify::Normalise;
use crate::resample::edges;

impl Cpu {
    pub(super) fn patchify(&mut self, op: &ops::Patchify) {
        let bytes = op.photo.rows() * 3;
        self.arena.by_rows(op.out, |inputs, b, y, out| row(op, &inputs.get_u8(op.photo)[b * bytes..][..bytes], y, out));
    }
}

/// Row `py` of the grid of patches of one photo: `out` is `[w, patch·patch·3]`.
fn row(op: &ops::Patchify, photo: &[u8], py: usize, out: &mut [f32]) {
    let ops::Patchify { normalise: Normalise { mean, std }, patch, .. } = *op;
    let ([_, from_h, from_w, _], [_, h, w, _]) = (op.photo.shape, op.out.shape);
    for ky in 0..patch {
        let y = edges(py * patch + ky, from_h, h * patch);
        let (top, bottom) = (&photo[y.low * from_w * 3..][..from_w * 3], &photo[y.high * from_w * 3..][..from_w * 3]);
        for x_out in 0..w * patch {
            let x = edges(x_out, from_w, w * patch);
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
