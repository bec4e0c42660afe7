//! The photo tinted in its labels' colours.

use super::mask::Labels;

/// In place on a row: `photo` is `[w, 3]`, `mask` `[w]`, `palette` `[labels, 4]`, colours and their weight in 128ths.
pub fn row(mask: Labels<'_>, palette: &[[u8; 4]], photo: &mut [u8]) {
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
        let colour = &palette[mask.get(i)];
        *pixel = std::array::from_fn(|channel| mixed(pixel[channel], colour[channel]));
    }
}
