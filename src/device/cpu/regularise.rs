//! Spatial regularisation of the logits: one 3×3 kernel that all labels share.

use super::simd::multiversion;
use crate::model::config::Activation;

multiversion! {
    /// One row of the map: `x` has shape `[h, w, n]`, `out` `[w, n]`, `kernel` nine weights and a bias.
    pub fn row(
        x: &[f32],
        shape: (usize, usize, usize),
        kernel: &[f32],
        bottleneck: bool,
        activation: Option<Activation>,
        y: usize,
        out: &mut [f32],
    ) {
        let (h, w, n) = shape;
        for (column, out) in out.chunks_exact_mut(n).enumerate() {
            let strongest = if bottleneck {
                let pixel = &x[(y * w + column) * n..][..n];
                pixel.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a || b.is_nan() { *b } else { a })
            } else {
                0.0
            };
            out.fill(kernel[9] + strongest);
            for (tap, weight) in kernel[..9].iter().enumerate() {
                let (yy, xx) = ((y + tap / 3).wrapping_sub(1), (column + tap % 3).wrapping_sub(1));
                if yy < h && xx < w {
                    let pixel = &x[(yy * w + xx) * n..][..n];
                    out.iter_mut().zip(pixel).for_each(|(o, v)| *o += weight * v);
                }
            }
            match activation {
                None => {}
                Some(Activation::Relu) => out.iter_mut().for_each(|v| *v = super::math::relu(*v)),
                Some(Activation::Lrelu) => out.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.01 * *v } else { *v }),
                Some(Activation::Tanh) => out.iter_mut().for_each(|v| *v = v.tanh()),
            }
        }
    }
}
