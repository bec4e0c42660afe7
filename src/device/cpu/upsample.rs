//! ×2 bilinear, corners aligned.

use super::Cpu;
use super::simd::multiversion;
use crate::ops;
use crate::resample::corners;

impl Cpu {
    pub(super) fn upsample(&mut self, op: &ops::Upsample) {
        let isa = self.isa;
        self.arena.by_rows(op.out, |inputs, b, y, out| row(isa, op, inputs.item(op.x.all(), b), y, out));
    }
}

multiversion! {
    /// One output row of the ×2 upsampling (corners aligned) of `x` `[h, w, c]`; `out` is `[2w, c]`.
    fn row(op: &ops::Upsample, x: &[f32], row: usize, out: &mut [f32]) {
        let [_, h, w, c] = op.x.shape;
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
