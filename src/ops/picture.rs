//! A picture as a buffer of a plan.

use super::{Buf, Element, PlanBuilder};
use crate::pixels::Format;

/// Pictures of one format and size in a buffer, whose rows and planes follow each other without padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    pub buf: Buf,
    pub format: Format,
    pub height: usize,
    pub width: usize,
}

impl Picture {
    /// Bytes of one.
    pub fn bytes(&self) -> usize {
        self.format.bytes(self.width, self.height).expect("a picture of a plan fits in memory")
    }

    /// The shape and the elements of a buffer for so many.
    pub fn layout(format: Format, batch: usize, (height, width): (usize, usize)) -> ([usize; 4], Element) {
        let pairs = width.div_ceil(2);
        match format {
            Format::Rgb8 | Format::Bgr8 => ([batch, height, width, 3], Element::U8),
            Format::Rgba8 | Format::Bgra8 => ([batch, height, width, 4], Element::U8),
            Format::Mono8 => ([batch, height, width, 1], Element::U8),
            // Its planes' rows differ where the width is odd.
            Format::Nv12(_) => ([batch, 1, 1, height * width + height.div_ceil(2) * 2 * pairs], Element::U8),
            Format::Yuyv(_) => ([batch, height, pairs, 4], Element::U8),
            Format::RgbF32 => ([batch, 3 * height, width, 1], Element::F32),
            Format::RgbF16 => ([batch, 3 * height, width, 1], Element::F16),
        }
    }

    /// Whether the buffer is one for such pictures.
    pub(super) fn fits(&self) -> bool {
        let layout = Picture::layout(self.format, self.buf.batch(), (self.height, self.width));
        (self.buf.shape, self.buf.element) == layout
    }

    /// "480×640×3", and the format where it is not RGB.
    pub(super) fn describe(&self) -> String {
        let Picture { buf, format, height, width } = self;
        match (format, buf.batch()) {
            (Format::Rgb8, _) => buf.describe(),
            (format, 1) => format!("{height}×{width} {}", format.name()),
            (format, batch) => format!("{batch}×{height}×{width} {}", format.name()),
        }
    }
}

impl PlanBuilder {
    /// Room for so many pictures of a format and (height, width).
    pub fn picture(&mut self, name: &'static str, format: Format, batch: usize, size: (usize, usize)) -> Picture {
        let (shape, element) = Picture::layout(format, batch, size);
        Picture { buf: self.buffer(name, shape, element), format, height: size.0, width: size.1 }
    }
}

/// Pictures as cases have them.
#[cfg(feature = "bench")]
pub mod cases {
    use half::f16;

    use super::*;
    use crate::ops::cases::{CaseBuilder, Map, Seeded, Values, lowercase};

    /// What is in a picture.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Fill {
        /// Bytes of all values; numbers in 0–1.
        Any,
        /// 0
        Least,
        /// 255 or 1
        Most,
        /// Bytes of both ends, with some between; numbers from −2 to 3, and both ends.
        Ends,
    }

    impl Fill {
        /// "bgr8", "nv12-bt709-full-ends"
        pub fn name(self, format: Format) -> String {
            let fill = if self == Fill::Any { String::new() } else { format!("-{}", lowercase(self)) };
            format!("{}{fill}", format.to_string().replace(':', "-"))
        }

        fn byte(self, s: &mut Seeded) -> u8 {
            match self {
                Fill::Any => s.below(256) as u8,
                Fill::Least => 0,
                Fill::Most => 255,
                Fill::Ends => [0, 255, 16, 235, 240, 128, s.below(256) as u8][s.below(7)],
            }
        }

        fn number(self, s: &mut Seeded) -> f32 {
            match self {
                Fill::Any => 0.5 + s.value(0.5),
                Fill::Least => 0.0,
                Fill::Most => 1.0,
                Fill::Ends => [0.0, 1.0, 0.5 + s.value(2.5)][s.below(3)],
            }
        }
    }

    /// All formats but RGB of bytes, with each meaning of luma and chroma.
    pub fn others() -> impl Iterator<Item = Format> {
        formats([
            "bgr8",
            "rgba8",
            "bgra8",
            "mono8",
            "nv12",
            "nv12:full",
            "nv12:bt709",
            "nv12:bt709:full",
            "yuyv",
            "yuyv:full",
            "yuyv:bt709",
            "yuyv:bt709:full",
            "rgb_f32",
            "rgb_f16",
        ])
    }

    pub fn formats<const N: usize>(names: [&str; N]) -> impl Iterator<Item = Format> {
        names.into_iter().map(|name| name.parse().expect("a format's name"))
    }

    /// Pictures, each of its own, that the host fills.
    pub fn picture(c: &mut CaseBuilder, format: Format, batch: usize, (height, width): Map, fill: Fill) -> Picture {
        let (shape, element) = Picture::layout(format, batch, (height, width));
        let count = shape.iter().product();
        let draw = move |s: &mut Seeded| match element {
            Element::U8 => Values::U8((0..count).map(|_| fill.byte(s)).collect()),
            Element::F16 => Values::F32((0..count).map(|_| f16::from_f32(fill.number(s)).to_f32()).collect()),
            _ => Values::F32((0..count).map(|_| fill.number(s)).collect()),
        };
        Picture { buf: c.input_of(shape, element, draw), format, height, width }
    }
}
