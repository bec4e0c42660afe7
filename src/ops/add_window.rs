//! A window's map, added where the window lies.

use super::{Buf, Element, Operand, Operation, PlanBuilder, need};

/// Where a window's map goes: pixels of a region of the sums, whose rows are a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Place {
    /// The region's first pixel among the sums, how many rows and columns it has.
    pub base: u32,
    pub ring: u32,
    pub width: u32,
    /// Which rows and columns of the window are added, from the first of them to the one behind the last.
    pub rows: [u32; 2],
    pub columns: [u32; 2],
    /// The region's row and column of the first of them.
    pub to_row: u32,
    pub to_column: u32,
    /// From this row and this column of the window on no window was added before: there the map's values are stored.
    pub fresh_row: u32,
    pub fresh_column: u32,
    /// 1: the map's columns are in reverse order.
    pub mirrored: u32,
}

/// Words of a [`Place`].
pub const WORDS: usize = size_of::<Place>() / size_of::<u32>();

/// Sums `[1, 1, pixels, c]` += the map of one window of a batch, `[b, h, w, c]`, as it is or upsampled ×2 (align_corners=True).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddWindow {
    pub sums: Buf,
    /// `F32` or `F16`
    pub map: Buf,
    /// (`U32`, `[1, 1, b, WORDS]`) [`Place`]s.
    pub places: Buf,
    /// Which of the batch.
    pub item: usize,
    pub doubled: bool,
}

impl AddWindow {
    /// Rows and columns of the window.
    pub fn window(&self) -> (usize, usize) {
        let [_, h, w, _] = self.map.shape;
        if self.doubled { (2 * h, 2 * w) } else { (h, w) }
    }
}

impl PlanBuilder {
    pub fn add_window(&mut self, op: AddWindow) {
        self.push(op);
    }
}

impl Operation for AddWindow {
    fn check(&self) -> Result<(), String> {
        let AddWindow { sums, map, places, item, .. } = self;
        need(sums.element == Element::F32 && sums.batch() == 1, || format!("sums of {:?}", sums.element))?;
        need(matches!(map.element, Element::F32 | Element::F16), || format!("a map of {:?}", map.element))?;
        need(sums.channels() == map.channels(), || format!("{:?} is added to {:?}", map.shape, sums.shape))?;
        let fits = places.element == Element::U32 && places.shape == [1, 1, map.batch(), WORDS];
        need(fits && *item < map.batch(), || "a place for each window".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Update(&mut self.sums));
        see(Operand::Read(&mut self.map));
        see(Operand::Read(&mut self.places));
    }

    /// Of a window that is added whole.
    fn flop(&self) -> usize {
        let (h, w) = self.window();
        (if self.doubled { 8 } else { 1 }) * h * w * self.map.channels()
    }

    fn shapes(&self) -> String {
        let (h, w) = self.window();
        format!("{} of {} → {h}×{w}", self.item, self.map.describe())
    }

    /// Of the batch one map and one place, of the sums what the window covers.
    fn moved_bytes(&self, activation: usize) -> Option<usize> {
        let ((h, w), [_, map_h, map_w, c]) = (self.window(), self.map.shape);
        let map = map_h * map_w * c * self.map.element.bytes(activation);
        Some(map + 2 * (h * w).min(self.sums.rows()) * c * self.sums.element.bytes(activation) + size_of::<Place>())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use half::f16;

    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Seeded, Values, lowercase, switches};

