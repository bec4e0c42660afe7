//! The photo in its labels' colours.

use super::mask::Labels;

/// A row: `photo` and `out` are `[w, 3]`, `mask` `[w]`, `palette` `[labels, 4]`.
pub fn row(photo: &[u8], mask: Labels<'_>, palette: &[u8], out: &mut [u8]) {
    let pixels = out.as_chunks_mut::<3>().0.iter_mut().zip(photo.as_chunks::<3>().0);
    for (i, (out, pixel)) in pixels.enumerate() {
        let colour = &palette[4 * mask.get(i)..][..3];
        *out = std::array::from_fn(|channel| pixel[channel].midpoint(colour[channel]));
    }
}
