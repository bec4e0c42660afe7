//! A window's map, added where the window lies, a row of the sums at a time.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::simd::multiversion;
use super::{Cpu, scratch};
use crate::ops::add_window::{Place, WORDS};
use crate::ops::{self, Element};
use crate::resample::{Pair, corners};

/// float32 values of working memory that a task takes: a row of the map, and a second one of halves.
pub fn work(op: &ops::AddWindow) -> usize {
    2 * op.map.shape[2] * op.map.channels()
}

impl Cpu {
    pub(super) fn add_window(&mut self, op: &ops::AddWindow) {
        let (isa, c) = (self.isa, op.sums.channels());
        let (inputs, sums) = self.arena.split(op.sums);
        let places: &[Place] = bytemuck::cast_slice(&inputs.get_u32(op.places)[..op.map.batch() * WORDS]);
        let place = places[op.item];
        let Place { base, ring, width, rows: [first, end], to_row, .. } = place;
        if first >= end {
            return;
        }
        let bytes = inputs.bytes(op.map);
        let map = &bytes[op.item * bytes.len() / op.map.batch()..][..bytes.len() / op.map.batch()];
        let region = &mut sums[base as usize * c..][..(ring * width) as usize * c];
        region.par_chunks_mut(width as usize * c).enumerate().for_each(|(at, sums)| {
            let row = first + (at as u32 + ring - to_row) % ring;
            if row < end {
                scratch::work(work(op), |memory| {
                    let line = line_of(op, map, row as usize, memory);
                    add_row(isa, op, &place, line, row, sums);
                });
            }
        });
    }
}

/// The map's row that a row of the window sees, `[w, c]`.
fn line_of<'a>(op: &ops::AddWindow, map: &[u8], row: usize, memory: &'a mut [f32]) -> &'a [f32] {
    let [_, h, w, c] = op.map.shape;
    let y = if op.doubled { corners(row, h, 2 * h) } else { Pair { low: row, high: row, t: 0.0 } };
    let (line, other) = memory.split_at_mut(w * c);
    row_of(op, map, y.low, line);
    if y.high != y.low {
        row_of(op, map, y.high, other);
        line.iter_mut().zip(other).for_each(|(low, high)| *low += y.t * (*high - *low));
    }
    line
}

fn row_of(op: &ops::AddWindow, map: &[u8], y: usize, line: &mut [f32]) {
    let from = y * line.len();
    match op.map.element {
        Element::F16 => bytemuck::cast_slice::<u8, f16>(map)[from..][..line.len()].convert_to_f32_slice(line),
        _ => line.copy_from_slice(&bytemuck::cast_slice(map)[from..][..line.len()]),
    }
}

multiversion! {
    /// A row of the window onto a row of its region `[width, c]`.
    fn add_row(op: &ops::AddWindow, place: &Place, line: &[f32], row: u32, sums: &mut [f32]) {
        let (c, w, to) = (op.map.channels(), op.map.shape[2], op.window().1);
        let [first, end] = place.columns;
        let sums = sums[place.to_column as usize * c..].chunks_exact_mut(c);
        for (column, sums) in (first..end).zip(sums) {
            let i = if place.mirrored == 1 { to - 1 - column as usize } else { column as usize };
            let x = if op.doubled { corners(i, w, to) } else { Pair { low: i, high: i, t: 0.0 } };
            let (low, high) = (&line[x.low * c..][..c], &line[x.high * c..][..c]);
            if row >= place.fresh_row && column >= place.fresh_column {
                for ((sum, low), high) in sums.iter_mut().zip(low).zip(high) {
                    *sum = low + x.t * (high - low);
                }
            } else {
                for ((sum, low), high) in sums.iter_mut().zip(low).zip(high) {
                    *sum += low + x.t * (high - low);
                }
            }
        }
    }
}
