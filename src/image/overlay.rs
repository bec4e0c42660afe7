//! The picture for people: the photo tinted with its labels' colours, and the legend beside it.

use std::io::{self, Write};

use super::decode::Photo;
use super::legend::{self, Entry};
use crate::{Error, Result};

/// A photo tinted in its labels' colours ([`segment_with`](crate::Engine::segment_with)), and the legend on its right.
///
/// `colours` has one a label, `shares` the labels' fractions of the photo.
///
/// # Errors
/// [`Error::Size`] if the lengths do not match or there is no pixel.
pub fn overlay(tinted: &Photo, labels: &[String], colours: &[[u8; 3]], shares: &[f64]) -> Result<Photo> {
    let Photo { width, height, rgb } = tinted;
    if rgb.is_empty()
        || rgb.len() != 3 * width * height
        || colours.len() != labels.len()
        || shares.len() != labels.len()
    {
        return Err(Error::Size(format!(
            "an overlay of {width}×{height} pixels and {} labels from {} bytes, {} colours and {} shares",
            labels.len(),
            rgb.len(),
            colours.len(),
            shares.len()
        )));
    }
    let entries: Vec<Entry> = labels
        .iter()
        .zip(colours)
        .zip(shares)
        .map(|((label, &colour), &share)| Entry { label, colour, share })
        .collect();
    let panel = legend::draw(&entries, *width, *height);
    let (panel_width, panel_height) = panel.as_ref().map_or((0, 0), |panel| (panel.width, panel.height));
    let (canvas_width, canvas_height) = (width + panel_width, *height.max(&panel_height));
    let rgb = vec![255; 3 * canvas_width * canvas_height];
    let mut canvas = Photo { width: canvas_width, height: canvas_height, rgb };
    paste(&mut canvas, tinted, 0);
    if let Some(panel) = panel {
        paste(&mut canvas, &panel, *width);
    }
    Ok(canvas)
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
    fn the_legend_stands_beside_the_photo() {
        let photo = Photo { width: 40, height: 30, rgb: (0..3 * 1200).map(|i| i as u8).collect() };
        let labels = ["sky".to_owned(), "grass".to_owned()];
        let colours = [[200, 0, 0], [0, 200, 0]];
        let picture = overlay(&photo, &labels, &colours, &[0.25, 0.75]).unwrap();
        let at = |picture: &Photo, x: usize, y: usize| picture.rgb[3 * (y * picture.width + x)..][..3].to_vec();
        for (x, y) in [(0, 0), (39, 0), (17, 11), (39, 29)] {
            assert_eq!(at(&picture, x, y), at(&photo, x, y));
        }
        assert!(picture.width > 100 && picture.height >= 30);
        assert!((40..picture.width).any(|x| (0..30).any(|y| at(&picture, x, y) == colours[1])));

        let mut file = Vec::new();
        write(&mut file, &picture).unwrap();
        let read = image::load_from_memory(&file).unwrap().into_rgb8();
        assert_eq!(read.as_raw(), &picture.rgb);
    }

    #[test]
    fn parts_that_do_not_match_are_refused() {
        let labels = ["sky".to_owned()];
        for (bytes, colours, shares) in [(3, 1, 1), (9, 1, 1), (6, 0, 1), (6, 1, 2)] {
            let photo = Photo { width: 2, height: 1, rgb: vec![0; bytes] };
            let picture = overlay(&photo, &labels, &vec![[0; 3]; colours], &vec![0.5; shares]);
            assert!(matches!(picture, Err(Error::Size(_))));
        }
        let empty = Photo { width: 0, height: 0, rgb: Vec::new() };
        assert!(overlay(&empty, &labels, &[[0; 3]], &[1.0]).is_err());
    }
}
