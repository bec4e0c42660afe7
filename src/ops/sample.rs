//! A map's values at points of the photo.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// The values of a map `[b, h, w, c]` at points of the photo, as if it had been brought to the photo's size first
/// (×2 with align_corners=True, then align_corners=False to `photo` = (height, width)) and read between its pixels
/// bilinearly. `points` (`F32`, `[b, 1, n, 2]`) are (x, y) in photo pixels, the centre of pixel 0 at 0; what lies
/// beyond the outermost centres is read at them. `out` is `[b, 1, n, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub x: Buf,
    pub points: Buf,
    pub photo: (usize, usize),
    pub out: Buf,
}

impl PlanBuilder {
    pub fn sample(&mut self, x: Buf, points: Buf, photo: (usize, usize), out: Buf) {
        self.push(Sample { x, points, photo, out });
    }
}

impl Operation for Sample {
    fn check(&self) -> Result<(), String> {
        let Sample { x, points, out, .. } = self;
        let (b, n) = (x.batch(), points.rows());
        need(points.element == Element::F32 && points.shape == [b, 1, n, 2], || {
            format!("points of {:?}", points.shape)
        })?;
        need(out.shape == [b, 1, n, x.channels()], || format!("{:?} at {n} points becomes {:?}", x.shape, out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Read(&mut self.points));
        see(Operand::Write(&mut self.out));
    }

    /// Four pixels of the photo a point, each of up to 4×4 neighbours.
    fn flop(&self) -> usize {
        2 * 64 * self.out.len()
    }

    fn shapes(&self) -> String {
        format!("{} at {} points of {}×{}", self.x.describe(), self.points.rows(), self.photo.0, self.photo.1)
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Seeded, Values};

    pub fn add(all: &mut Cases) {
        // The photo one pixel, larger, smaller than the map, twice its size, one row.
        let awkward = [
            (1, (1, 1), 1, (1, 1), 1, Nothing),
            (2, (5, 7), 17, (37, 45), 19, Nothing),
            (1, (13, 9), 33, (11, 7), 65, Outliers),
            (2, (6, 8), 100, (12, 16), 33, Zeros),
            (1, (5, 7), 3, (1, 50), 7, Nothing),
            (1, (9, 5), 256, (33, 70), 40, Nothing),
        ];
        let made = |(batch, map, channels, photo, points, plant)| case(batch, map, channels, photo, points, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (240, 240), 256, (480, 640), 1000, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, channels: usize, photo: Map, count: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, h, w, channels], Element::Activation, 1.0);
        let points = c.input_of([batch, 1, count, 2], Element::F32, move |s: &mut Seeded| {
            Values::F32((0..batch).flat_map(|_| scattered(count, photo, s)).collect())
        });
        let out = c.output([batch, 1, count, channels], Element::Activation);
        // At most 16 pixels a point, often the same as another's.
        c.spare(2 * x.len().saturating_sub(16 * out.len()));
        let sizes = format!("{batch}x{h}x{w}x{channels}-photo{}x{}-{count}", photo.0, photo.1);
        c.build(sizes, out, Sample { x, points, photo, out })
    }

    /// (x, y) of `count` points: the last pixel's centre, one beyond each edge, a centre inside, then anywhere in the photo
    /// and half a pixel around it.
    fn scattered(count: usize, (h, w): Map, s: &mut Seeded) -> Vec<f32> {
        let (h, w) = (h as f32, w as f32);
        let special = [[w - 1.0, h - 1.0], [-0.75, h + 1e6], [w + 3.0, -0.0], [(w / 2.0).floor(), (h / 3.0).floor()]];
        let mut anywhere = |side: f32| (s.value(0.5) + 0.5) * side - 0.5;
        let point = |i: usize| special.get(i).copied().unwrap_or_else(|| [anywhere(w), anywhere(h)]);
        (0..count).flat_map(point).collect()
    }
}
