//! The numbers that windows and their sums are cut by, as the device takes them.

use std::ops::Range;

use crate::ops::add_window::Place;
use crate::ops::cut_windows::TAPS;
use crate::protocol::grid::Axis;
use crate::protocol::strips::{Layout, Strip};
use crate::protocol::{Before, Flip, Look, Protocol};
use crate::resample::{Pair, corners, edges};

/// One window of a scale, as it is or mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub scale: usize,
    pub row: usize,
    pub column: usize,
    pub mirrored: bool,
}

/// Windows of some rows, in the order in which they are added.
pub fn windows(protocol: &Protocol, strip: &Strip, rows: &[(usize, usize)], into: &mut Vec<Window>) {
    let passes = flip(protocol).passes();
    for (scale, row) in rows.iter().copied() {
        for column in strip.scales[scale].windows.clone() {
            let window = |mirrored| Window { scale, row, column, mirrored };
            into.extend([window(false), window(true)].into_iter().take(passes));
        }
    }
}

/// The kinds of pass where so many windows are the most: halves of it down to one.
pub fn batches(most: usize) -> Vec<usize> {
    std::iter::successors(Some(most.max(1)), |size| (*size > 1).then_some(size / 2)).collect()
}

/// What the windows of a pass see, with which weights, and where they go.
#[derive(Default)]
pub struct Tables {
    pub seen: Vec<u32>,
    pub weights: Vec<f32>,
    pub places: Vec<Place>,
}

impl Tables {
    /// Of these windows, in the place of those before.
    pub fn fill(&mut self, sight: &Sight<'_>, layout: &Layout, strip: &Strip, windows: &[Window]) {
        let Tables { seen, weights, places } = self;
        seen.clear();
        weights.clear();
        places.clear();
        windows.iter().for_each(|window| sight.window(layout, *window, seen, weights));
        places.extend(windows.iter().map(|window| place(layout, strip, *window)));
    }
}

pub fn flip(protocol: &Protocol) -> Flip {
    match &protocol.look {
        Look::Windows(windows) => windows.flip,
        _ => Flip::None,
    }
}

/// What windows see of a photo of (height, width), which `protocol` may resize before.
pub struct Sight<'a> {
    pub protocol: &'a Protocol,
    pub photo: (usize, usize),
}

impl Sight<'_> {
    /// What the rows, then the columns of a window see, appended.
    pub fn window(&self, layout: &Layout, window: Window, seen: &mut Vec<u32>, weights: &mut Vec<f32>) {
        let (grid, crop) = (&layout.grids[window.scale], self.protocol.crop(&layout.grids));
        let (height, width) = self.protocol.photo_size(self.photo);
        let mut axis = |axis: &Axis, number: usize, from: (usize, usize), mirrored: bool| {
            let first = number * axis.stride * (crop / axis.crop);
            for i in 0..crop {
                let at = first + if mirrored { crop - 1 - i } else { i };
                let taps = self.taps(at, axis.scaled, from);
                seen.extend(taps.map(|(place, _)| place as u32));
                weights.extend(taps.map(|(_, weight)| weight));
            }
        };
        axis(&grid.height, window.row, (height, self.photo.0), false);
        axis(&grid.width, window.column, (width, self.photo.1), window.mirrored);
    }

    /// What pixel `at` of a photo of `scaled` pixels sees of one of `between`, and that of the `photo`'s own; black behind its last.
    fn taps(&self, at: usize, scaled: usize, (between, photo): (usize, usize)) -> [(usize, f32); TAPS] {
        let [low, high] = ends(corners(at.min(scaled - 1), between, scaled));
        let taps = [low, high].map(|(place, weight)| {
            let ends = ends(self.before(place, photo, between));
            ends.map(|(place, inner)| (place, if at < scaled { weight * inner } else { 0.0 }))
        });
        [taps[0][0], taps[0][1], taps[1][0], taps[1][1]]
    }

    fn before(&self, i: usize, photo: usize, between: usize) -> Pair {
        match self.protocol.before {
            Before::Float { corners: true, .. } => corners(i, photo, between),
            Before::Float { corners: false, .. } => edges(i, photo, between),
            _ => Pair { low: i, high: i, t: 0.0 },
        }
    }

    /// As of [`CutWindows`](crate::ops::CutWindows).
    pub fn density(&self, layout: &Layout) -> usize {
        let between = self.protocol.photo_size(self.photo).1;
        let of_scales = layout.grids.iter().map(|grid| self.photo.1.div_ceil(grid.width.scaled));
        // Two neighbours of the resized photo lie that far apart, and so do those that they see.
        let before = if between == self.photo.1 { 1 } else { 2 * self.photo.1.div_ceil(between) };
        of_scales.max().unwrap_or(1).max(before)
    }
}

