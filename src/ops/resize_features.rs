//! Some channels of a map at another size, a plane a channel.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Channels `first`, `first` + 1, … of a map `[1, h, w, c]` (`F32`, finite), ×2 with align_corners=True, then resized with
/// align_corners=False → `[1, g, H, W]` (as the four dimensions), `F32` or `F16`. Planes of channels that the map does not have
/// are left as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizeFeatures {
    pub x: Buf,
    /// (`U32`, one) The first plane's channel.
    pub first: Buf,
    /// (`F32`, `[1, H, W, 1]`) What each pixel's values are multiplied by, where that is not 1.
    pub scale: Option<Buf>,
    /// What all values are multiplied by.
    pub factor: f32,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn resize_features(&mut self, x: Buf, first: Buf, scale: Option<Buf>, factor: f32, out: Buf) {
        self.push(ResizeFeatures { x, first, scale, factor, out });
    }
}

impl Operation for ResizeFeatures {
    fn check(&self) -> Result<(), String> {
        let ResizeFeatures { x, first, scale, out, .. } = self;
        let [_, _, h, w] = out.shape;
        need(x.element == Element::F32 && x.batch() == 1, || format!("one float32 map, not {:?}", x.shape))?;
        need(first.element == Element::U32 && first.len() == 1, || "one number of a channel".to_owned())?;
        let fits = scale.is_none_or(|scale| scale.element == Element::F32 && scale.shape == [1, h, w, 1]);
        need(fits, || "a scale for each pixel of a plane".to_owned())?;
        let fits = matches!(out.element, Element::F32 | Element::F16) && out.batch() == 1;
        need(fits, || format!("{:?} becomes {:?} {:?}", x.shape, out.element, out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Read(&mut self.first));
        if let Some(scale) = &mut self.scale {
            see(Operand::Read(scale));
        }
        see(Operand::Write(&mut self.out));
    }

    /// Three of the map's values on each axis.
    fn flop(&self) -> usize {
        18 * self.out.len()
    }

    fn shapes(&self) -> String {
        let scaled = if self.scale.is_some() { " scaled" } else { "" };
        let dtype = if self.out.element == Element::F16 { " f16" } else { "" };
        format!("{} → {}{dtype}{scaled}", self.x.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Values, switches};

    /// The channels that are looked at: of so many, `count` from `first` on.
    type Piece = (usize, usize, usize);

    pub fn add(all: &mut Cases) {
        // One pixel; pieces that begin anywhere; the photo smaller than the map, equal to the network's input, one row; a last piece
        // that the map's channels do not fill; more channels than a warp's memory holds.
        let awkward = [
            ((1, 1), (1, 0, 1), (1, 1), Element::F32, false, Nothing),
            ((5, 7), (17, 13, 4), (37, 45), Element::F32, false, Nothing),
            ((5, 7), (17, 13, 4), (37, 45), Element::F16, true, Nothing),
            ((13, 9), (33, 32, 1), (11, 7), Element::F32, true, Outliers),
            ((6, 8), (64, 59, 5), (12, 16), Element::F16, false, Zeros),
            ((1, 1), (5, 2, 3), (3, 9), Element::F32, true, Nothing),
            ((3, 50), (6, 1, 5), (1, 9), Element::F32, false, Nothing),
            ((4, 150), (3, 0, 3), (9, 300), Element::F16, true, Nothing),
            ((5, 7), (17, 15, 4), (21, 33), Element::F32, true, Nothing),
            ((5, 40), (128, 28, 100), (10, 80), Element::F32, false, Nothing),
        ];
        all.awkward
            .extend(awkward.map(|(map, piece, to, dtype, scaled, plant)| case(map, piece, to, dtype, scaled, plant)));
        all.real.push(case((240, 240), (512, 256, 8), (1080, 1920), Element::F16, true, Nothing));
        all.real.push(case((240, 240), (512, 256, 16), (480, 480), Element::F32, false, Nothing));
    }

    pub fn case(
        (h, w): Map,
        (channels, first, count): Piece,
        to: Map,
        dtype: Element,
        scaled: bool,
        plant: Plant,
    ) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([1, h, w, channels], Element::F32, 1.0);
        let number = c.input_of([1; 4], Element::U32, move |_| Values::U32(vec![first as u32]));
        let scale = scaled.then(|| c.input([1, to.0, to.1, 1], Element::F32, 1.0));
        let out = c.output([1, count, to.0, to.1], dtype);
        c.spare(4 * h * w * (channels - count.min(channels - first)));
        let sizes = format!("{h}x{w}x{channels}-{count}from{first}-{}x{}", to.0, to.1);
        let with = switches([(dtype == Element::F16, "f16"), (scaled, "scaled")]);
        c.build(format!("{sizes}{with}"), out, ResizeFeatures { x, first: number, scale, factor: 0.25, out })
    }
}
