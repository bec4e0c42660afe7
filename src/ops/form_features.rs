//! A map's vectors in the form in which they are given out: size, type, order and length.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// The order of a map's dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[height, width, channels]`: a pixel's vector lies together.
    #[default]
    Hwc,
    /// `[channels, height, width]`: a plane a channel, as PyTorch has maps.
    Chw,
}

impl Layout {
    /// Of maps of (height, width).
    pub fn shape(self, batch: usize, (height, width): (usize, usize), channels: usize) -> [usize; 4] {
        match self {
            Layout::Hwc => [batch, height, width, channels],
            Layout::Chw => [batch, channels, height, width],
        }
    }
}

/// Maps `[b, h, w, c]` (`F32`), as they are or ×2 with align_corners=True and then resized with align_corners=False, each value times
/// what brings its vector to length 1 (0 for a zero vector) and times a factor → `out`, rounded to `F16` where it is that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FormFeatures {
    pub x: Buf,
    /// Whether the map is resized to `out`'s size, which else is its own.
    pub resized: bool,
    /// (`F32`, `[b, H, W, 1]`) What brings each vector to length 1, where that is wanted.
    pub norms: Option<Buf>,
    /// What all values are multiplied by, last of all.
    pub factor: f32,
    /// The largest size of a value, before it is multiplied, that counts as a number.
    pub limit: f32,
    pub layout: Layout,
    /// `[b, H, W, c]` or `[b, c, H, W]`, `F32` or `F16`
    pub out: Buf,
    /// (`U32`, one) The number of values that are NaN or larger than `limit`, or infinite in `out`.
    pub not_finite: Buf,
}

impl FormFeatures {
    /// (height, width) of the output.
    pub fn size(&self) -> (usize, usize) {
        match (self.layout, self.out.shape) {
            (Layout::Hwc, [_, h, w, _]) | (Layout::Chw, [_, _, h, w]) => (h, w),
        }
    }
}

impl PlanBuilder {
    pub fn form_features(&mut self, op: FormFeatures) {
        self.push(op);
    }
}

impl Operation for FormFeatures {
    fn check(&self) -> Result<(), String> {
        let FormFeatures { x, resized, norms, layout, out, not_finite, .. } = self;
        let (b, size @ (h, w)) = (x.batch(), self.size());
        need(x.element == Element::F32, || format!("a map of {:?}", x.element))?;
        need(matches!(out.element, Element::F32 | Element::F16), || format!("values of {:?}", out.element))?;
        need(out.shape == layout.shape(b, size, x.channels()), || format!("{:?} becomes {:?}", x.shape, out.shape))?;
        need(*resized || [h, w] == x.shape[1..3], || format!("a map of {:?} at its own size", out.shape))?;
        let fits = norms.is_none_or(|norms| norms.element == Element::F32 && norms.shape == [b, h, w, 1]);
        need(fits, || "a length for each pixel".to_owned())?;
        need(not_finite.element == Element::U32 && not_finite.len() == 1, || "one count of values".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        if let Some(norms) = &mut self.norms {
            see(Operand::Write(norms));
        }
        see(Operand::Write(&mut self.out));
        see(Operand::Write(&mut self.not_finite));
    }

    /// Three of the map's values on each axis, and a square.
    fn flop(&self) -> usize {
        let resizing = if self.resized { 18 } else { 1 };
        let lengths = if self.norms.is_some() { resizing + 2 } else { 0 };
        (resizing + lengths) * self.out.len()
    }

    fn shapes(&self) -> String {
        let dtype = if self.out.element == Element::F16 { " f16" } else { "" };
        let normalised = if self.norms.is_some() { " normalised" } else { "" };
        format!("{} → {}{dtype}{normalised}", self.x.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Infinite, Nan, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, lowercase, switches};

    /// What is looked at.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Look {
        Out,
        NotFinite,
    }

    use Layout::{Chw, Hwc};
    use Look::{NotFinite, Out};

    /// A form: size, type, whether vectors are brought to length 1.
    type Form = (Option<Map>, Element, bool);

    pub fn add(all: &mut Cases) {
        let (f32, f16) = (Element::F32, Element::F16);
        // One pixel, one channel; a map as it is; channels past a warp's 32 and its memory; a photo smaller than the map, one row; a
        // batch; zeros, and what float16 cannot hold.
        let awkward = [
            (1, (1, 1), 1, (None, f32, false), Out, Nothing),
            (1, (1, 1), 1, (Some((3, 5)), f16, true), Out, Nothing),
            (2, (5, 7), 33, (None, f16, true), Out, Zeros),
            (1, (13, 9), 40, (None, f32, true), Out, Nothing),
            (2, (5, 7), 33, (Some((11, 13)), f32, true), Out, Zeros),
            (1, (13, 9), 17, (Some((11, 7)), f16, false), Out, Outliers),
            (2, (6, 8), 64, (Some((12, 16)), f16, true), Out, Nothing),
            (1, (5, 40), 100, (Some((9, 80)), f32, false), Out, Nothing),
            (1, (3, 50), 3, (Some((1, 9)), f32, true), Out, Nothing),
            (1, (5, 7), 20, (None, f32, true), Out, Nan),
            (2, (5, 7), 20, (Some((9, 13)), f32, false), NotFinite, Infinite),
            (2, (5, 7), 37, (None, f32, true), NotFinite, Infinite),
            (2, (5, 7), 37, (None, f16, false), NotFinite, Nan),
            (1, (5, 7), 300, (Some((10, 14)), f16, false), NotFinite, Outliers),
            (1, (5, 7), 300, (Some((10, 14)), f32, false), NotFinite, Outliers),
        ];
        for layout in [Hwc, Chw] {
            let made =
                |(batch, map, channels, form, look, plant)| case(batch, map, channels, form, layout, look, plant);
            all.awkward.extend(awkward.map(made));
        }
        all.real.push(case(1, (240, 240), 512, (Some((240, 320)), f16, false), Hwc, Out, Nothing));
        all.real.push(case(1, (240, 240), 512, (None, f16, false), Chw, Out, Nothing));
    }

    pub fn case(
        batch: usize,
        map: Map,
        channels: usize,
        (to, dtype, normalise): Form,
        layout: Layout,
        look: Look,
        plant: Plant,
    ) -> Case {
        let mut c = CaseBuilder::new(plant);
        // What stands out is 300 times as large: beyond float16, and beyond the limit.
        let x = c.input([batch, map.0, map.1, channels], Element::F32, 250.0);
        let size = to.unwrap_or(map);
        let norms = normalise.then(|| c.output([batch, size.0, size.1, 1], Element::F32));
        let out = c.output(layout.shape(batch, size, channels), dtype);
        let not_finite = c.output([1; 4], Element::U32);
        let factor = if normalise { 1.0 } else { 4.0 };
        let limit = if dtype == Element::F32 { 1000.0 } else { 1e9 };
        let sizes = format!("{batch}x{}x{}x{channels}-{}x{}-{}", map.0, map.1, size.0, size.1, lowercase(layout));
        let with = switches([
            (to.is_some(), "resized"),
            (dtype == Element::F16, "f16"),
            (normalise, "normalised"),
            (look == NotFinite, "not_finite"),
        ]);
        let looked = if look == Out { out } else { not_finite };
        let op = FormFeatures { x, resized: to.is_some(), norms, factor, limit, layout, out, not_finite };
        c.build(format!("{sizes}{with}"), looked, op)
    }
}
