//! A map's vectors in the form in which they are given out: lengths first, a row of pixels at a time, then the values, by rows or by
//! groups of planes as the output has them.

use bytemuck::Pod;
use half::f16;
use rayon::prelude::*;

use super::arena::Inputs;
use super::simd::{Isa, multiversion};
use super::{Cpu, scratch};
use crate::ops::{self, Element, Layout};
use crate::resample::Taps;
use crate::unit_vector;

/// Planes of a task: a pixel's channels lie in one cache line.
const GROUP: usize = 16;

/// float32 values of working memory that a task takes: a row of the map and a vector.
pub fn work(op: &ops::FormFeatures) -> usize {
    (op.x.shape[2] + 1) * op.x.channels()
}

/// A value of the output.
trait Value: Pod + Send {
    fn of(value: f32) -> Self;
    fn is_infinite(self) -> bool;
}

impl Value for f32 {
    fn of(value: f32) -> f32 {
        value
    }

    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

impl Value for f16 {
    fn of(value: f32) -> f16 {
        f16::from_f32(value)
    }

    fn is_infinite(self) -> bool {
        f16::is_infinite(self)
    }
}

/// Some channels of one map, pixels of an output row after each other.
struct Vectors<'a> {
    isa: Isa,
    op: &'a ops::FormFeatures,
    /// `[h, w, c]`
    map: &'a [f32],
    first: usize,
    channels: usize,
}

impl Cpu {
    pub(super) fn form_features(&mut self, op: &ops::FormFeatures) {
        let isa = self.isa;
        if let Some(norms) = op.norms {
            self.arena.by_rows(norms, |inputs, b, y, out| {
                let all = Vectors::of(isa, op, &inputs, b, 0, op.x.channels());
                all.row(y, |x, vector| {
                    let squares = vector.iter().fold(0.0, |sum, value| sum + value * value);
                    out[x] = unit_vector::factor(1.0, f64::from(squares.sqrt())) as f32;
                });
            });
        }
        let count = match op.out.element {
            Element::F16 => self.formed::<f16>(op),
            _ => self.formed::<f32>(op),
        };
        self.arena.bytes_mut(op.not_finite).copy_from_slice(&count.to_ne_bytes());
    }

    /// The output's values; how many are no numbers.
    fn formed<T: Value>(&mut self, op: &ops::FormFeatures) -> u32 {
        let (isa, (h, w), c) = (self.isa, op.size(), op.x.channels());
        let (inputs, out) = self.arena.split(op.out);
        let items = bytemuck::cast_slice_mut::<f32, T>(out)[..op.out.len()].par_chunks_mut(h * w * c).enumerate();
        let scales = |b: usize, y: usize| op.norms.map(|norms| &inputs.item(norms.all(), b)[y * w..][..w]);
        let counts = items.map(|(b, item)| match op.layout {
            Layout::Hwc => {
                let rows = item.par_chunks_mut(w * c).enumerate().map(|(y, row)| {
                    let (scales, mut count) = (scales(b, y), 0);
                    Vectors::of(isa, op, &inputs, b, 0, c).row(y, |x, vector| {
                        let scale = scales.map_or(1.0, |scales| scales[x]);
                        let places = row[x * c..][..c].iter_mut();
                        places.zip(vector).for_each(|(place, value)| *place = formed(op, *value, scale, &mut count));
                    });
                    count
                });
                rows.sum::<u32>()
            }
            Layout::Chw => {
                let groups = item.par_chunks_mut(GROUP * h * w).enumerate().map(|(group, planes)| {
                    let vectors = Vectors::of(isa, op, &inputs, b, group * GROUP, planes.len() / (h * w));
                    let mut count = 0;
                    for y in 0..h {
                        let scales = scales(b, y);
                        vectors.row(y, |x, vector| {
                            let scale = scales.map_or(1.0, |scales| scales[x]);
                            let places = planes[y * w + x..].iter_mut().step_by(h * w);
                            places
                                .zip(vector)
                                .for_each(|(place, value)| *place = formed(op, *value, scale, &mut count));
                        });
                    }
                    count
                });
                groups.sum::<u32>()
            }
        });
        counts.sum()
    }
}

/// A value of the resized map as the output has it; `count` grows where it is no number.
#[inline(always)]
fn formed<T: Value>(op: &ops::FormFeatures, value: f32, scale: f32, count: &mut u32) -> T {
    let made = T::of(value * scale * op.factor);
    // Not a NaN either.
    let is_number = value.abs() <= op.limit && !made.is_infinite();
    *count += u32::from(!is_number);
    made
}

impl<'a> Vectors<'a> {
    fn of(isa: Isa, op: &'a ops::FormFeatures, inputs: &Inputs<'a>, b: usize, first: usize, channels: usize) -> Self {
        Vectors { isa, op, map: inputs.item(op.x.all(), b), first, channels }
    }

    fn taps(&self, i: usize, from: usize, to: usize) -> Taps {
        if self.op.resized { Taps::through_upsample(i, from, to) } else { Taps::identity(i) }
    }

    /// `take(x, vector)` for each pixel of the output's row `y`.
    fn row(&self, y: usize, mut take: impl FnMut(usize, &[f32])) {
        let ([_, h, w, c], (to_h, to_w), channels) = (self.op.x.shape, self.op.size(), self.channels);
        scratch::work((w + 1) * channels, |memory| {
            let (line, vector) = memory.split_at_mut(w * channels);
            let rows = self.taps(y, h, to_h);
            for (x, pixel) in line.chunks_exact_mut(channels).enumerate() {
                blend(self.isa, &self.map[x * c + self.first..], w * c, &rows, pixel);
            }
            for x in 0..to_w {
                blend(self.isa, line, channels, &self.taps(x, w, to_w), vector);
                take(x, vector);
            }
        });
    }
}

multiversion! {
    /// The weighted sum of vectors that lie `step` values from each other. One of weight 1 keeps its bits.
    fn blend(values: &[f32], step: usize, taps: &Taps, out: &mut [f32]) {
        for (k, (i, weight)) in taps.iter().enumerate() {
            let values = out.iter_mut().zip(&values[i * step..]);
            if k == 0 {
                values.for_each(|(out, value)| *out = weight * value);
            } else {
                values.for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}
