//! Values of a half-size map at points of the photo.

use rayon::prelude::*;

use super::Cpu;
use crate::ops;
use crate::resample::Taps;

impl Cpu {
    pub(super) fn sample(&mut self, op: &ops::Sample) {
        let (inputs, out_all) = self.arena.split(op.out);
        let (n, c, points) = (op.points.rows(), op.x.channels(), inputs.get(op.points).as_chunks::<2>().0);
        out_all.par_chunks_mut(c).zip(points).with_min_len(16).enumerate().for_each(|(i, (out, at))| {
            point(op, inputs.item(op.x.all(), i / n), *at, out);
        });
    }
}

/// The two pixels on one axis of `to` that a coordinate lies between, each with its weight. A NaN counts as 0.
fn neighbours(position: f32, to: usize) -> [(usize, f32); 2] {
    let position = f64::from(position).max(0.0).min((to - 1) as f64);
    let low = position as usize;
    let t = (position - low as f64) as f32;
    [(low, 1.0 - t), ((low + 1).min(to - 1), t)]
}

/// `x` `[h, w, c]` at `point` = (x, y), in pixels of the photo; `out` is `[c]`.
fn point(op: &ops::Sample, x: &[f32], point: [f32; 2], out: &mut [f32]) {
    let ([_, h, w, c], photo) = (op.x.shape, op.photo);
    out.fill(0.0);
    let taps = |position, half, to| {
        let pixels = neighbours(position, to).into_iter().filter(|(_, weight)| *weight != 0.0);
        pixels.map(move |(pixel, outer)| (Taps::through_upsample(pixel, half, to), outer))
    };
    for (rows, row_weight) in taps(point[1], h, photo.0) {
        for (columns, column_weight) in taps(point[0], w, photo.1) {
            for (row, row_tap) in rows.iter() {
                for (column, column_tap) in columns.iter() {
                    let weight = row_weight * row_tap * column_weight * column_tap;
                    let place = &x[(row * w + column) * c..][..c];
                    out.iter_mut().zip(place).for_each(|(o, v)| *o += weight * v);
                }
            }
        }
    }
}
