//! How the sums of windows are kept small: of each scale the rows that later windows still touch, and where those are too many, of
//! some columns at a time.

use std::ops::Range;

use super::grid::Grid;
use super::whole::Protocol;
use crate::{Error, Result};

/// Bytes of the rows that are handed out at once, where one row is not larger.
const STRIPE: usize = 32 << 20;

/// Of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Of what windows are summed up in.
    pub summed: usize,
    /// Of what is made of the sums.
    pub made: usize,
}

/// The sums of one scale: a ring of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first of its pixels among all sums.
    pub base: usize,
    pub ring: usize,
    pub width: usize,
}

/// Some columns of what is handed out, computed from top to bottom.
#[derive(Clone, Debug, PartialEq)]
pub struct Strip {
    pub columns: Range<usize>,
    /// Of each scale the map's columns that these see, and the windows that cover them.
    pub scales: Vec<Seen>,
}

/// What a strip sees of a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub map: Range<usize>,
    pub windows: Range<usize>,
}

/// Where all sums of a photo lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub grids: Vec<Grid>,
    /// (height, width)
    pub out: (usize, usize),
    pub regions: Vec<Region>,
    pub strips: Vec<Strip>,
    /// Rows that are handed out at once, at most.
    pub stripe: usize,
}

impl Layout {
    /// Of a photo of (height, width), with so many channels in at most `memory` bytes: the sums, and where more than they is made of
    /// them, a row of that.
    ///
    /// # Errors
    /// [`Error::Size`] as of [`Protocol::grids`]; [`Error::Memory`] where even one column takes more.
    pub fn new(protocol: &Protocol, photo: (usize, usize), channels: Channels, memory: u64) -> Result<Layout> {
        let grids = protocol.grids(photo)?;
        let out = protocol.out_size(photo, &grids);
        let Channels { summed, made } = channels;
        let mut count = 1;
        loop {
            let strips = strips(protocol, &grids, out, count);
            let regions = regions(&grids, &strips);
            let pixels = pixels(&regions);
            let width = out.1.div_ceil(count);
            let row = if made > summed { made * width } else { 0 };
            let bytes = 4 * (pixels as u64 * summed as u64 + row as u64);
            if bytes <= memory && pixels < u32::MAX as usize {
                let stripe = (STRIPE / (4 * width * summed.max(made))).clamp(1, out.0);
                return Ok(Layout { grids, out, regions, strips, stripe });
            }
            if count == out.1 {
                return Err(Error::Memory(format!(
                    "sums of {summed} channels take {} MiB even for one column of the photo at a time, and \
                     --memory allows {} MiB: allow more, or ask for fewer labels",
                    bytes.div_ceil(1 << 20),
                    memory >> 20
                )));
            }
            count = (count + 1 + count / 8).min(out.1);
        }
    }

    /// Of all sums.
    pub fn pixels(&self) -> usize {
        pixels(&self.regions)
    }

    /// Columns of the widest strip.
    pub fn width(&self) -> usize {
        self.strips.iter().map(|strip| strip.columns.len()).max().unwrap_or(0)
    }

    /// Windows of all strips.
    pub fn windows(&self) -> usize {
        self.strips.iter().map(|strip| self.windows_of(strip)).sum()
    }

    /// Windows that are computed more than once, at the seams of strips.
    pub fn repeated(&self) -> usize {
        self.windows() - self.grids.iter().map(Grid::windows).sum::<usize>()
    }

    fn windows_of(&self, strip: &Strip) -> usize {
        self.grids.iter().zip(&strip.scales).map(|(grid, seen)| grid.height.count * seen.windows.len()).sum()
    }

    /// Any n neighbouring columns that are handed out see at most n times as many of a scale's, and one.
    pub fn density(&self) -> usize {
        let steps = self.out.1.saturating_sub(1).max(1);
        self.grids.iter().map(|grid| (grid.width.size - 1).div_ceil(steps)).max().unwrap_or(1).max(1)
    }
}

fn strips(protocol: &Protocol, grids: &[Grid], (_, width): (usize, usize), count: usize) -> Vec<Strip> {
    let each = width.div_ceil(count);
    let strip = |first: usize| {
        let columns = first..(first + each).min(width);
        let seen = |grid: &Grid| {
            let axis = &grid.width;
            let map =
                protocol.seen(columns.start, axis, width).low..protocol.seen(columns.end - 1, axis, width).high + 1;
            Seen { windows: axis.windows(map.clone()), map }
        };
        let scales = grids.iter().map(seen).collect();
        Strip { columns, scales }
    };
    (0..width).step_by(each).map(strip).collect()
}

/// A row that is handed out may need the one before the next window's first: one more than a window has.
fn regions(grids: &[Grid], strips: &[Strip]) -> Vec<Region> {
    let mut base = 0;
    let region = |(scale, grid): (usize, &Grid)| {
        let width = strips.iter().map(|strip| strip.scales[scale].map.len()).max().unwrap_or(0);
        let ring = grid.height.size.min(grid.height.crop + 1);
        let region = Region { base, ring, width };
        base += ring * width;
        region
    };
    grids.iter().enumerate().map(region).collect()
}

fn pixels(regions: &[Region]) -> usize {
    regions.iter().map(|region| region.ring * region.width).sum()
}

/// What comes next in a strip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These rows of windows: a scale and a row's number.
    Windows(Vec<(usize, usize)>),
    /// These rows can be handed out.
    Rows(Range<usize>),
}

