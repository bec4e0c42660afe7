//! The photo tinted in its labels' colours.

use super::mask::Labels;

/// A row: `photo` and `out` are `[w, 3]`, `mask` `[w]`, `palette` `[labels, 4]`, colours and their weight in 128ths.
pub fn row(photo: &[u8], mask: Labels<'_>, palette: &[[u8; 4]], out: &mut [u8]) {
    let pixels = out.as_chunks_mut::<3>().0.iter_mut().zip(photo.as_chunks::<3>().0);
    for (i, (out, pixel)) in pixels.enumerate() {
        let [colour @ .., weight] = palette[mask.get(i)];
        let weight = u16::from(weight);
        *out = std::array::from_fn(|channel| {
            let (photo, colour) = (u16::from(pixel[channel]), u16::from(colour[channel]));
            (((128 - weight) * photo + weight * colour) >> 7) as u8
        });
    }
}
