//! Windows of a photo, each of its values taken from the photo itself.

use super::patchify::Normalise;
use super::{Buf, Element, Operand, Operation, Picture, PlanBuilder, need};
use crate::pixels::Format;

/// Inputs that a row or a column of a window sees on its axis, at most: two bilinear steps after each other.
pub const TAPS: usize = 4;

/// A photo → windows of it, normalised and cut in patches: `out` is `[b, h, w, patch·patch·3]`. A row of a window sees up to [`TAPS`]
/// rows of the photo, a column as many columns; where it sees none the window is black. So sizes, places, padding and mirrors are
/// the host's, in numbers, and no resized photo exists. Along a window the least and the largest place that one sees go one way, or
/// stay, those without weight among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutWindows {
    /// Of 8-bit RGB, one.
    pub photo: Picture,
    /// (`U32`, `[b, 1, h·patch + w·patch, TAPS]`) What the rows see of the photo's rows, then the columns of its columns.
    pub seen: Buf,
    /// (`F32`, of the same shape) With which weights.
    pub weights: Buf,
    /// Any n neighbouring columns of a window lie on at most n times as many columns of the photo, and [`TAPS`].
    pub density: usize,
    pub normalise: Normalise,
    pub patch: usize,
    pub out: Buf,
}

impl CutWindows {
    /// Rows and columns of a window.
    pub fn window(&self) -> (usize, usize) {
        (self.out.shape[1] * self.patch, self.out.shape[2] * self.patch)
    }
}

impl PlanBuilder {
    pub fn cut_windows(&mut self, op: CutWindows) {
        self.push(op);
    }
}

impl Operation for CutWindows {
    fn check(&self) -> Result<(), String> {
        let CutWindows { photo, seen, weights, patch, out, .. } = self;
        let (height, width) = self.window();
        need(photo.fits() && photo.format == Format::Rgb8, || format!("windows of {}", photo.describe()))?;
        need(photo.buf.batch() == 1 && !photo.buf.is_empty(), || "one photo of at least one pixel".to_owned())?;
        need(out.channels() == patch * patch * 3, || format!("a patch of {patch} has {} values", patch * patch * 3))?;
        let shape = [out.batch(), 1, height + width, TAPS];
        need(seen.shape == shape && seen.element == Element::U32, || format!("places of {:?}", seen.shape))?;
        need(weights.shape == shape && weights.element == Element::F32, || format!("weights of {:?}", weights.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.photo.buf));
        see(Operand::Read(&mut self.seen));
        see(Operand::Read(&mut self.weights));
        see(Operand::Write(&mut self.out));
    }

    /// Two rows of two columns.
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
    use crate::ops::patchify::cases::NORMALISE;
    use crate::ops::picture::cases::{Fill, picture};

    pub fn add(all: &mut Cases) {
        // One pixel; a batch; one axis only; more columns than a block takes, of a wide photo too; a photo of one row.
        let awkward = [
            (1, (1, 1), (1, 1), 1),
            (2, (13, 9), (2, 3), 4),
            (3, (45, 71), (3, 2), 5),
            (1, (7, 32), (32, 33), 1),
            (2, (1, 90), (2, 20), 16),
            (1, (31, 40), (1, 80), 8),
            (2, (5, 9000), (2, 40), 3),
            (1, (3, 1500), (1, 1), 2),
        ];
        all.awkward.extend(awkward.map(|(batch, photo, grid, patch)| case(batch, photo, grid, patch)));
        all.real.push(case(1, (480, 640), (30, 30), 16));
    }

    /// Each row and column sees one to four neighbours, every seventh nothing; columns go from right to left in every second window.
    pub fn case(batch: usize, photo: Map, (h, w): Map, patch: usize) -> Case {
        let mut c = CaseBuilder::new(Nothing);
        let sizes = format!("{batch}x{}x{}-{h}x{w}-patch{patch}", photo.0, photo.1);
        let picture = picture(&mut c, Format::Rgb8, 1, photo, Fill::Any);
        let (rows, columns) = (h * patch, w * patch);
        let shape = [batch, 1, rows + columns, TAPS];
        let axes = [(rows, photo.0, false), (columns, photo.1, true)];
        let all =
            move || (0..batch).flat_map(move |b| axes.map(|(side, from, turns)| (side, from, turns && b % 2 == 1)));
        let seen = c.input_of(shape, Element::U32, move |_| {
            let axis = |(side, from, turned): (usize, usize, bool)| {
                (0..side * TAPS).map(move |k| {
                    let (i, tap) = (k / TAPS, k % TAPS);
                    let first = if turned { side - 1 - i } else { i } * from / side;
                    (first + tap).min(from - 1) as u32
                })
            };
            Values::U32(all().flat_map(axis).collect())
        });
        let weights = c.input_of(shape, Element::F32, move |s: &mut Seeded| {
            let places = all().flat_map(|(side, ..)| (0..side * TAPS).map(|k| (k / TAPS, k % TAPS)));
            Values::F32(places.map(|(i, tap)| if has_weight(i, tap) { 0.4 + s.value(0.5) } else { 0.0 }).collect())
        });
        let out = c.output([batch, h, w, patch * patch * 3], Element::Activation);
        let density = photo.1.div_ceil(columns);
        c.build(sizes, out, CutWindows { photo: picture, seen, weights, density, normalise: NORMALISE, patch, out })
    }

    fn has_weight(i: usize, tap: usize) -> bool {
        i % 7 != 3 && tap <= i % TAPS
    }
}
