//! The arena's memory: for each operation one output to write and any inputs to read.
//!
//! A plan that let an input and the output of one operation overlap would stop here, not corrupt.

use rayon::prelude::*;

use super::mask::Labels;
use crate::ops::{Buf, Element, Rows};
use crate::termination::try_reserve;

/// One cache line: the unit, so that every buffer starts on one.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

#[derive(Default)]
pub struct Arena(Vec<Line>);

/// Everything but the output.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    before: &'a [f32],
    after: &'a [f32],
    /// Where `after` begins.
    end: usize,
}

impl Arena {
    /// Makes room for `bytes`, keeping none of the old values. False if the memory cannot be had.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let lines = bytes.div_ceil(size_of::<Line>());
        if lines > self.0.len() {
            self.0 = Vec::new();
            if try_reserve(&mut self.0, lines).is_err() {
                return false;
            }
            self.0.resize(lines, bytemuck::Zeroable::zeroed());
        }
        true
    }

    /// A buffer's bytes.
    pub fn bytes(&self, buf: Buf) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[buf.offset..][..buf.len() * buf.element.bytes(4)]
    }

    pub fn bytes_mut(&mut self, buf: Buf) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.0)[buf.offset..][..buf.len() * buf.element.bytes(4)]
    }

    pub fn split(&mut self, out: Buf) -> (Inputs<'_>, &mut [f32]) {
        let (first, len) = span(out);
        let (before, rest) = bytemuck::cast_slice_mut(&mut self.0).split_at_mut(first);
        let (out, after) = rest.split_at_mut(len);
        (Inputs { before, after, end: first + len }, out)
    }

    /// Several buffers beside each other; empty in the place of none.
    pub fn places<const N: usize>(&mut self, bufs: [Option<Buf>; N]) -> [&mut [f32]; N] {
        let ranges = bufs.map(|buf| {
            let (first, len) = buf.map_or((0, 0), span);
            first..first + len
        });
        let all = bytemuck::cast_slice_mut::<Line, f32>(&mut self.0);
        all.get_disjoint_mut(ranges).expect("buffers of one operation lie apart")
    }

    /// `f(inputs, batch item, block of it, the block's place)` for all blocks of `rows` rows, each a task.
    pub fn by_blocks(&mut self, out: Rows, rows: usize, f: impl Fn(Inputs<'_>, usize, usize, &mut [f32]) + Sync) {
        let (inputs, all) = self.split(out.buf);
        let c = out.buf.channels();
        all.par_chunks_mut(out.buf.rows() * c).enumerate().for_each(|(b, item)| {
            let blocks = item[out.first * c..][..out.count * c].par_chunks_mut(rows * c);
            blocks.enumerate().for_each(|(i, block)| f(inputs, b, i, block));
        });
    }

    /// As [`Arena::by_blocks`], a block being a row of the map.
    pub fn by_rows(&mut self, out: Buf, f: impl Fn(Inputs<'_>, usize, usize, &mut [f32]) + Sync) {
        self.by_blocks(out.all(), out.shape[2], f);
    }
}

impl<'a> Inputs<'a> {
    pub fn get(&self, buf: Buf) -> &'a [f32] {
        let (first, len) = span(buf);
        match first.checked_sub(self.end) {
            Some(first) => &self.after[first..first + len],
            None => &self.before[first..first + len],
        }
    }

    /// The rows of one batch item.
    pub fn item(&self, rows: Rows, b: usize) -> &'a [f32] {
        let c = rows.buf.channels();
        &self.get(rows.buf)[(b * rows.buf.rows() + rows.first) * c..][..rows.count * c]
    }

    /// All of a buffer, whatever its elements.
    pub fn bytes(&self, buf: Buf) -> &'a [u8] {
        &bytemuck::cast_slice(self.get(buf))[..buf.len() * buf.element.bytes(4)]
    }

    pub fn get_u8(&self, buf: Buf) -> &'a [u8] {
        &bytemuck::cast_slice(self.get(buf))[..buf.len()]
    }

    pub fn labels(&self, mask: Buf) -> Labels<'a> {
        match mask.element {
            Element::U8 => Labels::Bytes(self.get_u8(mask)),
            _ => Labels::Words(&bytemuck::cast_slice(self.get(mask))[..mask.len()]),
        }
    }

    pub fn get_u32(&self, buf: Buf) -> &'a [u32] {
        &bytemuck::cast_slice(self.get(buf))[..buf.len()]
    }
}

/// First float32 and number of them.
fn span(buf: Buf) -> (usize, usize) {
    (buf.offset / 4, (buf.len() * buf.element.bytes(4)).div_ceil(4))
}
