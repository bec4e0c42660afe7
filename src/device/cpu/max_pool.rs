//! 3×3 maximum, stride 2, pad 1 (the ResNet stem).

use super::simd::multiversion;

multiversion! {
    /// One output row: `x` is `[h, w, c]`, `out` `[⌈w/2⌉, c]`.
    pub fn row(x: &[f32], h: usize, w: usize, c: usize, y: usize, out: &mut [f32]) {
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
