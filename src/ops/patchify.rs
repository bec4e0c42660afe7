//! A photo resized, normalised and cut in patches.

use super::{Buf, Operand, Operation, Picture, PlanBuilder, need};

/// Per-channel normalisation of RGB in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// Photo, of any format → resized (bilinear, align_corners=False, no antialias) to `out`'s height and width times
/// `patch`, normalised, cut in patches: `out` is `[b, h, w, patch·patch·3]`. A patch of 1 is the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patchify {
    pub photo: Picture,
    pub normalise: Normalise,
    pub patch: usize,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn patchify(&mut self, photo: Picture, normalise: &Normalise, patch: usize, out: Buf) {
        self.push(Patchify { photo, normalise: *normalise, patch, out });
    }
}

impl Operation for Patchify {
    fn check(&self) -> Result<(), String> {
        let Patchify { photo, patch, out, .. } = self;
        need(photo.fits(), || format!("{} are no pictures of {}", photo.buf.describe(), photo.describe()))?;
        need(!photo.buf.is_empty(), || "a photo has at least one pixel".to_owned())?;
        need(out.batch() == photo.buf.batch(), || "photos and patches have one batch".to_owned())?;
        need(out.channels() == patch * patch * 3, || format!("a patch of {patch} has {} values", patch * patch * 3))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.photo.buf));
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
    use crate::ops::Element;
    use crate::ops::cases::Plant::Nothing;
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};
    use crate::ops::picture::cases::{Fill, formats, others, picture};
    use crate::pixels::Format;

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
        for format in others() {
            let of = |batch, photo, grid, patch, fill| case_of(format, batch, photo, grid, patch, fill);
            // One pixel; odd, an odd number of bytes, a batch of more than two; larger; two blocks a row, the second from an odd pixel on.
            all.awkward.push(of(1, (1, 1), (1, 1), 3, Fill::Any));
            all.awkward.push(of(3, (13, 9), (2, 3), 4, Fill::Any));
            all.awkward.push(of(2, (7, 5), (3, 4), 3, Fill::Any));
            all.awkward.push(of(1, (5, 1501), (1, 65), 8, Fill::Any));
            all.awkward.push(of(2, (5, 2), (2, 2), 2, Fill::Least));
            all.awkward.push(of(2, (5, 2), (2, 2), 2, Fill::Most));
            all.awkward.push(of(2, (6, 7), (5, 5), 2, Fill::Ends));
        }
        all.real.extend(formats(["bgr8", "nv12"]).map(|f| case_of(f, 1, (480, 640), (30, 30), 16, Fill::Any)));
    }

    pub fn case(batch: usize, photo: Map, grid: Map, patch: usize) -> Case {
        case_of(Format::Rgb8, batch, photo, grid, patch, Fill::Any)
    }

    fn case_of(format: Format, batch: usize, (h0, w0): Map, (h, w): Map, patch: usize, fill: Fill) -> Case {
        let mut c = CaseBuilder::new(Nothing);
        let photo = picture(&mut c, format, batch, (h0, w0), fill);
        let out = c.output([batch, h, w, patch * patch * 3], Element::Activation);
        let op = Patchify { photo, normalise: NORMALISE, patch, out };
        let of = if format == Format::Rgb8 { String::new() } else { format!("-{}", fill.name(format)) };
        c.build(format!("{batch}x{h0}x{w0}-{h}x{w}-patch{patch}{of}"), out, op)
    }
}
