//! Photo files to 8-bit RGB.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{exif, jpeg, tiff};
use crate::checkpoint::printable;
use crate::foreign::{self, Class};
use crate::{Error, Result};

/// The largest photo taken by default, in pixels: 64 megapixels.
pub const DEFAULT_MAX_PIXELS: u64 = 64_000_000;

/// The formats that this program reads; the file's content decides, not its name.
pub const FORMATS: &str = "JPEG, PNG, WebP, GIF (first frame), BMP, TIFF (not of JPEG parts), PNM";

/// The endings of pictures of pixels: those that are read here, those that are not, cameras' raw files.
const ENDINGS: [&str; 3] = [
    "jpg jpeg jpe jfif jif jfi mpo png apng webp gif bmp dib tif tiff pbm pgm ppm pnm pam",
    "heic heics heif heifs hif avif avifs jxl jp2 j2k j2c jpc jpf jpx jxr wdp hdp qoi psd psb exr hdr tga dds ico pcx",
    "dng cr2 cr3 crw nef nrw arw sr2 srf orf rw2 raf raw rwl pef srw x3f 3fr fff iiq mef mos mrw erf kdc dcr gpr",
];

/// The first bytes of a file that [`is_picture`] looks at.
pub const HEAD: usize = foreign::HEAD;

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
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    decode_from(path, file, max_pixels)
}

/// As [`decode`], for a photo that is read to its end from `reader`; errors call it `name`.
///
/// # Errors
/// As for [`decode`].
pub fn decode_from(name: &Path, reader: impl Read, max_pixels: u64) -> Result<Photo> {
    let bytes = read(name, reader, byte_limit(max_pixels))?;
    decode_bytes(bytes, max_pixels).map_err(|reason| Error::photo(name, reason))
}

/// Whether `head`, a file's first [`HEAD`] bytes (or all that it has), belong to a picture of pixels, of a format that
/// is read here or of another.
pub fn is_picture(head: &[u8]) -> bool {
    match format(head) {
        // Two letters each, with which a text may start.
        Some(ImageFormat::Pnm) => match head[2..].trim_ascii_start() {
            rest if rest.len() + 2 == head.len() => rest.starts_with(b"#"),
            rest => rest.first().is_some_and(|c| c.is_ascii_digit() || *c == b'#') || head[1] == b'7',
        },
        Some(ImageFormat::Bmp) => head.get(15..18) == Some(&[0; 3]),
        Some(_) => true,
        None => foreign::recognise(head).is_some_and(|found| matches!(found.class, Class::Picture | Class::Raw)),
    }
}

/// Whether `name` has the ending of a picture of pixels, of a format that is read here or of another.
pub fn is_picture_name(name: &Path) -> bool {
    let ending = name.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.iter().any(|endings| endings.split(' ').any(|known| known == ending)))
}

/// Bytes that a photo may have, as a file and decoded.
pub(super) fn byte_limit(max_pixels: u64) -> u64 {
    max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL).saturating_add(FIXED_BYTES)
}

/// The whole file, or an error once it passes `limit` bytes (an endless device, a film).
fn read(name: &Path, reader: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io("read", name, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::photo(name, format!("more than {} MB, too large for a photo", limit / 1_000_000)));
    }
    Ok(bytes)
}

/// The format of which a file's first bytes are the signature. (BigTIFF is TIFF.)
fn format(head: &[u8]) -> Option<ImageFormat> {
    if head.starts_with(b"II+\0") || head.starts_with(b"MM\0+") {
        return Some(ImageFormat::Tiff);
    }
    image::guess_format(head).ok()
}

fn decode_bytes(bytes: Vec<u8>, max_pixels: u64) -> Result<Photo, String> {
    if bytes.is_empty() {
        return Err("an empty file; expected a photo".into());
    }
    let (mut picture, orientation) = match format(&bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(&bytes, max_pixels)?,
        Some(ImageFormat::Tiff) => tiff::decode(bytes, max_pixels)?,
        Some(format) if format.reading_enabled() => other(&bytes, format, max_pixels)?,
        _ => return Err(no_photo(&bytes)),
    };
    if let Some(orientation) = orientation.and_then(Orientation::from_exif) {
        picture.apply_orientation(orientation);
    }
    Ok(opaque(picture))
}

/// A photo of a format that the `image` crate reads rightly, as stored, and its EXIF orientation.
fn other(bytes: &[u8], format: ImageFormat, max_pixels: u64) -> Result<(DynamicImage, Option<u8>), String> {
    let damaged = |e: image::ImageError| undecodable(&format!("{format:?}").to_uppercase(), &e.to_string());
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
    let orientation = decoder.exif_metadata().ok().flatten().and_then(|block| exif::orientation(&block));
    Ok((DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation))
}

/// What a file is that is in no format that is read here, and what to do.
fn no_photo(bytes: &[u8]) -> String {
    match foreign::recognise(&bytes[..bytes.len().min(HEAD)]) {
        Some(found) if matches!(found.class, Class::Picture | Class::Raw | Class::Drawing | Class::Video) => {
            format!("{}, which is not read here; {}", found.what, found.class.remedy())
        }
        Some(found) if matches!(found.class, Class::Text | Class::Other) => {
            format!("not a photo but {}; {} ({FORMATS})", found.what, found.class.remedy())
        }
        Some(found) => format!("not a photo but {}; {}", found.what, found.class.remedy()),
        None => format!("not a photo: its first bytes belong to no format that is read here ({FORMATS})"),
    }
}

/// The error of a file that is of `format` but cannot be decoded. Some decoders' reasons have line ends or the file's
/// own text in them.
pub(super) fn undecodable(format: &str, reason: &str) -> String {
    let reason = printable(reason);
    format!("cannot be decoded as {format} ({reason}); the file is damaged, cut short or of an unusual kind")
}

pub(super) fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<(), String> {
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

/// A colour of which `alpha` of 255 cover white.
pub(super) fn on_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// The R G B of C M Y K, as most programs show it where no colour profile is followed.
pub(super) fn cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| ((u32::from(255 - ink) * u32::from(255 - k) + 127) / 255) as u8)
}
