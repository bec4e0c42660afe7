//! Some channels of a map at another size.

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::resized::{self, Columns, Map, Rows};
use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops::{self, Element};

/// Planes of a task: a pixel's channels lie in one cache line.
const GROUP: usize = 16;
/// Tasks for each thread.
const TASKS: usize = 8;

/// float32 values of working memory that a task takes.
pub fn work(op: &ops::ResizeFeatures) -> usize {
    let [_, planes, _, width] = op.out.shape;
    resized::work(op.x.shape[2], planes.min(GROUP)) + width
}

/// Makes a row of float32 values.
type Fill<'a> = &'a mut dyn FnMut(&mut [f32]);

impl Cpu {
    pub(super) fn resize_features(&mut self, op: &ops::ResizeFeatures) {
        match op.out.element {
            Element::F16 => self.planes(op, |fill: Fill<'_>, values, out: &mut [f16]| {
                fill(values);
                out.convert_from_f32_slice(values);
            }),
            _ => self.planes(op, |fill: Fill<'_>, _, out: &mut [f32]| fill(out)),
        }
    }

    /// `make` fills a row of the output, which may have values beside it in between.
    fn planes<T: Pod + Send>(
        &mut self,
        op: &ops::ResizeFeatures,
        make: impl Fn(Fill<'_>, &mut [f32], &mut [T]) + Sync,
    ) {
        let (isa, [_, h, w, c], [_, planes, to_h, to_w]) = (self.isa, op.x.shape, op.out.shape);
        let columns = Columns::new(w, to_w);
        let (inputs, out) = self.arena.split(op.out);
        let map = Map { values: inputs.get(op.x), shape: [h, w, c] };
        let (first, scale) = (inputs.get_u32(op.first)[0] as usize, op.scale.map(|scale| inputs.get(scale)));
        let (pixels, there) = (to_h * to_w, planes.min(c.saturating_sub(first)));
        let band_rows = to_h.div_ceil(TASKS * self.workers.threads);
        let out = &mut bytemuck::cast_slice_mut::<f32, T>(out)[..there * pixels];
        out.par_chunks_mut(GROUP * pixels).enumerate().for_each(|(group, planes)| {
            let channels = (first + group * GROUP, planes.len() / pixels);
            bands(planes, pixels, band_rows * to_w).into_par_iter().enumerate().for_each(|(band, mut planes)| {
                scratch::work(work(op), |memory| {
                    let (values, memory) = memory.split_at_mut(to_w);
                    let memory = &mut memory[..resized::work(w, channels.1)];
                    let mut rows = Rows::new(isa, map, to_h, &columns, channels, memory);
                    for i in 0..planes[0].len() / to_w {
                        let row = band * band_rows + i;
                        rows.go_to(row);
                        for (k, plane) in planes.iter_mut().enumerate() {
                            let mut fill = |out: &mut [f32]| {
                                rows.channel(k, out);
                                if let Some(scale) = scale {
                                    scale_each(isa, &scale[row * to_w..][..to_w], out);
                                }
                                if op.factor != 1.0 {
                                    scale_all(isa, op.factor, out);
                                }
                            };
                            make(&mut fill, values, &mut plane[i * to_w..][..to_w]);
                        }
                    }
                });
            });
        });
    }
}

/// Planes of so many pixels, cut into bands: of each band its part of every plane.
fn bands<T>(planes: &mut [T], pixels: usize, band: usize) -> Vec<Vec<&mut [T]>> {
    let mut bands: Vec<Vec<&mut [T]>> = (0..pixels.div_ceil(band)).map(|_| Vec::new()).collect();
    for plane in planes.chunks_exact_mut(pixels) {
        bands.iter_mut().zip(plane.chunks_mut(band)).for_each(|(parts, part)| parts.push(part));
    }
    bands
}

multiversion! {
    fn scale_each(scale: &[f32], values: &mut [f32]) {
        values.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
    }
}

multiversion! {
    fn scale_all(factor: f32, values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}
