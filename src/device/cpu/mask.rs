//! Masks: a label a pixel, in bytes or, where there are more than 256 labels, in words of 16 bits.

use rayon::prelude::*;

use crate::ops::{Buf, Element};

/// Some pixels' labels.
#[derive(Clone, Copy)]
pub enum Labels<'a> {
    Bytes(&'a [u8]),
    Words(&'a [u16]),
}

/// The same, to be written.
pub enum LabelsMut<'a> {
    Bytes(&'a mut [u8]),
    Words(&'a mut [u16]),
}

impl<'a> Labels<'a> {
    /// Row `i` of rows that are `width` pixels wide.
    pub fn row(self, i: usize, width: usize) -> Labels<'a> {
        match self {
            Labels::Bytes(all) => Labels::Bytes(&all[i * width..][..width]),
            Labels::Words(all) => Labels::Words(&all[i * width..][..width]),
        }
    }

    #[inline(always)]
    pub fn get(self, pixel: usize) -> usize {
        match self {
            Labels::Bytes(all) => usize::from(all[pixel]),
            Labels::Words(all) => usize::from(all[pixel]),
        }
    }
}

impl LabelsMut<'_> {
    #[inline(always)]
    pub fn set(&mut self, pixel: usize, label: usize) {
        match self {
            LabelsMut::Bytes(all) => all[pixel] = label as u8,
            LabelsMut::Words(all) => all[pixel] = label as u16,
        }
    }
}

/// The rows of a mask's place in the arena, each with its number.
pub fn rows_mut(place: &mut [f32], mask: Buf) -> impl IndexedParallelIterator<Item = (usize, LabelsMut<'_>)> {
    let (width, bytes) = (mask.shape[2], mask.element == Element::U8);
    let value = mask.element.bytes(4);
    let rows = bytemuck::cast_slice_mut::<f32, u8>(place)[..mask.len() * value].par_chunks_mut(width * value);
    rows.enumerate().map(move |(i, row)| {
        // The arena's places are aligned, and so is every row of words in them.
        (i, if bytes { LabelsMut::Bytes(row) } else { LabelsMut::Words(bytemuck::cast_slice_mut(row)) })
    })
}
