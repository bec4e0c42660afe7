//! Rows of a map's channels at another size, a channel at a time: the map's rows that a row of the output sees are blended into a
//! line, then the line's columns.
//!
//! Along a row the weights of eight outputs are vectors, one for each input that any of the eight sees: no value is gathered, and
//! products with a weight of zero change no sum of finite values. So each output has the bits of the plain sum over its taps.

use super::simd::{Isa, multiversion};
use crate::resample::Taps;

/// Outputs of a block.
const LANES: usize = 8;
/// Rows of the map that an output row sees, at most; they are neighbours.
const SEEN: usize = 4;

/// Inputs that a block sees, where that is a constant of the code: at four times the map's width and more, and at twice.
const UNROLLED: [usize; 2] = [4, 6];

/// `[h, w, c]`
#[derive(Clone, Copy)]
pub struct Map<'a> {
    pub values: &'a [f32],
    pub shape: [usize; 3],
}

/// What each block of an output row takes of the line.
pub struct Columns {
    /// Inputs that a block sees, from its first on.
    span: usize,
    first: Vec<usize>,
    /// `[blocks, span]`
    weights: Vec<[f32; LANES]>,
}

impl Columns {
    pub fn new(half: usize, to: usize) -> Columns {
        let taps: Vec<Taps> = (0..to).map(|i| Taps::through_upsample(i, half, to)).collect();
        let seen = |block: &[Taps]| {
            let inputs = || block.iter().flat_map(Taps::iter).map(|(x, _)| x);
            (inputs().min().unwrap_or(0), inputs().max().unwrap_or(0))
        };
        let blocks: Vec<(usize, usize)> = taps.chunks(LANES).map(seen).collect();
        let span = blocks.iter().map(|(first, last)| last - first + 1).max().unwrap_or(1);
        let span = UNROLLED.into_iter().find(|unrolled| span <= *unrolled).unwrap_or(span);
        let mut weights = vec![[0.0; LANES]; blocks.len() * span];
        for ((block, (first, _)), weights) in taps.chunks(LANES).zip(&blocks).zip(weights.chunks_exact_mut(span)) {
            for (lane, taps) in block.iter().enumerate() {
                taps.iter().for_each(|(x, weight)| weights[x - first][lane] = weight);
            }
        }
        Columns { span, first: blocks.iter().map(|(first, _)| *first).collect(), weights }
    }
}

/// float32 values of working memory that [`Rows`] of so many channels take.
pub fn work(width: usize, channels: usize) -> usize {
    // A block sees no more inputs than there are.
    (SEEN * channels + 2) * width + UNROLLED[1]
}

/// Some channels of a map, for rows of the output one after the other.
pub struct Rows<'a> {
    isa: Isa,
    map: Map<'a>,
    to_height: usize,
    columns: &'a Columns,
    first: usize,
    channels: usize,
    /// Which rows of the map `window` `[SEEN, channels, w]` holds.
    held: [Option<usize>; SEEN],
    window: &'a mut [f32],
    /// Zeros behind the map's width, so that every block finds as many inputs.
    line: &'a mut [f32],
    taps: Taps,
}

impl<'a> Rows<'a> {
    /// `channels` from `first` on; `memory` is of [`work`]'s size.
    pub fn new(
        isa: Isa,
        map: Map<'a>,
        to_height: usize,
        columns: &'a Columns,
        (first, channels): (usize, usize),
        memory: &'a mut [f32],
    ) -> Rows<'a> {
        let width = map.shape[1];
        let (window, line) = memory.split_at_mut(SEEN * channels * width);
        line[width..].fill(0.0);
        let taps = Taps::identity(0);
        Rows { isa, map, to_height, columns, first, channels, held: [None; SEEN], window, line, taps }
    }

    /// The next row of the output.
    pub fn go_to(&mut self, row: usize) {
        let [h, w, c] = self.map.shape;
        self.taps = Taps::through_upsample(row, h, self.to_height);
        for (y, _) in self.taps.iter() {
            let place = y % SEEN;
            if self.held[place] != Some(y) {
                self.held[place] = Some(y);
                let planes = &mut self.window[place * self.channels * w..][..self.channels * w];
                take_channels(&self.map.values[y * w * c..][..w * c], c, self.first, planes);
            }
        }
    }

    /// That row of the channel number `k` of these.
    pub fn channel(&mut self, k: usize, out: &mut [f32]) {
        let w = self.map.shape[1];
        let line = &mut self.line[..w];
        line.fill(0.0);
        for (y, weight) in self.taps.iter() {
            let plane = &self.window[(y % SEEN * self.channels + k) * w..][..w];
            add(self.isa, weight, plane, line);
        }
        blend(self.isa, self.columns, self.line, out);
    }
}

/// Of a row `[w, c]` the channels from `first` on, as many as `planes` `[channels, w]` has.
fn take_channels(row: &[f32], c: usize, first: usize, planes: &mut [f32]) {
    let width = row.len() / c;
    let channels = planes.len() / width;
    for (x, pixel) in row.chunks_exact(c).enumerate() {
        for (k, value) in pixel[first..first + channels].iter().enumerate() {
            planes[k * width + x] = *value;
        }
    }
}

multiversion! {
    fn add(weight: f32, values: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to += weight * value);
    }
}

multiversion! {
    /// A row of the output of a line with zeros behind it.
    fn blend(columns: &Columns, line: &[f32], out: &mut [f32]) {
        match columns.span {
            span if span == UNROLLED[0] => blend_blocks::<{ UNROLLED[0] }>(columns, line, out),
            span if span == UNROLLED[1] => blend_blocks::<{ UNROLLED[1] }>(columns, line, out),
            _ => blend_all(columns, line, out),
        }
    }
}

/// Blocks that see `SPAN` inputs each: the loop over them is unrolled.
#[inline(always)]
fn blend_blocks<const SPAN: usize>(columns: &Columns, line: &[f32], out: &mut [f32]) {
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let mut blocks = columns.first.iter().zip(columns.weights.as_chunks::<SPAN>().0);
    for ((first, weights), out) in blocks.clone().zip(whole) {
        *out = blended(weights, &line[*first..]);
    }
    if let Some((first, weights)) = blocks.next_back().filter(|_| !rest.is_empty()) {
        rest.copy_from_slice(&blended(weights, &line[*first..])[..rest.len()]);
    }
}

#[inline(always)]
fn blended<const SPAN: usize>(weights: &[[f32; LANES]; SPAN], line: &[f32]) -> [f32; LANES] {
    let (values, mut sums) = (&line[..SPAN], [-0.0; LANES]);
    for j in 0..SPAN {
        for lane in 0..LANES {
            sums[lane] += weights[j][lane] * values[j];
        }
    }
    sums
}

/// The same of blocks that see any number.
#[inline(always)]
fn blend_all(columns: &Columns, line: &[f32], out: &mut [f32]) {
    let blocks = columns.first.iter().zip(columns.weights.chunks_exact(columns.span));
    for ((first, weights), out) in blocks.zip(out.chunks_mut(LANES)) {
        let mut sums = [-0.0; LANES];
        for (value, weights) in line[*first..][..columns.span].iter().zip(weights) {
            for lane in 0..LANES {
                sums[lane] += weights[lane] * value;
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}