/// The order of a strip: windows come when the next row that is handed out needs them, so that no more rows are kept than must be.
pub struct Order<'a> {
    protocol: &'a Protocol,
    layout: &'a Layout,
    row: usize,
    /// Of each scale the rows of windows that are done.
    done: Vec<usize>,
}

impl<'a> Order<'a> {
    pub fn new(protocol: &'a Protocol, layout: &'a Layout) -> Order<'a> {
        Order { protocol, layout, row: 0, done: vec![0; layout.grids.len()] }
    }

    /// The scales that a row waits for.
    fn blocking(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        let waits = move |scale: &usize| {
            let axis = &self.layout.grids[*scale].height;
            self.protocol.seen(row, axis, self.layout.out.0).high >= axis.whole(self.done[*scale])
        };
        (0..self.done.len()).filter(waits)
    }
}

impl Iterator for Order<'_> {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        let height = self.layout.out.0;
        if self.row == height {
            return None;
        }
        let most = (self.row + self.layout.stripe).min(height);
        let end = (self.row..most).find(|row| self.blocking(*row).next().is_some()).unwrap_or(most);
        if end > self.row {
            let rows = self.row..end;
            self.row = end;
            return Some(Next::Rows(rows));
        }
        let windows: Vec<(usize, usize)> = self.blocking(self.row).map(|scale| (scale, self.done[scale])).collect();
        windows.iter().for_each(|(scale, _)| self.done[*scale] += 1);
        Some(Next::Windows(windows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::preset::{Knobs, Preset};

    const MIB: u64 = 1 << 20;

    fn channels(count: usize) -> Channels {
        Channels { summed: count, made: count }
    }

    fn named(name: &str) -> Protocol {
        Preset::named(name).unwrap().protocol
    }

    /// Every window comes once a strip, every row once, and no row before its windows; what is kept has room in its ring.
    #[test]
    fn an_order_hands_out_every_row_when_its_windows_are_done() {
        let small = Knobs { crop: Some(64), stride: Some(20), ..Knobs::default() }.protocol().unwrap();
        for (protocol, photo) in [
            (named("lseg-eval"), (480, 640)),
            (named("lseg-eval"), (1, 1000)),
            (named("lseg-eval"), (3000, 40)),
            (named("vlmaps"), (479, 481)),
            (named("feature3dgs"), (500, 333)),
            (small, (301, 203)),
        ] {
            for memory in [1024 * MIB, 40 * MIB, 2 * MIB] {
                let Ok(layout) = Layout::new(&protocol, photo, channels(20), memory) else { continue };
                assert!(layout.pixels() as u64 * 80 <= memory);
                let (mut next_row, mut done) = (0, vec![0; layout.grids.len()]);
                for next in Order::new(&protocol, &layout) {
                    match next {
                        Next::Windows(windows) => {
                            for (scale, row) in windows {
                                assert_eq!(row, done[scale]);
                                let axis = &layout.grids[scale].height;
                                // The rows that are still to be seen stay beside the new window's.
                                let oldest = protocol.seen(next_row, axis, layout.out.0).low.min(row * axis.stride);
                                let newest = (row * axis.stride + axis.crop).min(axis.size);
                                assert!(newest - oldest <= layout.regions[scale].ring, "{photo:?} {scale}");
                                done[scale] += 1;
                            }
                        }
                        Next::Rows(rows) => {
                            assert_eq!(rows.start, next_row);
                            next_row = rows.end;
                        }
                    }
                }
                assert_eq!(next_row, layout.out.0);
                assert!(layout.grids.iter().zip(&done).all(|(grid, done)| grid.height.count == *done));
            }
        }
    }

    #[test]
    fn strips_cover_every_column_once() {
        let protocol = Knobs { crop: Some(480), ..Knobs::default() }.protocol().unwrap();
        for (photo, memory, strips) in [((6000, 8000), 512, 1), ((12_000, 16_000), 512, 2)] {
            let layout = Layout::new(&protocol, photo, channels(20), memory * MIB).unwrap();
            assert_eq!(layout.strips.len(), strips);
            let mut next = 0;
            for strip in &layout.strips {
                assert_eq!(strip.columns.start, next);
                next = strip.columns.end;
            }
            assert_eq!((next, layout.repeated() > 0), (photo.1, strips > 1));
        }
        let whole = Layout::new(&protocol, (6000, 8000), channels(20), 1024 * MIB).unwrap();
        assert_eq!(whole.windows(), 475);
    }

    /// 10,000 labels of which vectors are summed up take what the vectors take, and rows are few at a time.
    #[test]
    fn many_labels_take_no_more_than_vectors_do() {
        let protocol = named("lseg-eval");
        let of_vectors = Layout::new(&protocol, (480, 640), channels(512), 1024 * MIB).unwrap();
        let of_labels = Layout::new(&protocol, (480, 640), Channels { summed: 512, made: 10_000 }, 1024 * MIB).unwrap();
        assert_eq!((&of_labels.strips, &of_labels.regions), (&of_vectors.strips, &of_vectors.regions));
        assert!(4 * of_labels.stripe * of_labels.width() * 10_000 <= STRIPE && of_labels.stripe < of_vectors.stripe);
        let wide = Layout::new(&protocol, (480, 640), Channels { summed: 512, made: 65_535 }, 700 * MIB).unwrap();
        assert!(4 * (wide.pixels() * 512 + wide.width() * 65_535) <= 700 << 20);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let protocol = named("lseg-eval");
        let error = Layout::new(&protocol, (480, 640), channels(60_000), MIB).unwrap_err().to_string();
        assert!(error.contains("--memory allows 1 MiB"), "{error}");
    }
}
