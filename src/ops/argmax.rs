//! Each pixel's label.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Logits `[b, h, w, n]`, ×2 (align_corners=True), then resized to the mask's size (align_corners=False) →
/// the index of the largest at each pixel; the first of equals, and NaN before all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argmax {
    pub logits: Buf,
    /// `[b, H, W, 1]`, [`Element::of_labels`]
    pub mask: Buf,
    /// Where asked for (`F32`, the mask's shape): that largest value.
    pub best: Option<Buf>,
    /// (`U32`, one) The number of pixels whose largest value is NaN or infinite: their label says nothing.
    pub not_finite: Buf,
}

impl PlanBuilder {
    pub fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>, not_finite: Buf) {
        self.push(Argmax { logits, mask, best, not_finite });
    }
}

impl Operation for Argmax {
    fn check(&self) -> Result<(), String> {
        let Argmax { logits, mask, best, not_finite } = self;
        let labels = logits.channels();
        need(mask.element == Element::of_labels(labels), || {
            format!("a mask of {:?} for {labels} labels", mask.element)
        })?;
        need(mask.batch() == logits.batch() && mask.channels() == 1, || format!("a mask of {:?}", mask.shape))?;
        let fits = best.is_none_or(|best| best.element == Element::F32 && best.shape == mask.shape);
        need(fits, || "the best scores have the mask's shape".to_owned())?;
        need(not_finite.element == Element::U32 && not_finite.len() == 1, || "one count of pixels".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.logits));
        see(Operand::Write(&mut self.mask));
        if let Some(best) = &mut self.best {
            see(Operand::Write(best));
        }
        see(Operand::Write(&mut self.not_finite));
    }

    fn flop(&self) -> usize {
        9 * self.mask.len() * self.logits.channels()
    }

    fn shapes(&self) -> String {
        let [_, h, w, _] = self.mask.shape;
        format!("{} → {h}×{w}{}", self.logits.describe(), if self.best.is_some() { " + best" } else { "" })
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Infinite, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Seeded, Values, lowercase};

    /// What is made, and which of it is looked at.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Winner {
        Mask,
        MaskBesideBest,
        Best,
        NotFinite,
    }

    use Winner::{Best, Mask, MaskBesideBest, NotFinite};

    pub fn add(all: &mut Cases) {
        // The photo one pixel, smaller, equal to the network's input, larger, uneven.
        let awkward = [
            (1, (1, 1), 1, (1, 1), Mask, Nothing),
            (1, (1, 1), 5, (7, 3), Mask, Nothing),
            (1, (13, 9), 3, (1, 1), Mask, Nothing),
            (1, (13, 9), 17, (11, 7), Mask, Nothing),
            (1, (13, 9), 33, (26, 18), Mask, Nothing),
            (1, (5, 7), 300, (37, 45), Mask, Nothing),
            (2, (5, 7), 4, (9, 50), Mask, Nothing),
            (1, (5, 7), 5, (21, 33), Mask, Nan),
            (1, (5, 400), 20, (9, 50), Mask, Nothing),
            (1, (3, 1000), 40, (5, 3), Mask, Nan),
            (1, (9, 20), 150, (40, 37), Mask, Nothing),
            (1, (1, 1), 1, (3, 2), Best, Nothing),
            (2, (5, 7), 4, (9, 50), Best, Nothing),
            (2, (5, 7), 4, (9, 50), MaskBesideBest, Nothing),
            (1, (9, 20), 150, (40, 37), Best, Nothing),
            (1, (5, 7), 5, (21, 33), Best, Nan),
            (1, (13, 9), 33, (26, 18), MaskBesideBest, Nothing),
            (2, (5, 7), 4, (9, 50), NotFinite, Nothing),
            (1, (5, 7), 5, (21, 33), NotFinite, Nan),
            (2, (5, 7), 300, (37, 45), NotFinite, Infinite),
        ];
        let made = |(batch, map, labels, mask, winner, plant)| case(batch, map, labels, mask, winner, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (240, 240), 20, (480, 640), Mask, Nothing));
        all.real.push(case(1, (240, 240), 150, (480, 640), Mask, Nothing));
        all.real.push(case(1, (240, 240), 20, (480, 640), MaskBesideBest, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, labels: usize, mask: Map, winner: Winner, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let shape = [batch, h, w, labels];
        let logits = c.input_of(shape, Element::F32, move |s: &mut Seeded| {
            let mut logits = s.values(batch * h * w * labels, 14.0);
            // Labels 0 and 1 are equal everywhere: 1 must never be taken.
            if labels > 2 {
                logits.chunks_exact_mut(labels).for_each(|pixel| pixel[1] = pixel[0]);
            }
            match plant {
                Nan => plant_nan(&mut logits, labels),
                other => other.add_to(&mut logits, shape),
            }
            Values::F32(logits)
        });
        let sizes = format!("{batch}x{h}x{w}x{labels}-{}x{}-{}", mask.0, mask.1, lowercase(winner));
        let shape = [batch, mask.0, mask.1, 1];
        let mask = c.output(shape, Element::of_labels(labels));
        let best = matches!(winner, Best | MaskBesideBest).then(|| c.output(shape, Element::F32));
        let not_finite = c.output([1; 4], Element::U32);
        let out = match winner {
            Mask | MaskBesideBest => mask,
            Best => best.unwrap_or(mask),
            NotFinite => not_finite,
        };
        c.build(sizes, out, Argmax { logits, mask, best, not_finite })
    }

    /// Two labels everywhere: at a single pixel, 0·NaN is a matter of how the interpolation is written.
    fn plant_nan(logits: &mut [f32], labels: usize) {
        let pixels = logits.chunks_exact_mut(labels);
        pixels.for_each(|pixel| pixel[labels / 2..].iter_mut().step_by(2).for_each(|v| *v = f32::NAN));
    }
}
