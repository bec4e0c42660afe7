//! The picture for people: the photo tinted with its labels' colours, and the legend beside it.

use std::borrow::Cow;
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::iter;
use std::ops::RangeInclusive;

use super::decode::Photo;
use super::idat::{BLOCK, PLAIN, idat};
use super::legend::{self, Entry};
use crate::{Error, Result};

/// Rows that are filtered as suits each best, in bytes. Of longer ones that takes three copies, of shorter ones a call each.
const FILTERED: RangeInclusive<usize> = 64..=1 << 20;

const PAPER: [u8; 3] = [255; 3];

/// A photo tinted in its labels' colours ([`Output::Overlay`](crate::Output::Overlay)), and the legend on its right. Its
/// rows are put together as they are asked for, so that no second copy of the photo is made.
pub struct Overlay<'a> {
    tinted: &'a Photo,
    panel: Option<Photo>,
}

impl Overlay<'_> {
    /// `colours` has one a label, `shares` the labels' fractions of the photo, and behind them, where pixels may have no label, theirs.
    ///
    /// # Errors
    /// [`Error::Size`] if the lengths do not match or there is no pixel.
    pub fn new<'a>(tinted: &'a Photo, labels: &[String], colours: &[[u8; 3]], shares: &[f64]) -> Result<Overlay<'a>> {
        let Photo { width, height, rgb } = tinted;
        if rgb.is_empty()
            || rgb.len() != 3 * width * height
            || colours.len() != labels.len()
            || !(labels.len()..=labels.len() + 1).contains(&shares.len())
        {
            return Err(Error::Size(format!(
                "an overlay of {width}×{height} pixels and {} labels from {} bytes, {} colours and {} shares",
                labels.len(),
                rgb.len(),
                colours.len(),
                shares.len()
            )));
        }
        let labelled = labels.iter().zip(colours).map(|(label, colour)| (label.as_str(), Some(*colour)));
        let entries: Vec<Entry> = labelled
            .chain([("unlabelled", None)])
            .zip(shares)
            .map(|((label, colour), &share)| Entry { label, colour, share })
            .collect();
        Ok(Overlay::beside(tinted, legend::draw(&entries, *width, *height)))
    }

    /// A picture, and what stands on its right.
    pub(super) fn beside(tinted: &Photo, panel: Option<Photo>) -> Overlay<'_> {
        Overlay { tinted, panel }
    }

    /// Pixels of a row: the photo's and the legend's.
    pub fn width(&self) -> usize {
        self.tinted.width + self.panel.as_ref().map_or(0, |panel| panel.width)
    }

    /// The photo's, or the legend's where that is higher.
    pub fn height(&self) -> usize {
        self.panel.as_ref().map_or(0, |panel| panel.height).max(self.tinted.height)
    }

    /// Writes it as an RGB PNG.
    ///
    /// # Errors
    /// What writing to `out` yields, and `InvalidInput` if a side passes the format's limit.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        write_rows(out, self.width(), self.height(), (0..self.height()).map(|y| self.row(y)))
    }

    /// A row's parts, one beside the other.
    fn row(&self, y: usize) -> impl Iterator<Item = Cow<'_, [u8]>> {
        [Some(self.tinted), self.panel.as_ref()].into_iter().flatten().map(move |picture| {
            let row = picture.rgb.chunks_exact(3 * picture.width).nth(y);
            row.map_or_else(|| Cow::Owned(PAPER.repeat(picture.width)), Cow::Borrowed)
        })
    }
}

/// As [`Overlay`], as a picture of its own.
///
/// # Errors
/// As [`Overlay::new`].
pub fn overlay(tinted: &Photo, labels: &[String], colours: &[[u8; 3]], shares: &[f64]) -> Result<Photo> {
    let overlay = Overlay::new(tinted, labels, colours, shares)?;
    let (width, height) = (overlay.width(), overlay.height());
    let mut rgb = Vec::with_capacity(3 * width * height);
    (0..height).flat_map(|y| overlay.row(y)).for_each(|part| rgb.extend_from_slice(&part));
    Ok(Photo { width, height, rgb })
}

/// Writes a picture as an RGB PNG.
///
/// # Errors
/// As [`Overlay::write`].
pub fn write(out: impl Write, picture: &Photo) -> io::Result<()> {
    write_rgb(out, picture.width, picture.height, &picture.rgb)
}

/// As [`write()`], of the pixels as they lie.
pub(crate) fn write_rgb(out: impl Write, width: usize, height: usize, rgb: &[u8]) -> io::Result<()> {
    let rows = rgb.chunks_exact((3 * width).max(1));
    write_rows(out, width, height, rows.map(|row| iter::once(Cow::Borrowed(row))))
}

fn write_rows<'a, R: Iterator<Item = Cow<'a, [u8]>>>(
    out: impl Write,
    width: usize,
    height: usize,
    rows: impl Iterator<Item = R>,
) -> io::Result<()> {
    let side = |pixels: usize| {
        u32::try_from(pixels)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("a side of {pixels} pixels")))
    };
    let mut out = Latched { out, failed: None };
    let mut encoder = png::Encoder::new(&mut out, side(width)?, side(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    if FILTERED.contains(&(3 * width)) {
        let mut stream = writer.stream_writer_with_size(BLOCK)?;
        for row in rows {
            row.into_iter().try_for_each(|part| stream.write_all(&part))?;
        }
        stream.finish()?;
    } else {
        let mut data = BufWriter::with_capacity(BLOCK, idat(&mut writer, flate2::Compression::fast()));
        for row in rows {
            data.write_all(&[PLAIN])?;
            row.into_iter().try_for_each(|part| data.write_all(&part))?;
        }
        data.into_inner().map_err(IntoInnerError::into_error)?.finish()?;
    }
    writer.finish()?;
    out.failed.map_or(Ok(()), Err)
}

/// Takes everything and keeps the first error to the end: the quick compressor panics where a write fails.
struct Latched<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Latched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        Ok(())
    }
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
        for (bytes, colours, shares) in [(3, 1, 1), (9, 1, 1), (6, 0, 1), (6, 1, 0), (6, 1, 3)] {
            let photo = Photo { width: 2, height: 1, rgb: vec![0; bytes] };
            let picture = overlay(&photo, &labels, &vec![[0; 3]; colours], &vec![0.5; shares]);
            assert!(matches!(picture, Err(Error::Size(_))));
        }
        let empty = Photo { width: 0, height: 0, rgb: Vec::new() };
        assert!(overlay(&empty, &labels, &[[0; 3]], &[1.0]).is_err());
    }
}
