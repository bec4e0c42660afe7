//! Sums of several scales, resized and added, a row of the output at a time.

use super::Cpu;
use super::arena::Inputs;
use super::simd::multiversion;
use crate::ops;

impl Cpu {
    pub(super) fn merge_scales(&mut self, op: &ops::MergeScales) {
        let isa = self.isa;
        self.arena.by_rows(op.out, |inputs, _, y, out| merge_row(isa, op, &inputs, y, out));
    }
}

/// A table's two places and their weights.
fn pair(places: &[u32], weights: &[f32], i: usize) -> [(usize, f32); 2] {
    [0, 1].map(|k| (places[2 * i + k] as usize, weights[2 * i + k]))
}

multiversion! {
    /// Row `y` of the output, `[w, c]`.
    fn merge_row(op: &ops::MergeScales, inputs: &Inputs<'_>, y: usize, out: &mut [f32]) {
        let [_, h, w, c] = op.out.shape;
        let sums = inputs.get(op.sums);
        out.fill(0.0);
        for scale in 0..op.scales() {
            let rows = pair(inputs.get_u32(op.rows), inputs.get(op.row_weights), scale * h + y);
            for (x, out) in out.chunks_exact_mut(c).enumerate() {
                let columns = pair(inputs.get_u32(op.columns), inputs.get(op.column_weights), scale * w + x);
                for (column, column_weight) in columns {
                    for (row, row_weight) in rows {
                        let weight = row_weight * column_weight;
                        if row_weight != 0.0 && column_weight != 0.0 {
                            let values = &sums[(row + column) * c..][..c];
                            out.iter_mut().zip(values).for_each(|(out, value)| *out += weight * value);
                        }
                    }
                }
            }
        }
    }
}
