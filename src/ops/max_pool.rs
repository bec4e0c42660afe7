//! 3×3 maximum, stride 2, pad 1 (the ResNet's stem).

use super::{Buf, Operand, Operation, PlanBuilder, need};

/// `[b, h, w, c]` → `[b, ⌈h/2⌉, ⌈w/2⌉, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    pub x: Buf,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn max_pool(&mut self, x: Buf, out: Buf) {
        self.push(MaxPool { x, out });
    }
}

impl Operation for MaxPool {
    fn check(&self) -> Result<(), String> {
        let [b, h, w, c] = self.x.shape;
        let fits = self.out.shape == [b, h.div_ceil(2), w.div_ceil(2), c];
        need(fits, || format!("{:?} becomes {:?}", self.x.shape, self.out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        9 * self.out.len()
    }

    fn shapes(&self) -> String {
        format!("{} → {}", self.x.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, (1, 1), 1, Nothing),
            (2, (5, 7), 17, Nan),
            (1, (13, 9), 33, Nothing),
            (2, (6, 8), 64, Nan),
            (2, (5, 7), 24, Nan),
        ];
        all.awkward.extend(awkward.map(|(batch, map, channels, plant)| case(batch, map, channels, plant)));
        all.real.push(case(1, (240, 240), 64, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, channels: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, h, w, channels], Element::Activation, 1.0);
        let out = c.output([batch, h.div_ceil(2), w.div_ceil(2), channels], Element::Activation);
        c.build(format!("{batch}x{h}x{w}x{channels}"), out, MaxPool { x, out })
    }
}