/// Both places with their weights; the second is the first where it has none.
fn ends(Pair { low, high, t }: Pair) -> [(usize, f32); 2] {
    [(low, 1.0 - t), (if t == 0.0 { low } else { high }, t)]
}

/// Where a window's map goes.
pub fn place(layout: &Layout, strip: &Strip, window: Window) -> Place {
    let (grid, region) = (&layout.grids[window.scale], &layout.regions[window.scale]);
    let seen = &strip.scales[window.scale];
    let (row, column) = (window.row * grid.height.stride, window.column * grid.width.stride);
    let rows = 0..grid.height.crop.min(grid.height.size - row);
    let columns = seen.map.start.max(column)..seen.map.end.min(column + grid.width.crop);
    let within = |range: &Range<usize>, from: usize| [(range.start - from) as u32, (range.end - from) as u32];
    // What the window before this one covers of it.
    let overlap = |axis: &Axis, is_first: bool| if is_first { 0 } else { (axis.crop - axis.stride) as u32 };
    let is_again = window.mirrored;
    Place {
        base: region.base as u32,
        ring: region.ring as u32,
        width: region.width as u32,
        rows: within(&rows, 0),
        columns: within(&columns, column),
        to_row: (row % region.ring) as u32,
        to_column: (columns.start - seen.map.start) as u32,
        fresh_row: if is_again { u32::MAX } else { overlap(&grid.height, window.row == 0) },
        fresh_column: overlap(&grid.width, window.column == seen.windows.start),
        mirrored: is_again.into(),
    }
}

/// Places and weights of what some of `out`'s rows or columns see of every scale, each of `room` of them; those behind the last see
/// nothing.
pub struct Table {
    pub places: Vec<u32>,
    pub weights: Vec<f32>,
}

/// Of rows.
pub fn rows(protocol: &Protocol, layout: &Layout, rows: Range<usize>, room: usize) -> Table {
    table(room, layout.grids.len(), |scale, i| {
        let (axis, region) = (&layout.grids[scale].height, &layout.regions[scale]);
        let at = (rows.start + i).min(rows.end - 1);
        let place = |row: usize| region.base + row % region.ring * region.width;
        let weight = if rows.start + i < rows.end { 1.0 } else { 0.0 };
        seen(protocol, axis, at, layout.out.0, weight).map(|(row, weight)| (place(row), weight))
    })
}

/// Of a strip's columns, with the mean over mirrored windows where that is taken.
pub fn columns(protocol: &Protocol, layout: &Layout, strip: &Strip) -> Table {
    let factor = if flip(protocol) == Flip::Mean { 0.5 } else { 1.0 };
    let columns = &strip.columns;
    table(layout.width(), layout.grids.len(), |scale, i| {
        let (axis, first) = (&layout.grids[scale].width, strip.scales[scale].map.start);
        let at = (columns.start + i).min(columns.end - 1);
        let weight = if columns.start + i < columns.end { factor } else { 0.0 };
        seen(protocol, axis, at, layout.out.1, weight).map(|(column, weight)| (column - first, weight))
    })
}

/// What pixel `at` of `out` sees of the sums of an axis, each divided by how many windows cover it.
fn seen(protocol: &Protocol, axis: &Axis, at: usize, out: usize, factor: f32) -> [(usize, f32); 2] {
    ends(protocol.seen(at, axis, out)).map(|(place, weight)| (place, factor * weight / axis.cover(place) as f32))
}

fn table(room: usize, scales: usize, pair: impl Fn(usize, usize) -> [(usize, f32); 2]) -> Table {
    let all = (0..scales).flat_map(|scale| (0..room).map(move |i| (scale, i)));
    let (places, weights) =
        all.flat_map(|(scale, i)| pair(scale, i)).map(|(place, weight)| (place as u32, weight)).unzip();
    Table { places, weights }
}
