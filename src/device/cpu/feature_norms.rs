//! What brings each vector of a resized map to length 1.

use rayon::prelude::*;

use super::resized::{self, Columns, Map, Rows};
use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops;
use crate::unit_vector;

/// Channels at a time: one cache line of a pixel.
const GROUP: usize = 16;
/// Rows of the output of a task.
const BAND: usize = 32;

/// float32 values of working memory that a task takes.
pub fn work(op: &ops::FeatureNorms) -> usize {
    resized::work(op.x.shape[2], GROUP) + op.out.shape[2]
}

impl Cpu {
    pub(super) fn feature_norms(&mut self, op: &ops::FeatureNorms) {
        let (isa, [_, h, w, c], [_, to_h, to_w, _]) = (self.isa, op.x.shape, op.out.shape);
        let columns = Columns::new(w, to_w);
        let (inputs, out) = self.arena.split(op.out);
        let map = Map { values: inputs.get(op.x), shape: [h, w, c] };
        out.par_chunks_mut(BAND * to_w).enumerate().for_each(|(band, norms)| {
            norms.fill(0.0);
            scratch::work(work(op), |memory| {
                let (values, memory) = memory.split_at_mut(to_w);
                for first in (0..c).step_by(GROUP) {
                    let channels = GROUP.min(c - first);
                    let memory = &mut memory[..resized::work(w, channels)];
                    let mut rows = Rows::new(isa, map, to_h, &columns, (first, channels), memory);
                    for (i, norms) in norms.chunks_exact_mut(to_w).enumerate() {
                        rows.go_to(band * BAND + i);
                        for k in 0..channels {
                            rows.channel(k, values);
                            add_squares(isa, values, norms);
                        }
                    }
                }
            });
            norms.iter_mut().for_each(|norm| *norm = unit_vector::factor(1.0, norm.sqrt().into()) as f32);
        });
    }
}

multiversion! {
    fn add_squares(values: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to += value * value);
    }
}
