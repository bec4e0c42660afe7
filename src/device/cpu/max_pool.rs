//! 3×3 maximum, stride 2, pad 1 (the ResNet stem).

use super::Cpu;
use super::simd::multiversion;
use crate::ops;

impl Cpu {
    pub(super) fn max_pool(&mut self, op: &ops::MaxPool) {
        let isa = self.isa;
        self.arena.by_rows(op.out, |inputs, b, y, out| row(isa, op, inputs.item(op.x.all(), b), y, out));
    }
}

multiversion! {
    /// One output row: `x` is `[h, w, c]`, `out` `[⌈w/2⌉, c]`.
    fn row(op: &ops::MaxPool, x: &[f32], y: usize, out: &mut [f32]) {
        let [_, h, w, c] = op.x.shape;
        for (column, out) in out.chunks_exact_mut(c).enumerate() {
            out.fill(f32::NEG_INFINITY);
            for tap in 0..9 {
                let (yy, xx) = ((2 * y + tap / 3).wrapping_sub(1), (2 * column + tap % 3).wrapping_sub(1));
                if yy < h && xx < w {
                    let pixel = &x[(yy * w + xx) * c..][..c];
                    out.iter_mut().zip(pixel).for_each(|(o, v)| *o = if *v > *o || v.is_nan() { *v } else { *o });
                }
            }
        }
    }
}
