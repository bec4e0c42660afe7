//! Each pixel's label.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Logits `[b, h, w, n]`, ×2 (align_corners=True), then resized to the mask's size (align_corners=False), or as they are →
/// the index of the largest at each pixel; the first of equals, and NaN before all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Argmax {
    pub logits: Buf,
    /// Whether they are upsampled and resized; else the mask has their size.
    pub resized: bool,
    /// `[b, H, W, 1]`, [`Element::of_mask`]
    pub mask: Buf,
    /// Where asked for (`F32`, the mask's shape): that largest value.
    pub best: Option<Buf>,
    /// (`U32`, one) The number of pixels whose largest value is NaN or infinite: their label says nothing.
    pub not_finite: Buf,
    /// Where asked for (`U8`, the mask's shape): p · 255 rounded to the nearest, of two the even, where p is the winner's softmax among
    /// all labels' values at that pixel; 0 where it is NaN.
    pub confidence: Option<Buf>,
    /// Pixels whose p is less have the largest value of the mask's element in the place of a label.
    pub threshold: Option<f32>,
}

impl PlanBuilder {
    /// The winners alone; their softmax is asked for in [`Argmax`] itself.
    pub fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>, not_finite: Buf) {
        self.push(Argmax { logits, resized: true, mask, best, not_finite, confidence: None, threshold: None });
    }
}

impl Argmax {
    /// Whether it takes the winners' softmax.
    pub fn is_confident(&self) -> bool {
        self.confidence.is_some() || self.threshold.is_some()
    }
}

