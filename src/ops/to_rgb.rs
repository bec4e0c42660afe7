//! A photo as RGB of bytes.

use super::{Buf, Element, Operand, Operation, Picture, PlanBuilder, need};
use crate::pixels::Format;

/// Photo, of any format but RGB of bytes → `out` (`U8`, `[b, h, w, 3]`): each colour rounded to the nearest of 256, of two to the
/// even; what lies outside of 0–1 ends there, and what is no number becomes 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToRgb {
    pub photo: Picture,
    pub out: Buf,
}

impl PlanBuilder {
    /// The photo's own buffer, where it is RGB of bytes, else another.
    pub fn as_rgb(&mut self, photo: Picture) -> Buf {
        if photo.format == Format::Rgb8 {
            return photo.buf;
        }
        let rgb = self.picture("rgb", Format::Rgb8, photo.buf.batch(), (photo.height, photo.width)).buf;
        self.push(ToRgb { photo, out: rgb });
        rgb
    }
}

impl Operation for ToRgb {
    fn check(&self) -> Result<(), String> {
        let ToRgb { photo, out } = self;
        need(photo.fits(), || format!("{} are no pictures of {}", photo.buf.describe(), photo.describe()))?;
        need(photo.format != Format::Rgb8, || "RGB of bytes is taken as it is".to_owned())?;
        need(!photo.buf.is_empty(), || "a photo has at least one pixel".to_owned())?;
        need(out.shape == [photo.buf.batch(), photo.height, photo.width, 3], || {
            format!("{} become {}", photo.describe(), out.describe())
        })?;
        need(out.element == Element::U8, || "colours are bytes".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.photo.buf));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        0
    }

    fn shapes(&self) -> String {
        self.photo.describe()
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::Nothing;
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};
    use crate::ops::picture::cases::{Fill, formats, others, picture};

    pub fn add(all: &mut Cases) {
        for format in others() {
            // One pixel; odd, a batch of more than two; more than a block, odd too.
            all.awkward.push(case(format, 1, (1, 1), Fill::Any));
            all.awkward.push(case(format, 3, (5, 9), Fill::Any));
            all.awkward.push(case(format, 2, (3, 963), Fill::Any));
            for fill in [Fill::Least, Fill::Most, Fill::Ends] {
                all.awkward.push(case(format, 2, (6, 7), fill));
            }
        }
        all.real.extend(formats(["nv12"]).map(|format| case(format, 1, (480, 640), Fill::Any)));
    }

    pub fn case(format: Format, batch: usize, size: Map, fill: Fill) -> Case {
        let mut c = CaseBuilder::new(Nothing);
        let photo = picture(&mut c, format, batch, size, fill);
        let out = c.output([batch, size.0, size.1, 3], Element::U8);
        c.build(format!("{batch}x{}x{}-{}", size.0, size.1, fill.name(format)), out, ToRgb { photo, out })
    }
}
