//! A photo resized, normalised and cut in patches.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Per-channel normalisation of RGB in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// Photo (`U8`, `[b, h0, w0, 3]`) → resized (bilinear, align_corners=False, no antialias) to `out`'s height and width times
/// `patch`, normalised, cut in patches: `out` is `[b, h, w, patch·patch·3]`. A patch of 1 is the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patchify {
    pub photo: Buf,
    pub normalise: Normalise,
    pub patch: usize,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn patchify(&mut self, photo: Buf, normalise: &Normalise, patch: usize, out: Buf) {
        self.push(Patchify { photo, normalise: *normalise, patch, out });
    }
}

impl Operation for Patchify {
    fn check(&self) -> Result<(), String> {
        let Patchify { photo, patch, out, .. } = self;
        need(photo.element == Element::U8 && photo.channels() == 3, || "a photo has three bytes a pixel".to_owned())?;
        need(!photo.is_empty(), || "a photo has at least one pixel".to_owned())?;
        need(out.batch() == photo.batch(), || "photos and patches have one batch".to_owned())?;
        need(out.channels() == patch * patch * 3, || format!("a patch of {patch} has {} values", patch * patch * 3))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.photo));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        8 * self.out.len()
    }

    fn shapes(&self) -> String {
        format!("{} → {}", self.photo.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::Nothing;
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Seeded, Values};

    pub const NORMALISE: Normalise = Normalise { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    pub fn add(all: &mut Cases) {
        // One pixel, smaller, larger, the same size, one axis only, batch of two.
        let awkward = [
            (1, (1, 1), (1, 1), 3),
            (2, (13, 9), (2, 3), 4),
            (1, (45, 71), (3, 2), 5),
            (1, (32, 48), (2, 3), 16),
            (2, (7, 32), (32, 32), 1),
            (1, (45, 71), (2, 3), 32),
            (2, (32, 48), (4, 4), 16),
            (1, (5, 1500), (1, 65), 8),
            (2, (3, 9000), (2, 3), 2),
        ];
        all.awkward.extend(awkward.map(|(batch, photo, grid, patch)| case(batch, photo, grid, patch)));
        all.real.push(case(1, (480, 640), (30, 30), 16));
    }

    pub fn case(batch: usize, (h0, w0): Map, (h, w): Map, patch: usize) -> Case {
        let mut c = CaseBuilder::new(Nothing);
        let draw = move |s: &mut Seeded| Values::U8(s.bytes(batch * h0 * w0 * 3));
        let photo = c.input_of([batch, h0, w0, 3], Element::U8, draw);
        let out = c.output([batch, h, w, patch * patch * 3], Element::Activation);
        let op = Patchify { photo, normalise: NORMALISE, patch, out };
        c.build(format!("{batch}x{h0}x{w0}-{h}x{w}-patch{patch}"), out, op)
    }
}
