//! The photo tinted in its labels' colours.

use rayon::prelude::*;

use super::Cpu;
use super::mask::Labels;
use crate::ops;

impl Cpu {
    pub(super) fn overlay(&mut self, op: &ops::Overlay) {
        let ops::Overlay { mask, palette, photo, .. } = *op;
        let (inputs, photo_all) = self.arena.split(photo);
        let (masks, palette) = (inputs.labels(mask), inputs.get_u8(palette).as_chunks().0);
        let width = mask.shape[2];
        let pictures = &mut bytemuck::cast_slice_mut::<f32, u8>(photo_all)[..photo.len()];
        let rows = pictures.par_chunks_mut(3 * width).enumerate();
        rows.for_each(|(i, photo)| row(masks.row(i, width), palette, photo));
    }
}

/// In place on a picture `[pixels, 3]` of the host; `palette` `[labels, 4]` as plans have it.
pub(crate) fn tint(mask: &[u16], palette: &[[u8; 4]], photo: &mut [u8]) {
    row(Labels::Words(mask), palette, photo);
}

/// In place on a row: `photo` is `[w, 3]`, `mask` `[w]`, `palette` `[labels, 4]`, colours and their weight in 128ths.
fn row(mask: Labels<'_>, palette: &[[u8; 4]], photo: &mut [u8]) {
    match u16::from(palette[0][3]) {
        // The usual weight takes half the time.
        64 => mix(mask, palette, photo, u8::midpoint),
        weight => mix(mask, palette, photo, |photo, colour| {
            (((128 - weight) * u16::from(photo) + weight * u16::from(colour)) >> 7) as u8
        }),
    }
}

#[inline(always)]
fn mix(mask: Labels<'_>, palette: &[[u8; 4]], photo: &mut [u8], mixed: impl Fn(u8, u8) -> u8) {
    for (i, pixel) in photo.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        // Unlabelled pixels stay as they are.
        if let Some(colour) = palette.get(mask.get(i)) {
            *pixel = std::array::from_fn(|channel| mixed(pixel[channel], colour[channel]));
        }
    }
}
