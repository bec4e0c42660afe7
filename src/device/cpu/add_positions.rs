//! The class token, and the position table resized to the grid.

use super::Cpu;
use crate::ops;
use crate::resample::edges;

impl Cpu {
    pub(super) fn add_positions(&mut self, op: &ops::AddPositions) {
        let (class, positions) = (self.weights.vector(op.class), self.weights.vector(op.positions));
        self.arena.by_rows(op.tokens, |_, _, _, tokens| item(op, class, positions, tokens));
    }
}

/// In place on one batch item's tokens `[1 + h·w, d]`.
fn item(op: &ops::AddPositions, class: &[f32], positions: &[f32], tokens: &mut [f32]) {
    let (d, side, grid) = (class.len(), op.side, op.grid);
    for ((o, c), p) in tokens.iter_mut().zip(class).zip(positions) {
        *o = c + p;
    }
    let table = |y: usize, x: usize| &positions[(1 + y * side + x) * d..][..d];
    for (i, out) in tokens[d..].chunks_exact_mut(d).enumerate() {
        let (y, x) = (edges(i / grid.1, side, grid.0), edges(i % grid.1, side, grid.1));
        let corners = [table(y.low, x.low), table(y.low, x.high), table(y.high, x.low), table(y.high, x.high)];
        for (j, o) in out.iter_mut().enumerate() {
            let [a, b, c, e] = corners.map(|corner| corner[j]);
            let upper = a + x.t * (b - a);
            let lower = c + x.t * (e - c);
            *o += upper + y.t * (lower - upper);
        }
    }
}
