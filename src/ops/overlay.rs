//! A photo in its labels' colours.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// In place on a photo (`U8`, `[b, h, w, 3]`), which is tinted: by its mask (`[b, h, w, 1]`, as from `argmax`) and a colour
/// a label (`U8`, `[1, 1, labels, 4]`, the fourth byte the colours' weight w in 128ths, the same for all) each channel becomes
/// ((128 − w) · photo + w · colour) / 128, rounded down. Where pixels may be unlabelled, those of the mask's largest value stay as they
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    pub mask: Buf,
    pub palette: Buf,
    pub photo: Buf,
    pub unlabelled: bool,
}

impl PlanBuilder {
    pub fn overlay(&mut self, mask: Buf, palette: Buf, photo: Buf, unlabelled: bool) {
        self.push(Overlay { mask, palette, photo, unlabelled });
    }
}

impl Operation for Overlay {
    fn check(&self) -> Result<(), String> {
        let Overlay { mask, palette, photo, unlabelled } = self;
        let [b, h, w, _] = photo.shape;
        need(photo.element == Element::U8 && photo.channels() == 3, || "a photo has three bytes a pixel".to_owned())?;
        need(mask.shape == [b, h, w, 1], || format!("a mask of {:?} for a photo of {:?}", mask.shape, photo.shape))?;
        let element = Element::of_mask(palette.rows(), *unlabelled);
        need(mask.element == element, || "a colour for each label".to_owned())?;
        need(palette.channels() == 4, || "a colour has four bytes".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.mask));
        see(Operand::Read(&mut self.palette));
        see(Operand::Update(&mut self.photo));
    }

    fn flop(&self) -> usize {
        0
    }

    fn shapes(&self) -> String {
        let unlabelled = if self.unlabelled { " or none" } else { "" };
        format!("{}, {} labels{unlabelled}", self.photo.describe(), self.palette.rows())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::Nothing;
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Seeded, Values};

    pub fn add(all: &mut Cases) {
        // One pixel, whole chunks of 16 bytes, anything behind them; the last labels that lanes hold, and more.
        for unlabelled in [false, true] {
            all.awkward.push(case(1, (1, 1), 1, unlabelled));
            all.awkward.push(case(2, (40, 16), 32, unlabelled));
            all.awkward.push(case(3, (9, 37), 33, unlabelled));
            all.awkward.push(case(1, (31, 77), 300, unlabelled));
            all.real.push(case(1, (480, 640), 20, unlabelled));
        }
        // As many as bytes have beside what is none, and one more.
        all.awkward.push(case(1, (9, 37), 255, true));
        all.awkward.push(case(1, (9, 37), 256, true));
    }

    /// Its inputs: photo, palette, mask.
    pub fn case(batch: usize, (h, w): Map, labels: usize, unlabelled: bool) -> Case {
        let mut c = CaseBuilder::new(Nothing);
        let photo =
            c.input_of([batch, h, w, 3], Element::U8, move |s: &mut Seeded| Values::U8(s.bytes(batch * h * w * 3)));
        let palette = c.input_of([1, 1, labels, 4], Element::U8, move |s: &mut Seeded| {
            let mut palette = s.bytes(4 * labels);
            // The colours' weight: half of 128 for some, and all of it, and between.
            let weight = [64, 128, 37, 101, 64][labels % 5];
            palette.iter_mut().skip(3).step_by(4).for_each(|byte| *byte = weight);
            Values::U8(palette)
        });
        let element = Element::of_mask(labels, unlabelled);
        let mask = c.input_of([batch, h, w, 1], element, move |s: &mut Seeded| {
            let drawn = (0..batch * h * w).map(|_| s.below(labels));
            // A third has none.
            let drawn = drawn.enumerate().map(|(i, label)| if unlabelled && i % 3 == 1 { usize::MAX } else { label });
            match element {
                Element::U8 => Values::U8(drawn.map(|label| label as u8).collect()),
                _ => Values::U16(drawn.map(|label| label as u16).collect()),
            }
        });
        let or_none = if unlabelled { "-unlabelled" } else { "" };
        let op = Overlay { mask, palette, photo, unlabelled };
        c.build(format!("{batch}x{h}x{w}-{labels}{or_none}"), photo, op)
    }
}
