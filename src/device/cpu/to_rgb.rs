//! A photo of any format as RGB of bytes.

use rayon::prelude::*;

use super::Cpu;
use super::photo::{self, Colours};
use crate::ops;

impl Cpu {
    #[expect(clippy::wrong_self_convention, reason = "named as its operation, it makes nothing of the device")]
    pub(super) fn to_rgb(&mut self, op: &ops::ToRgb) {
        let ops::ToRgb { photo, out } = *op;
        let (inputs, room) = self.arena.split(out);
        let (bytes, photos) = (photo.bytes(), inputs.bytes(photo.buf));
        let rows = bytemuck::cast_slice_mut::<f32, u8>(room)[..out.len()].par_chunks_mut(3 * photo.width).enumerate();
        rows.for_each(|(i, out)| {
            let (item, y) = (i / photo.height, i % photo.height);
            photo::read(&photo, &photos[item * bytes..][..bytes], Row { y, out });
        });
    }
}

/// Row `y` of one photo: `out` is `[width, 3]`.
struct Row<'a> {
    y: usize,
    out: &'a mut [u8],
}

impl photo::Reader for Row<'_> {
    fn read(self, photo: &impl Colours) {
        let row = photo.row(self.y);
        for (x, pixel) in self.out.as_chunks_mut().0.iter_mut().enumerate() {
            // A conversion to a byte ends at its bounds, and makes 0 of what is no number.
            *pixel = row(x).map(|colour| (255.0 * colour).round_ties_even() as u8);
        }
    }
}
