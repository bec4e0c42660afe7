//! ×2 bilinear, align_corners=True.

use super::{Buf, Operand, Operation, PlanBuilder, need};

/// `[b, h, w, c]` → `[b, 2h, 2w, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsample {
    pub x: Buf,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn upsample(&mut self, x: Buf, out: Buf) {
        self.push(Upsample { x, out });
    }
}

impl Operation for Upsample {
    fn check(&self) -> Result<(), String> {
        let [b, h, w, c] = self.x.shape;
        need(self.x.element == self.out.element, || "both maps are of one type".to_owned())?;
        need(self.out.shape == [b, 2 * h, 2 * w, c], || format!("{:?} becomes {:?}", self.x.shape, self.out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        8 * self.out.len()
    }

    fn shapes(&self) -> String {
        format!("{} → {}", self.x.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, (1, 1), 3, Nothing),
            (2, (1, 7), 17, Nothing),
            (1, (5, 7), 33, Nan),
            (2, (13, 9), 100, Outliers),
            (2, (9, 5), 72, Nan),
            (1, (1, 1), 8, Nothing),
            (1, (15, 15), 256, Outliers),
            (2, (1, 7), 24, Nothing),
        ];
        let halves =
            awkward.map(|(batch, map, channels, plant)| case(batch, map, channels, Element::Activation, plant));
        let floats = awkward.map(|(batch, map, channels, plant)| case(batch, map, channels, Element::F32, plant));
        all.awkward.extend(halves.into_iter().chain(floats));
        all.real.push(case(1, (60, 60), 256, Element::Activation, Nothing));
        all.real.push(case(1, (120, 120), 512, Element::F32, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, channels: usize, element: Element, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, h, w, channels], element, 1.0);
        let out = c.output([batch, 2 * h, 2 * w, channels], element);
        let float = if element == Element::F32 { "-float" } else { "" };
        c.build(format!("{batch}x{h}x{w}x{channels}{float}"), out, Upsample { x, out })
    }
}
