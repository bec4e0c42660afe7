//! Each label's probability at each pixel.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// In place on scores `[b, labels, h, w]` (float32): softmax over the labels, exp(score − lse). `lse` (`F32`, `[b, 1, h, w]`) is the
/// logarithm of each pixel's sum of exponentials. A pixel whose scores are not all finite is NaN in all labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftmaxScores {
    pub lse: Buf,
    pub scores: Buf,
}

impl PlanBuilder {
    pub fn softmax_scores(&mut self, lse: Buf, scores: Buf) {
        self.push(SoftmaxScores { lse, scores });
    }
}

impl Operation for SoftmaxScores {
    fn check(&self) -> Result<(), String> {
        let [b, _, h, w] = self.scores.shape;
        need([self.lse, self.scores].iter().all(|buf| buf.element == Element::F32), || {
            "scores are float32".to_owned()
        })?;
        need(self.lse.shape == [b, 1, h, w], || format!("sums of {:?} for {:?}", self.lse.shape, self.scores.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Write(&mut self.lse));
        see(Operand::Update(&mut self.scores));
    }

    /// Twice a difference and an exponential, a sum.
    fn flop(&self) -> usize {
        5 * self.scores.len()
    }

    fn shapes(&self) -> String {
        let [b, labels, h, w] = self.scores.shape;
        let batch = if b == 1 { String::new() } else { format!("{b}×") };
        format!("{batch}{labels}×{h}×{w}")
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Infinite, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        // One label is certain; one pixel; rows that end within a warp; more pixels than a block has threads.
        let awkward = [
            (1, 1, (1, 1), Nothing),
            (1, 5, (1, 1), Nothing),
            (2, 17, (5, 7), Nan),
            (1, 300, (13, 9), Nothing),
            (3, 2, (3, 33), Infinite),
            (2, 4, (20, 31), Nothing),
        ];
        all.awkward.extend(awkward.map(|(batch, labels, map, plant)| case(batch, labels, map, plant)));
        all.real.push(case(1, 20, (480, 480), Nothing));
    }

    pub fn case(batch: usize, labels: usize, (h, w): Map, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let scores = c.input([batch, labels, h, w], Element::F32, 14.0);
        let lse = c.output([batch, 1, h, w], Element::F32);
        c.build(format!("{batch}x{labels}x{h}x{w}"), scores, SoftmaxScores { lse, scores })
    }
}