    /// How the window lies in its region.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Lie {
        /// All of it, nothing before it.
        Fresh,
        /// Its first rows and columns were covered before; its last ones lie outside, and its rows go round the ring's end.
        Corner,
        /// As a corner, in reverse order and added everywhere.
        Mirrored,
        /// No pixel of it.
        Nowhere,
    }

    use Lie::{Corner, Fresh, Mirrored, Nowhere};

    pub fn add(all: &mut Cases) {
        let f32 = Element::F32;
        // One pixel; a batch of which the second is added; channels past a block, and in pieces; halves; a map of one row.
        let awkward = [
            (1, 0, (1, 1), 1, f32, true, Fresh, Nothing),
            (2, 1, (5, 7), 17, f32, true, Corner, Nothing),
            (2, 1, (5, 7), 17, f32, true, Mirrored, Nothing),
            (1, 0, (4, 9), 300, f32, true, Corner, Nothing),
            (1, 0, (13, 9), 3, f32, true, Fresh, Nan),
            (1, 0, (2, 3), 2100, f32, true, Corner, Nothing),
            (3, 2, (6, 5), 20, f32, false, Corner, Nothing),
            (2, 1, (6, 5), 20, f32, false, Mirrored, Nothing),
            (2, 0, (5, 7), 33, Element::F16, true, Mirrored, Nothing),
            (2, 1, (1, 40), 5, Element::F16, false, Corner, Nothing),
            (2, 1, (5, 7), 4, f32, true, Nowhere, Nothing),
        ];
        let made = |(batch, item, map, c, element, doubled, lie, plant)| {
            case(batch, item, map, c, element, doubled, lie, plant)
        };
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, 0, (240, 240), 20, f32, true, Fresh, Nothing));
        all.real.push(case(1, 0, (240, 240), 150, f32, true, Corner, Nothing));
    }

    #[expect(clippy::too_many_arguments, reason = "a row of the table above")]
    pub fn case(
        batch: usize,
        item: usize,
        map: Map,
        channels: usize,
        element: Element,
        doubled: bool,
        lie: Lie,
        plant: Plant,
    ) -> Case {
        let mut c = CaseBuilder::new(plant);
        let double = if doubled { 2 } else { 1 };
        let (h, w) = (double * map.0, double * map.1);
        // A region with others before and behind it.
        let (before, ring, width) = (3, h + 1, w + 2);
        let sums = c.input([1, 1, before + ring * width + 5, channels], Element::F32, 3.0);
        let map_shape = [batch, map.0, map.1, channels];
        let map = c.input_of(map_shape, element, move |s: &mut Seeded| {
            let values = s.values(map_shape.iter().product(), 2.0).into_iter();
            let rounded = |value| if element == Element::F16 { f16::from_f32(value).to_f32() } else { value };
            Values::F32(values.map(rounded).collect())
        });
        let place = place(lie, [before, ring, width], (h, w));
        let places = c.input_of([1, 1, batch, WORDS], Element::U32, move |_| {
            // Nobody reads the other items' places.
            let other = Place { base: u32::MAX, ..Place::default() };
            let all: Vec<Place> = (0..batch).map(|b| if b == item { place } else { other }).collect();
            Values::U32(bytemuck::cast_slice(&all).to_vec())
        });
        let [_, map_h, map_w, _] = map_shape;
        let half = switches([(element == Element::F16, "f16"), (doubled, "doubled")]);
        let sizes = format!("{item}-of-{batch}x{map_h}x{map_w}x{channels}-{}{half}", lowercase(lie));
        // What is fresh need not be read, and what lies outside not be touched.
        let covered = |[from, to]: [u32; 2]| (to - from) as usize;
        let pixels = covered(place.rows) * covered(place.columns);
        let op = AddWindow { sums, map, places, item, doubled };
        let touched = if lie == Fresh { pixels } else { 2 * pixels };
        c.spare((2 * (h * w).min(sums.rows()) - touched) * channels * 4);
        if lie == Nowhere {
            c.spare(map_h * map_w * channels * element.bytes(2));
        }
        c.build(sizes, sums, op)
    }

    fn place(lie: Lie, [base, ring, width]: [usize; 3], (h, w): Map) -> Place {
        let [base, ring, width, h, w] = [base, ring, width, h, w].map(|n| n as u32);
        let all = Place { base, ring, width, rows: [0, h], columns: [0, w], ..Place::default() };
        let corner = Place {
            rows: [h / 4, h - h / 5],
            columns: [w / 5, w - w / 4],
            to_row: ring - 1,
            to_column: 2,
            fresh_row: h / 2,
            fresh_column: w / 3,
            ..all
        };
        match lie {
            Fresh => all,
            Corner => corner,
            Mirrored => Place { fresh_row: u32::MAX, mirrored: 1, ..corner },
            Nowhere => Place { rows: [0; 2], ..all },
        }
    }
}
