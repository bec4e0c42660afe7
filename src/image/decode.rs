//! Photo files to 8-bit RGB.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use tiff::tags::{CompressionMethod, Tag};

use crate::checkpoint::printable;
use crate::{Error, Result};

/// The largest photo taken by default, in pixels: 64 megapixels.
pub const DEFAULT_MAX_PIXELS: u64 = 64_000_000;

/// The formats that this program reads; the file's content decides, not its name.
pub const FORMATS: &str = "JPEG, PNG, WebP, GIF (first frame), BMP, TIFF (not of JPEG parts), PNM";

/// Room for a decoder's tables and for a small photo's metadata, beside what grows with the pixels.
const FIXED_BYTES: u64 = 64 << 20;

/// The widest pixel that any of the formats has: four channels of 32 bits.
const MAX_BYTES_PER_PIXEL: u64 = 16;

/// A photo as the network's protocol takes it: upright, opaque, 8 bits a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    pub width: usize,
    pub height: usize,
    /// [height, width, 3], R G B.
    pub rgb: Vec<u8>,
}

/// Reads the photo at `path`. The EXIF orientation is honoured, transparency is composed on white, grey becomes RGB
/// and 16-bit channels are rounded to 8 bits.
///
/// The size is read from the file's header and checked against `max_pixels` before anything is decoded; the memory
/// that decoding may take is bounded by it as well.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened or read; [`Error::Photo`] if it is empty, in no supported format,
/// damaged, cut short or larger than `max_pixels`.
pub fn decode(path: &Path, max_pixels: u64) -> Result<Photo> {
    let bytes = read(path, byte_limit(max_pixels))?;
    decode_bytes(&bytes, max_pixels).map_err(|reason| Error::photo(path, reason))
}

fn byte_limit(max_pixels: u64) -> u64 {
    max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL).saturating_add(FIXED_BYTES)
}

/// The whole file, or an error once it passes `limit` bytes (an endless device, a film).
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::photo(path, format!("more than {} MB, too large for a photo", limit / 1_000_000)));
    }
    Ok(bytes)
}

fn decode_bytes(bytes: &[u8], max_pixels: u64) -> Result<Photo, String> {
    if bytes.is_empty() {
        return Err("an empty file; expected a photo".into());
    }
    let format = image::guess_format(bytes)
        .map_err(|_| format!("not a photo: its first bytes belong to no format that is read here ({FORMATS})"))?;
    if !format.reading_enabled() {
        return Err(format!("{} photos are not read here; convert it to one of {FORMATS}", name(format)));
    }
    let damaged = |e: image::ImageError| {
        // Some decoders' messages have line ends or the file's own text in them.
        let reason = printable(&e.to_string());
        format!(
            "cannot be decoded as {} ({reason}); the file is damaged, cut short or of an unusual kind",
            name(format)
        )
    };

    if format == ImageFormat::Tiff && holds_jpeg(bytes) {
        return Err("a TIFF of JPEG-compressed parts, which is not read here; save it as JPEG or PNG".into());
    }

    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(byte_limit(max_pixels));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    if decoder.total_bytes() > byte_limit(max_pixels) {
        return Err(format!("would take {} MB when decoded, more than allowed", decoder.total_bytes() / 1_000_000));
    }
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err("a JPEG that is cut short: it has no end-of-image marker; copy or download it again".into());
    }

    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(opaque(picture))
}

fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("{width}×{height} pixels: there is nothing in it"));
    }
    if pixels > max_pixels {
        return Err(format!(
            "{width}×{height} is {pixels} pixels, more than the {max_pixels} allowed; raise the limit (--max-pixels) or \
             make the photo smaller"
        ));
    }
    Ok(())
}

/// Composes transparency on white and brings every pixel layout to 8-bit RGB.
fn opaque(picture: DynamicImage) -> Photo {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let rgb = if picture.color().has_alpha() {
        let rgba = picture.into_rgba8().into_raw();
        rgba.chunks_exact(4).flat_map(|p| [on_white(p[0], p[3]), on_white(p[1], p[3]), on_white(p[2], p[3])]).collect()
    } else {
        picture.into_rgb8().into_raw()
    };
    Photo { width, height, rgb }
}

fn on_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

/// Whether a TIFF's pixels are JPEG streams. Each of them states a size of its own, which the decoder follows whatever
/// the photo's size and the limits are: a file of a kilobyte would take a gigabyte.
fn holds_jpeg(bytes: &[u8]) -> bool {
    let compression = tiff::decoder::Decoder::new(Cursor::new(bytes))
        .and_then(|mut decoder| decoder.get_tag(Tag::Compression))
        .and_then(|value| value.into_u16());
    compression.is_ok_and(|method| method == CompressionMethod::ModernJPEG.to_u16())
}

/// Whether a JPEG's segments and scans lead to its end-of-image marker. The decoder itself fills missing rows with
/// grey, as photo viewers do; a segmentation of that would be nonsense that looks like a result.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some((marker, after)) = next_marker(rest) {
        rest = match marker {
            END_OF_IMAGE => return true,
            // Markers without a length: start of image, TEM.
            0x01 | 0xD8 => after,
            _ => {
                let Some(length) = after.first_chunk::<2>().map(|b| usize::from(u16::from_be_bytes(*b))) else {
                    return false;
                };
                let Some(after_segment) = after.get(length.max(2)..) else { return false };
                after_segment
            }
        };
    }
    false
}

/// The next marker's code and what follows it. Skips entropy-coded data, in which 0xFF is followed by 0 (a stuffed
/// byte) or by a restart marker, and fill bytes.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = bytes.windows(2).position(|w| w[0] == 0xFF && !matches!(w[1], 0x00 | 0xD0..=0xD7 | 0xFF))?;
    Some((bytes[at + 1], bytes.get(at + 2..)?))
}
