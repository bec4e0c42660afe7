//! Scores at the network's size, a plane a label.

use super::{Buf, Operand, Operation, PlanBuilder, need};

/// Logits `[b, h, w, n]` → `[b, n, 2h, 2w]` (as the four dimensions), ×2 bilinear, align_corners=True.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsampleScores {
    pub logits: Buf,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn upsample_scores(&mut self, logits: Buf, out: Buf) {
        self.push(UpsampleScores { logits, out });
    }
}

impl Operation for UpsampleScores {
    fn check(&self) -> Result<(), String> {
        let [b, h, w, n] = self.logits.shape;
        let fits = self.out.shape == [b, n, 2 * h, 2 * w];
        need(fits, || format!("{:?} becomes {:?}", self.logits.shape, self.out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.logits));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        8 * self.out.len()
    }

    fn shapes(&self) -> String {
        format!("{} → {}", self.logits.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        let awkward =
            [(1, (1, 1), 1, Nothing), (2, (5, 7), 17, Nan), (1, (13, 9), 300, Nothing), (1, (3, 300), 20, Nothing)];
        all.awkward.extend(awkward.map(|(batch, map, labels, plant)| case(batch, map, labels, plant)));
        all.real.push(case(1, (240, 240), 20, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, labels: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let logits = c.input([batch, h, w, labels], Element::F32, 14.0);
        let out = c.output([batch, labels, 2 * h, 2 * w], Element::F32);
        c.build(format!("{batch}x{h}x{w}x{labels}"), out, UpsampleScores { logits, out })
    }
}
