//! Masks as data sets have them: a PNG file whose pixels are ids.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Transformations};

use crate::image::decode;
use crate::printable::printable;
use crate::{Error, Result};

/// A mask's ids.
#[derive(Debug)]
pub struct Ids {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// [height, width]
    pub values: Vec<u16>,
}

impl Ids {
    /// The same at another (width, height), as PyTorch's `interpolate(…, mode="nearest")` takes it.
    pub fn nearest(&self, (width, height): (usize, usize)) -> Ids {
        let rows = (0..height).map(|y| y * self.height / height * self.width);
        let values = rows.flat_map(|row| (0..width).map(move |x| row + x * self.width / width));
        Ids { width, height, values: values.map(|place| self.values[place]).collect() }
    }
}

/// What a mask may take.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Pixels.
    pub max_pixels: u64,
    /// Whether so many bytes may be taken.
    pub ask: &'a dyn Fn(u64) -> Result<()>,
}

/// Reads a grey or indexed PNG within `limits`: a grey pixel's id is its value (of 1 to 16 bits), an indexed
/// one's its index, whatever colour the palette gives it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened; [`Error::Photo`] if it is no PNG, damaged, larger than allowed, or
/// has colours in the place of ids.
pub fn read(path: &Path, limits: Limits) -> Result<Ids> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let refused = |e: png::DecodingError| {
        let reason = e.to_string();
        Error::photo(path, format!("cannot be read as a mask ({}); expected a whole PNG file", printable(&reason)))
    };
    let mut decoder = Decoder::new(BufReader::new(file));
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(refused)?;
    let (colour, depth, (width, height)) = (reader.info().color_type, reader.info().bit_depth, reader.info().size());
    if !matches!(colour, ColorType::Grayscale | ColorType::Indexed) {
        return Err(Error::photo(
            path,
            format!("a mask of colours ({colour:?}); expected ids, in a grey or indexed PNG of 8 or 16 bits"),
        ));
    }
    let pixels = u64::from(width) * u64::from(height);
    let bytes = reader.output_buffer_size().filter(|_| pixels <= limits.max_pixels);
    let bytes = bytes.ok_or_else(|| {
        let what =
            format!("{width}×{height} is more than the {} pixels allowed; raise --max-pixels", limits.max_pixels);
        Error::photo(path, what)
    })?;
    // As they are packed, and as ids.
    (limits.ask)(bytes as u64 + 2 * pixels).map_err(|error| match error {
        Error::Memory(what) => Error::Memory(format!("{}: {what}", path.display())),
        other => other,
    })?;
    let mut packed = vec![0; bytes];
    reader.next_frame(&mut packed).map_err(refused)?;
    let (width, height) = (width as usize, height as usize);
    let values = packed.chunks_exact(bytes / height).flat_map(|row| row_values(row, depth).take(width)).collect();
    Ok(Ids { width, height, values })
}

/// The values of a row as PNG packs them: the first pixel in a byte's highest bits.
fn row_values(row: &[u8], depth: BitDepth) -> impl Iterator<Item = u16> {
    let bits = depth as usize;
    (0..8 * row.len() / bits).map(move |x| match depth {
        BitDepth::Sixteen => u16::from_be_bytes([row[2 * x], row[2 * x + 1]]),
        _ => {
            let shift = 8 - bits - x * bits % 8;
            u16::from(row[x * bits / 8] >> shift) & ((1 << bits) - 1)
        }
    })
}

/// Reads a picture of any format as grey levels, as Pillow's `convert("L")` makes them.
///
/// # Errors
/// As [`decode::decode_asking`].
pub fn read_grey(path: &Path, limits: Limits) -> Result<Ids> {
    let decode::Photo { width, height, rgb } = decode::decode_asking(path, limits.max_pixels, limits.ask)?;
    let level = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
        ((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u16
    };
    Ok(Ids { width, height, values: rgb.chunks_exact(3).map(level).collect() })
}
