//! Spatial regularisation of the logits (LSeg, 2201.03546, section 3.3).

use super::{Activation, Buf, Operand, Operation, PlanBuilder, Vector, need};

/// One 3×3 kernel (9 values and a bias in `w`) shared by all labels, pad 1; plus the maximum over the labels of the input if
/// `bottleneck`; then the activation. `[b, h, w, labels]` → the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regularise {
    pub x: Buf,
    /// `[10]`
    pub w: Vector,
    pub bottleneck: bool,
    pub activation: Option<Activation>,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn regularise(&mut self, x: Buf, w: Vector, bottleneck: bool, activation: Option<Activation>, out: Buf) {
        self.push(Regularise { x, w, bottleneck, activation, out });
    }
}

impl Operation for Regularise {
    fn check(&self) -> Result<(), String> {
        need(self.x.shape == self.out.shape, || format!("{:?} become {:?}", self.x.shape, self.out.shape))?;
        need(self.w.len == 10, || format!("{} weights, not nine and a bias", self.w.len))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Vector(&mut self.w));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        (18 + usize::from(self.bottleneck)) * self.out.len()
    }

    fn shapes(&self) -> String {
        format!("{} 3×3 shared{}", self.x.describe(), if self.bottleneck { " + max" } else { "" })
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, lowercase, switches};

    pub fn add(all: &mut Cases) {
        let (relu, lrelu, tanh) = (Some(Activation::Relu), Some(Activation::Lrelu), Some(Activation::Tanh));
        let awkward = [
            ((1, 1), 1, true, None, Nothing),
            ((5, 7), 3, false, relu, Nan),
            ((13, 9), 17, false, lrelu, Nan),
            ((5, 7), 33, false, tanh, Nothing),
            ((13, 9), 5, true, relu, Nothing),
            ((5, 7), 300, true, lrelu, Nothing),
            ((5, 7), 2, true, tanh, Nan),
            ((1, 9), 7, false, None, Nothing),
        ];
        let made = |(map, labels, bottleneck, activation, plant)| case(2, map, labels, bottleneck, activation, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (240, 240), 20, true, lrelu, Nothing));
    }

    pub fn case(
        batch: usize,
        (h, w): Map,
        labels: usize,
        bottleneck: bool,
        activation: Option<Activation>,
        plant: Plant,
    ) -> Case {
        let mut c = CaseBuilder::new(plant);
        let shape = [batch, h, w, labels];
        let x = c.input(shape, Element::F32, 14.0);
        let kernel = c.vector(10, 0.3);
        let out = c.output(shape, Element::F32);
        let named = activation.map(lowercase).unwrap_or_default();
        let on = switches([(bottleneck, "bottleneck"), (activation.is_some(), &named)]);
        let op = Regularise { x, w: kernel, bottleneck, activation, out };
        c.build(format!("{batch}x{h}x{w}x{labels}{on}"), out, op)
    }
}
