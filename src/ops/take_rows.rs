//! One row of each batch item.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Row `index[b]` (`U32`, `[b, 1, 1, 1]`) of each batch item of `x` `[b, 1, t, width]` → `[b, 1, 1, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeRows {
    pub x: Buf,
    pub index: Buf,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn take_rows(&mut self, x: Buf, index: Buf, out: Buf) {
        self.push(TakeRows { x, index, out });
    }
}

impl Operation for TakeRows {
    fn check(&self) -> Result<(), String> {
        let TakeRows { x, index, out } = self;
        let b = x.batch();
        need(index.element == Element::U32 && index.shape == [b, 1, 1, 1], || {
            format!("an index of {:?}", index.shape)
        })?;
        need(out.shape == [b, 1, 1, x.channels()], || format!("{:?} becomes {:?}", x.shape, out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Read(&mut self.index));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        0
    }

    fn shapes(&self) -> String {
        format!("{} → {}", self.x.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Values};

    pub fn add(all: &mut Cases) {
        all.awkward.push(case(1, 1, 17, Nothing));
        all.awkward.push(case(2, 12, 64, Nothing));
        all.awkward.push(case(3, 7, 33, Nan));
        all.real.push(case(20, 12, 512, Nothing));
    }

    pub fn case(batch: usize, rows: usize, width: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, 1, rows, width], Element::F32, 1.0);
        let row = move |b: usize| ((b + 1) * (rows - 1) / batch) as u32;
        let index = c.input_of([batch, 1, 1, 1], Element::U32, move |_| Values::U32((0..batch).map(row).collect()));
        let out = c.output([batch, 1, 1, width], Element::F32);
        // The rows that are not taken.
        c.spare(batch * (rows - 1) * width * Element::F32.bytes(2));
        c.build(format!("{batch}x{rows}x{width}"), out, TakeRows { x, index, out })
    }
}