impl Operation for Argmax {
    fn check(&self) -> Result<(), String> {
        let Argmax { logits, resized, mask, best, not_finite, confidence, threshold } = self;
        let labels = logits.channels();
        need(mask.element == Element::of_mask(labels, threshold.is_some()), || {
            format!("a mask of {:?} for {labels} labels", mask.element)
        })?;
        need(mask.batch() == logits.batch() && mask.channels() == 1, || format!("a mask of {:?}", mask.shape))?;
        need(*resized || mask.shape[1..3] == logits.shape[1..3], || format!("a mask of {:?}", mask.shape))?;
        let fits = best.is_none_or(|best| best.element == Element::F32 && best.shape == mask.shape);
        need(fits, || "the best scores have the mask's shape".to_owned())?;
        let fits = confidence.is_none_or(|bytes| bytes.element == Element::U8 && bytes.shape == mask.shape);
        need(fits, || "a byte of confidence for each pixel".to_owned())?;
        need(not_finite.element == Element::U32 && not_finite.len() == 1, || "one count of pixels".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.logits));
        see(Operand::Write(&mut self.mask));
        if let Some(best) = &mut self.best {
            see(Operand::Write(best));
        }
        see(Operand::Write(&mut self.not_finite));
        if let Some(confidence) = &mut self.confidence {
            see(Operand::Write(confidence));
        }
    }

    /// Nine for a score that is resized; a difference, an exponential and a sum for its part of the softmax.
    fn flop(&self) -> usize {
        let resizing = if self.resized { 9 } else { 1 };
        (if self.is_confident() { resizing + 3 } else { resizing }) * self.mask.len() * self.logits.channels()
    }

    fn shapes(&self) -> String {
        let [_, h, w, _] = self.mask.shape;
        let best = if self.best.is_some() { " + best" } else { "" };
        let confidence = if self.confidence.is_some() { " + confidence" } else { "" };
        let threshold = if self.threshold.is_some() { " above a threshold" } else { "" };
        format!("{} → {h}×{w}{best}{confidence}{threshold}", self.logits.describe())
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
        Confidence,
        MaskBesideConfidence,
        BestBesideConfidence,
        NotFiniteBesideConfidence,
        /// Where half of the labels' share is reached.
        MaskAboveHalf,
        ConfidenceAboveHalf,
    }

    use Winner::{
        Best, BestBesideConfidence, Confidence, ConfidenceAboveHalf, Mask, MaskAboveHalf, MaskBesideBest,
        MaskBesideConfidence, NotFinite, NotFiniteBesideConfidence,
    };

    const AS_THEY_ARE: Map = (0, 0);

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
            // One label is certain; labels in several pieces; as many as bytes have beside what is none, and one more.
            (1, (1, 1), 1, (3, 2), Confidence, Nothing),
            (1, (1, 1), 1, (3, 2), MaskAboveHalf, Nothing),
            (1, (1, 1), 5, (7, 3), Confidence, Nothing),
            (2, (5, 7), 4, (9, 50), Confidence, Nothing),
            (2, (5, 7), 4, (9, 50), MaskAboveHalf, Nothing),
            (1, (13, 9), 33, (26, 18), MaskBesideConfidence, Nothing),
            (1, (13, 9), 33, (26, 18), BestBesideConfidence, Nothing),
            (1, (3, 1000), 40, (5, 3), Confidence, Nothing),
            (1, (5, 400), 20, (9, 50), MaskAboveHalf, Nothing),
            (1, (9, 20), 150, (40, 37), Confidence, Nothing),
            (1, (9, 20), 150, (40, 37), MaskAboveHalf, Nothing),
            (1, (5, 7), 300, (37, 45), Confidence, Nothing),
            (2, (5, 7), 300, (21, 33), MaskAboveHalf, Nothing),
            (1, (5, 7), 255, (21, 33), MaskAboveHalf, Nothing),
            (1, (5, 7), 256, (21, 33), ConfidenceAboveHalf, Nothing),
            (1, (5, 7), 256, (21, 33), MaskAboveHalf, Nothing),
            (1, (5, 7), 5, (21, 33), Confidence, Nan),
            (1, (5, 7), 5, (21, 33), MaskAboveHalf, Nan),
            (2, (5, 7), 4, (9, 50), Confidence, Infinite),
            (2, (5, 7), 300, (37, 45), NotFiniteBesideConfidence, Infinite),
            (1, (1, 1), 1, AS_THEY_ARE, Mask, Nothing),
            (2, (5, 70), 33, AS_THEY_ARE, MaskBesideBest, Nothing),
            (2, (5, 70), 33, AS_THEY_ARE, Best, Nothing),
            (1, (9, 20), 300, AS_THEY_ARE, Mask, Nothing),
            (1, (9, 20), 150, AS_THEY_ARE, ConfidenceAboveHalf, Nothing),
            (1, (9, 20), 150, AS_THEY_ARE, MaskAboveHalf, Nothing),
            (1, (5, 7), 5, AS_THEY_ARE, NotFinite, Nan),
        ];
        let made = |(batch, map, labels, mask, winner, plant)| case(batch, map, labels, mask, winner, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (240, 240), 20, (480, 640), Mask, Nothing));
        all.real.push(case(1, (240, 240), 150, (480, 640), Mask, Nothing));
        all.real.push(case(1, (240, 240), 20, (480, 640), MaskBesideBest, Nothing));
        all.real.push(case(1, (240, 240), 20, (480, 640), ConfidenceAboveHalf, Nothing));
        all.real.push(case(1, (240, 240), 150, (480, 640), ConfidenceAboveHalf, Nothing));
        all.real.push(case(1, (26, 640), 150, AS_THEY_ARE, Mask, Nothing));
    }

    /// A mask of (0, 0) has the size of the logits, which are not resized.
    pub fn case(batch: usize, (h, w): Map, labels: usize, mask: Map, winner: Winner, plant: Plant) -> Case {
        let resized = mask != AS_THEY_ARE;
        let mask = if resized { mask } else { (h, w) };
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
        let as_they_are = if resized { "" } else { "-as_they_are" };
        let sizes = format!("{batch}x{h}x{w}x{labels}-{}x{}-{}{as_they_are}", mask.0, mask.1, lowercase(winner));
        let shape = [batch, mask.0, mask.1, 1];
        let threshold = matches!(winner, MaskAboveHalf | ConfidenceAboveHalf).then_some(0.5);
        let mask = c.output(shape, Element::of_mask(labels, threshold.is_some()));
        let has_best = matches!(winner, Best | MaskBesideBest | BestBesideConfidence);
        let best = has_best.then(|| c.output(shape, Element::F32));
        let not_finite = c.output([1; 4], Element::U32);
        let has_confidence = !has_best && !matches!(winner, Mask | NotFinite | MaskAboveHalf);
        let confidence = (has_confidence || winner == BestBesideConfidence).then(|| c.output(shape, Element::U8));
        let out = match winner {
            Mask | MaskBesideBest | MaskBesideConfidence | MaskAboveHalf => mask,
            Best | BestBesideConfidence => best.unwrap_or(mask),
            NotFinite | NotFiniteBesideConfidence => not_finite,
            Confidence | ConfidenceAboveHalf => confidence.unwrap_or(mask),
        };
        c.build(sizes, out, Argmax { logits, resized, mask, best, not_finite, confidence, threshold })
    }

    /// Two labels everywhere: at a single pixel, 0·NaN is a matter of how the interpolation is written.
    fn plant_nan(logits: &mut [f32], labels: usize) {
        let pixels = logits.chunks_exact_mut(labels);
        pixels.for_each(|pixel| pixel[labels / 2..].iter_mut().step_by(2).for_each(|v| *v = f32::NAN));
    }
}
