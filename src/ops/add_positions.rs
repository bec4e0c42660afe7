//! The class token, and the position table resized to the grid.

use super::{Buf, Element, Operand, Operation, PlanBuilder, Vector, need};

/// In place on `tokens` `[b, 1, 1 + h·w, d]`: row 0 becomes class token + position 0; the patch rows get the `side`×`side`
/// position grid, resized to `grid` = (h, w) (bilinear, align_corners=False), added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddPositions {
    /// `[d]`
    pub class: Vector,
    /// `[1 + side·side, d]`
    pub positions: Vector,
    pub side: usize,
    pub grid: (usize, usize),
    pub tokens: Buf,
}

impl PlanBuilder {
    pub fn add_positions(&mut self, class: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf) {
        self.push(AddPositions { class, positions, side, grid, tokens });
    }
}

impl Operation for AddPositions {
    fn check(&self) -> Result<(), String> {
        let AddPositions { class, positions, side, grid, tokens } = self;
        let d = tokens.channels();
        need(tokens.element == Element::F32, || "the residual stream is float32".to_owned())?;
        need(tokens.rows() == 1 + grid.0 * grid.1, || format!("{grid:?} patches and a class token are other rows"))?;
        need(class.len == d, || format!("a class token of {} values for {d} channels", class.len))?;
        need(positions.len == (1 + side * side) * d, || {
            format!("{} position values for a side of {side}", positions.len)
        })
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Vector(&mut self.class));
        see(Operand::Vector(&mut self.positions));
        see(Operand::Update(&mut self.tokens));
    }

    fn flop(&self) -> usize {
        8 * self.tokens.len()
    }

    fn shapes(&self) -> String {
        let AddPositions { side, grid, tokens, .. } = self;
        format!("{side}×{side} → {}×{}, {}", grid.0, grid.1, tokens.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        all.awkward.push(case(2, 6, (5, 4), 64, Nothing));
        all.awkward.push(case(1, 1, (3, 5), 7, Nothing));
        all.awkward.push(case(2, 4, (4, 4), 33, Nothing));
        all.awkward.push(case(2, 7, (3, 13), 17, Outliers));
        all.real.push(case(1, 24, (30, 30), 1024, Nothing));
    }

    pub fn case(batch: usize, side: usize, grid: Map, dim: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let tokens = c.input([batch, 1, 1 + grid.0 * grid.1, dim], Element::F32, 1.0);
        let class = c.vector(dim, 1.0);
        let positions = c.vector((1 + side * side) * dim, 1.0);
        // The class token is not read.
        c.spare(batch * dim * Element::F32.bytes(2));
        let op = AddPositions { class, positions, side, grid, tokens };
        c.build(format!("{batch}x{}x{}x{dim}-side{side}", grid.0, grid.1), tokens, op)
    }
}
