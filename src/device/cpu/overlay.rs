//! The photo tinted in its labels' colours.

use super::mask::Labels;

/// A row: `photo` and `out` are `[w, 3]`, `mask` `[w]`, `palette` `[labels, 4]`, colours and their weight in 128ths.
pub fn row(photo: &[u8], mask: Labels<'_>, palette: &[[u8; 4]], out: &mut [u8]) {
    match u16::from(palette[0][3]) {
        // The usual weight takes half the time.
        64 => mix(photo, mask, palette, out, u8::midpoint),
        weight => mix(photo, mask, palette, out, |photo, colour| {
            (((128 - weight) * u16::from(photo) + weight * u16::from(colour)) >> 7) as u8
        }),
    }
}

#[inline(always)]
fn mix(photo: &[u8], mask: Labels<'_>, palette: &[[u8; 4]], out: &mut [u8], mixed: impl Fn(u8, u8) -> u8) {
    let pixels = out.as_chunks_mut::<3>().0.iter_mut().zip(photo.as_chunks::<3>().0);
    for (i, (out, pixel)) in pixels.enumerate() {
        let colour = &palette[mask.get(i)];
        *out = std::array::from_fn(|channel| mixed(pixel[channel], colour[channel]));
    }
}
