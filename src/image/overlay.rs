//! The picture for people: the photo tinted with its labels' colours, and the legend beside it.

use std::io::{self, Write};

use super::decode::Photo;
use super::legend::{self, Entry};
use super::palette::palette;
use crate::{Error, Result};

/// The photo tinted half by half with the colour of each pixel's label, and the legend on its right.
///
/// `mask` is [height, width] of the photo, its values index `labels`; `shares` are the labels' fractions of the photo.
///
/// # Errors
/// [`Error::Size`] if the lengths do not match or a value of the mask has no label.
pub fn overlay(photo: &Photo, mask: &[u16], labels: &[String], shares: &[f64]) -> Result<Photo> {
    if mask.is_empty()
        || mask.len() != photo.width * photo.height
        || photo.rgb.len() != 3 * mask.len()
        || shares.len() != labels.len()
    {
        return Err(Error::Size(format!(
            "an overlay of {}×{} pixels and {} labels from a mask of {} values and {} shares",
            photo.width,
            photo.height,
            labels.len(),
            mask.len(),
            shares.len()
        )));
    }
    let colours = palette(labels.len());
    if let Some(value) = mask.iter().find(|&&value| usize::from(value) >= labels.len()) {
        return Err(Error::Size(format!("a mask with the value {value} for {} labels", labels.len())));
    }
    let entries: Vec<Entry> = labels
        .iter()
        .zip(&colours)
        .zip(shares)
        .map(|((label, &colour), &share)| Entry { label, colour, share })
        .collect();
    let panel = legend::draw(&entries, photo.width, photo.height);
    let (panel_width, panel_height) = panel.as_ref().map_or((0, 0), |panel| (panel.width, panel.height));
    let (width, height) = (photo.width + panel_width, photo.height.max(panel_height));
    let mut canvas = Photo { width, height, rgb: vec![255; 3 * width * height] };
    tint(&mut canvas, photo, mask, &colours);
    if let Some(panel) = panel {
        paste(&mut canvas, &panel, photo.width);
    }
    Ok(canvas)
}

/// Draws the photo into the canvas' upper left corner, each pixel mixed half by half with its label's colour.
fn tint(canvas: &mut Photo, photo: &Photo, mask: &[u16], colours: &[[u8; 3]]) {
    let rows = photo.rgb.chunks_exact(3 * photo.width).zip(mask.chunks_exact(photo.width));
    for (to, (pixels, values)) in canvas.rgb.chunks_exact_mut(3 * canvas.width).zip(rows) {
        for ((to, pixel), &value) in to.as_chunks_mut::<3>().0.iter_mut().zip(pixels.as_chunks::<3>().0).zip(values) {
            let colour = colours[usize::from(value)];
            *to = std::array::from_fn(|channel| pixel[channel].midpoint(colour[channel]));
        }
    }
}

/// Copies a picture to the canvas' upper edge, `left` pixels from its left one.
fn paste(canvas: &mut Photo, picture: &Photo, left: usize) {
    let rows = canvas.rgb.chunks_exact_mut(3 * canvas.width).zip(picture.rgb.chunks_exact(3 * picture.width));
    for (to, from) in rows {
        to[3 * left..3 * (left + picture.width)].copy_from_slice(from);
    }
}

/// Writes a picture as an RGB PNG.
///
/// # Errors
/// What writing to `out` yields, and `InvalidInput` if a side passes the format's limit.
pub fn write(out: impl Write, picture: &Photo) -> io::Result<()> {
    let side = |pixels: usize| {
        u32::try_from(pixels)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("a side of {pixels} pixels")))
    };
    let mut encoder = png::Encoder::new(out, side(picture.width)?, side(picture.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.rgb)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_tinted_by_their_label_and_the_legend_stands_beside() {
        let photo = Photo { width: 40, height: 30, rgb: vec![100; 3 * 1200] };
        let mask: Vec<u16> = (0..1200).map(|i| u16::from(i % 40 >= 10)).collect();
        let labels = ["sky".to_owned(), "grass".to_owned()];
        let picture = overlay(&photo, &mask, &labels, &[0.25, 0.75]).unwrap();
        let colours = palette(2);
        let at = |x: usize, y: usize| &picture.rgb[3 * (y * picture.width + x)..][..3];
        assert_eq!(at(0, 0), colours[0].map(|c| c.midpoint(100)));
        assert_eq!(at(39, 29), colours[1].map(|c| c.midpoint(100)));
        assert!(picture.width > 100 && picture.height >= 30);

        let mut file = Vec::new();
        write(&mut file, &picture).unwrap();
        let read = image::load_from_memory(&file).unwrap().into_rgb8();
        assert_eq!(read.as_raw(), &picture.rgb);
    }

    #[test]
    fn parts_that_do_not_match_are_refused() {
        let photo = Photo { width: 2, height: 1, rgb: vec![0; 6] };
        let labels = ["sky".to_owned()];
        for (mask, shares) in [(vec![0], vec![1.0]), (vec![0, 1], vec![1.0]), (vec![0, 0], vec![])] {
            assert!(matches!(overlay(&photo, &mask, &labels, &shares), Err(Error::Size(_))));
        }
    }
}
