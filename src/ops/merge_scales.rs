//! What windows of several scales have summed up, resized and added: some rows of the whole photo's map.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Sums `[1, 1, pixels, c]` → `out` `[1, h, w, c]`. Of each scale a row of `out` sees two rows of the sums, a column two columns, with
/// weights in which is what a window covers and how often: the host's, in numbers. Columns do not go back along a row, those without
/// weight neither, whose values count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeScales {
    pub sums: Buf,
    /// (`U32`, `[1, scales, h, 2]`) The first pixels of the rows that a row sees.
    pub rows: Buf,
    /// (`F32`, of the same shape)
    pub row_weights: Buf,
    /// (`U32`, `[1, scales, w, 2]`) How far behind those the columns lie that a column sees.
    pub columns: Buf,
    /// (`F32`, of the same shape)
    pub column_weights: Buf,
    /// Any n neighbouring columns of `out` see at most n times as many columns of a scale, and one.
    pub density: usize,
    pub out: Buf,
}

impl MergeScales {
    pub fn scales(&self) -> usize {
        self.rows.shape[1]
    }

    /// Values of the sums that are read at most, each once.
    fn most_seen(&self) -> usize {
        self.sums.len().min(4 * self.scales() * self.out.len())
    }
}

impl PlanBuilder {
    pub fn merge_scales(&mut self, op: MergeScales) {
        self.push(op);
    }
}

impl Operation for MergeScales {
    fn check(&self) -> Result<(), String> {
        let MergeScales { sums, rows, row_weights, columns, column_weights, out, .. } = self;
        let (scales, [b, h, w, c]) = (self.scales(), out.shape);
        need(b == 1 && c == sums.channels(), || format!("{:?} becomes {:?}", sums.shape, out.shape))?;
        need(sums.element == Element::F32 && out.element == Element::F32, || "sums are float32".to_owned())?;
        let fits = rows.shape == [1, scales, h, 2] && columns.shape == [1, scales, w, 2];
        need(fits && rows.element == Element::U32 && columns.element == Element::U32, || {
            format!("rows of {:?} and columns of {:?}", rows.shape, columns.shape)
        })?;
        let fits = (row_weights.shape, column_weights.shape) == (rows.shape, columns.shape);
        let is_f32 = row_weights.element == Element::F32 && column_weights.element == Element::F32;
        need(fits && is_f32, || "a weight for each row and column".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.sums));
        see(Operand::Read(&mut self.rows));
        see(Operand::Read(&mut self.row_weights));
        see(Operand::Read(&mut self.columns));
        see(Operand::Read(&mut self.column_weights));
        see(Operand::Write(&mut self.out));
    }

    /// Of each scale four values.
    fn flop(&self) -> usize {
        8 * self.scales() * self.out.len()
    }

    fn moved_bytes(&self, activation: usize) -> Option<usize> {
        let tables = [self.rows, self.row_weights, self.columns, self.column_weights].map(|table| table.len());
        Some((self.most_seen() + self.out.len() + tables.iter().sum::<usize>()) * Element::F32.bytes(activation))
    }

    fn shapes(&self) -> String {
        format!("{} scales → {}", self.scales(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Seeded, Values};

    pub fn add(all: &mut Cases) {
        // One pixel; more scales than one; columns and channels past a block; a wide map; NaN, also where the weight is 0.
        let awkward = [
            (1, (1, 1), (1, 1), 1, Nothing),
            (2, (5, 7), (3, 9), 17, Nothing),
            (6, (13, 9), (4, 5), 33, Nothing),
            (3, (4, 40), (2, 70), 300, Nothing),
            (2, (3, 900), (2, 7), 20, Nothing),
            (1, (3, 5), (2, 3), 3000, Nothing),
            (2, (5, 7), (6, 8), 20, Nan),
        ];
        all.awkward.extend(awkward.map(|(scales, map, to, c, plant)| case(scales, map, to, c, plant)));
        all.real.push(case(6, (480, 640), (26, 640), 150, Nothing));
        all.real.push(case(1, (480, 640), (64, 640), 20, Nothing));
    }

    /// Scales of maps of one size; every fifth row and column has no second weight.
    pub fn case(scales: usize, (h, w): Map, to: Map, channels: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let sums = c.input([1, 1, scales * h * w, channels], Element::F32, 3.0);
        let axis = |c: &mut CaseBuilder, side: usize, from: usize, step: usize, of_scale: usize| {
            let shape = [1, scales, side, 2];
            let places = c.input_of(shape, Element::U32, move |_| {
                let all = (0..scales * side * 2).map(|k| (k / 2 / side, k / 2 % side, k % 2));
                Values::U32(all.map(|(s, i, k)| (s * of_scale + place(i, k, side, from) * step) as u32).collect())
            });
            let weights = c.input_of(shape, Element::F32, move |s: &mut Seeded| {
                let all = (0..scales * side * 2).map(|k| (k / 2 % side, k % 2));
                Values::F32(all.map(|(i, k)| if is_left_out(i, k) { 0.0 } else { 0.3 + s.value(0.5) }).collect())
            });
            (places, weights)
        };
        let (rows, row_weights) = axis(&mut c, to.0, h, w, h * w);
        let (columns, column_weights) = axis(&mut c, to.1, w, 1, 0);
        let out = c.output([1, to.0, to.1, channels], Element::F32);
        let sizes = format!("{scales}x{h}x{w}x{channels}-{}x{}", to.0, to.1);
        let density = (w - 1).div_ceil((to.1 - 1).max(1)).max(1);
        let op = MergeScales { sums, rows, row_weights, columns, column_weights, density, out };
        // What lies between the rows and columns that are seen need not be read.
        let seen = |side: usize, from: usize| {
            let all = (0..side * 2).filter(|k| !is_left_out(k / 2, k % 2)).map(|k| place(k / 2, k % 2, side, from));
            all.collect::<BTreeSet<_>>().len()
        };
        c.spare(4 * (op.most_seen() - scales * seen(to.0, h) * seen(to.1, w) * channels));
        c.build(sizes, out, op)
    }

    fn place(i: usize, k: usize, side: usize, from: usize) -> usize {
        (i * (from - 1) / (side - 1).max(1) + k).min(from - 1)
    }

    fn is_left_out(i: usize, k: usize) -> bool {
        i % 5 == 2 && k == 1
    }
}
