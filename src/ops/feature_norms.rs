//! What brings each vector of a resized map to length 1.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// A map `[1, h, w, c]` (`F32`, finite), ×2 with align_corners=True, then resized with align_corners=False → 1 / the length of each
/// vector of c values, `[1, H, W, 1]` (`F32`); 0 for a zero vector. The resized map itself is never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureNorms {
    pub x: Buf,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn feature_norms(&mut self, x: Buf, out: Buf) {
        self.push(FeatureNorms { x, out });
    }
}

impl Operation for FeatureNorms {
    fn check(&self) -> Result<(), String> {
        let FeatureNorms { x, out } = self;
        need(x.element == Element::F32 && x.batch() == 1, || format!("one float32 map, not {:?}", x.shape))?;
        let fits = out.element == Element::F32 && out.batch() == 1 && out.channels() == 1;
        need(fits, || format!("{:?} becomes {:?}", x.shape, out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Write(&mut self.out));
    }

    /// Three of the map's values on each axis, and a square.
    fn flop(&self) -> usize {
        20 * self.out.len() * self.x.channels()
    }

    fn shapes(&self) -> String {
        let [_, h, w, _] = self.out.shape;
        format!("{} → {h}×{w}", self.x.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nothing, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        // One pixel, one channel, odd, the photo smaller than the map, equal to the network's input, more channels than a warp's memory
        // holds.
        let awkward = [
            ((1, 1), 1, (1, 1), Nothing),
            ((5, 7), 33, (37, 45), Nothing),
            ((13, 9), 17, (11, 7), Nothing),
            ((6, 8), 64, (12, 16), Zeros),
            ((1, 1), 5, (3, 9), Zeros),
            ((3, 50), 3, (1, 9), Nothing),
            ((5, 40), 100, (10, 80), Nothing),
        ];
        all.awkward.extend(awkward.map(|(map, channels, to, plant)| case(map, channels, to, plant)));
        all.real.push(case((240, 240), 512, (240, 320), Nothing));
    }

    pub fn case((h, w): Map, channels: usize, to: Map, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([1, h, w, channels], Element::F32, 1.0);
        let out = c.output([1, to.0, to.1, 1], Element::F32);
        c.build(format!("{h}x{w}x{channels}-{}x{}", to.0, to.1), out, FeatureNorms { x, out })
    }
}
