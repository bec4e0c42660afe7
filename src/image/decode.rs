//! Photo files to 8-bit RGB.

use std::cell::Cell;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::{exif, jpeg, tiff};
use crate::checkpoint::printable;
use crate::file_kind::{self, Class};
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
pub const HEAD: usize = file_kind::HEAD;

/// Room for a decoder's tables and for a small photo's metadata, beside what grows with the pixels.
const FIXED_BYTES: u64 = 64 << 20;

/// The widest pixel that any of the formats has: four channels of 32 bits (or, as text, three numbers).
const MAX_BYTES_PER_PIXEL: u64 = 16;

/// The widest pixel of the formats that are neither TIFF nor PNM: four channels of 16 bits.
const USUAL_BYTES_PER_PIXEL: u64 = 8;

/// A photo as the network's protocol takes it: upright, opaque, 8 bits a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
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
    decode_asking(path, max_pixels, &|_| Ok(()))
}

/// As [`decode`]. Between the photo's header and its pixels `ask` is told how many bytes decoding takes at most, the file's
/// own and the photo's among them (the photo keeps 3 a pixel); its error ends decoding.
///
/// # Errors
/// As for [`decode`], and those of `ask`, of an [`Error::Memory`] with the photo's name before it.
pub fn decode_asking(path: &Path, max_pixels: u64, ask: &dyn Fn(u64) -> Result<()>) -> Result<Photo> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    if is_device(&file) {
        return Err(Error::photo(path, "a device, which may never end; expected a file"));
    }
    decode_from_asking(path, file, max_pixels, ask)
}

/// As [`decode`], for a photo that is read to its end from `reader`; errors call it `name`.
///
/// # Errors
/// As for [`decode`].
pub fn decode_from(name: &Path, reader: impl Read, max_pixels: u64) -> Result<Photo> {
    decode_from_asking(name, reader, max_pixels, &|_| Ok(()))
}

/// As [`decode_asking`], for a photo that is read to its end from `reader`; errors call it `name`.
///
/// # Errors
/// As for [`decode_asking`].
pub fn decode_from_asking(
    name: &Path,
    reader: impl Read,
    max_pixels: u64,
    ask: &dyn Fn(u64) -> Result<()>,
) -> Result<Photo> {
    let bytes = read(name, reader, max_pixels)?;
    let refused = Cell::new(None);
    let ask = |bytes| {
        ask(bytes).map_err(|error| {
            let reason = error.to_string();
            refused.set(Some(error));
            reason
        })
    };
    decode_bytes(bytes, Limits { max_pixels, ask: &ask }).map_err(|reason| match refused.take() {
        Some(Error::Memory(what)) => Error::Memory(format!("{}: {what}", name.display())),
        Some(error) => error,
        None => Error::photo(name, reason),
    })
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
        None => file_kind::identify(head).is_some_and(|found| matches!(found.class, Class::Picture | Class::Raw)),
    }
}

/// Whether `name` has the ending of a picture of pixels, of a format that is read here or of another.
pub fn is_picture_name(name: &Path) -> bool {
    let ending = name.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.iter().any(|endings| endings.split(' ').any(|known| known == ending)))
}

/// What a photo may take.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    max_pixels: u64,
    /// Whether so many bytes may be taken.
    ask: &'a dyn Fn(u64) -> Result<(), String>,
}

impl Limits<'_> {
    /// Whether a photo of this size may be decoded, which takes `bytes_per_pixel` beside the file's `file` bytes: as stored,
    /// before it becomes RGB in another place or is turned.
    pub(super) fn check(
        self,
        (width, height): (u32, u32),
        file: usize,
        bytes_per_pixel: u64,
        orientation: Option<u8>,
    ) -> Result<(), String> {
        check_size(width, height, self.max_pixels)?;
        // Two photos, the stored and the upright.
        let turned = if orientation.is_some_and(|orientation| orientation >= 5) { 6 } else { 3 };
        let pixels = u64::from(width) * u64::from(height);
        (self.ask)(pixels.saturating_mul(bytes_per_pixel.max(turned)).saturating_add(file as u64))
    }

    /// Bytes that a photo may have when decoded.
    pub(super) fn bytes(self) -> u64 {
        byte_limit(self.max_pixels, MAX_BYTES_PER_PIXEL)
    }
}

fn byte_limit(max_pixels: u64, bytes_per_pixel: u64) -> u64 {
    max_pixels.saturating_mul(bytes_per_pixel).saturating_add(FIXED_BYTES)
}

/// Whether reading it may never end, whatever its bytes are. A pipe is what a shell gives for a program's output.
fn is_device(file: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        file.metadata().is_ok_and(|data| data.file_type().is_char_device() || data.file_type().is_block_device())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

/// The whole file. An error if its first bytes are no photo's, before more is read, and once it is longer than a photo of its
/// format can be (an endless stream, a film).
fn read(name: &Path, reader: impl Read, max_pixels: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = reader.take(HEAD as u64);
    reader.read_to_end(&mut bytes).map_err(|e| Error::io("read", name, e))?;
    let per_pixel = match format(&bytes) {
        Some(ImageFormat::Tiff | ImageFormat::Pnm) => MAX_BYTES_PER_PIXEL,
        Some(format) if is_read(format) => USUAL_BYTES_PER_PIXEL,
        _ => return Err(Error::photo(name, no_photo(&bytes))),
    };
    let limit = byte_limit(max_pixels, per_pixel);
    reader.set_limit(limit.saturating_add(1) - bytes.len() as u64);
    reader.read_to_end(&mut bytes).map_err(|e| Error::io("read", name, e))?;
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

fn is_read(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Jpeg | ImageFormat::Tiff) || format.reading_enabled()
}

fn decode_bytes(bytes: Vec<u8>, limits: Limits) -> Result<Photo, String> {
    let (picture, orientation) = match format(&bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes, limits)?,
        Some(ImageFormat::Tiff) => tiff::decode(bytes, limits)?,
        Some(format) if is_read(format) => other(&bytes, format, limits)?,
        _ => return Err(no_photo(&bytes)),
    };
    let mut picture = DynamicImage::from(picture);
    if let Some(orientation) = orientation.and_then(Orientation::from_exif) {
        picture.apply_orientation(orientation);
    }
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Ok(Photo { width, height, rgb: picture.into_rgb8().into_raw() })
}

/// A photo of a format that the `image` crate reads rightly, as stored, and its EXIF orientation.
fn other(bytes: &[u8], format: ImageFormat, limits: Limits) -> Result<(RgbImage, Option<u8>), String> {
    let damaged = |e: image::ImageError| undecodable(&format!("{format:?}").to_uppercase(), &e.to_string());
    let mut of_decoder = image::Limits::no_limits();
    of_decoder.max_alloc = Some(limits.bytes());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(of_decoder);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let ((width, height), colour) = (decoder.dimensions(), decoder.color_type());
    let orientation = decoder.exif_metadata().ok().flatten().and_then(|block| exif::orientation(&block));
    // Lossy WebP is decoded to brightness and colours of half the size first, GIF perhaps in a frame of its own.
    let own = match format {
        ImageFormat::WebP => 2,
        ImageFormat::Gif => 4,
        _ => 0,
    };
    limits.check((width, height), bytes.len(), u64::from(colour.bytes_per_pixel()).max(3) + own, orientation)?;
    if decoder.total_bytes() > limits.bytes() {
        return Err(format!("would take {} MB when decoded, more than allowed", decoder.total_bytes() / 1_000_000));
    }
    let mut stored = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut stored).map_err(damaged)?;
    let picture = rgb(stored, colour).and_then(|rgb| RgbImage::from_raw(width, height, rgb));
    Ok((picture.ok_or_else(|| undecodable(&format!("{format:?}").to_uppercase(), "unknown colours"))?, orientation))
}

/// What a file is that is in no format that is read here, and what to do.
fn no_photo(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file; expected a photo".into();
    }
    match file_kind::identify(&bytes[..bytes.len().min(HEAD)]) {
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

/// The 8-bit R G B of stored pixels, transparency composed on white; `None` of a kind that no format here has.
fn rgb(stored: Vec<u8>, colour: ColorType) -> Option<Vec<u8>> {
    let level = |value: &[u8]| level_of_16(u16::from_ne_bytes([value[0], value[1]]));
    Some(match colour {
        ColorType::L8 => in_place(stored, |[grey]| [grey; 3]),
        ColorType::La8 => in_place(stored, |[grey, alpha]| [on_white(grey, alpha); 3]),
        ColorType::Rgb8 => stored,
        ColorType::Rgba8 => in_place(stored, |[r, g, b, alpha]| [r, g, b].map(|level| on_white(level, alpha))),
        ColorType::L16 => in_place::<2>(stored, |grey| [level(&grey); 3]),
        ColorType::La16 => in_place::<4>(stored, |p| [on_white(level(&p[..2]), level(&p[2..])); 3]),
        ColorType::Rgb16 => in_place::<6>(stored, |p| [0, 2, 4].map(|at| level(&p[at..]))),
        ColorType::Rgba16 => in_place::<8>(stored, |p| [0, 2, 4].map(|at| on_white(level(&p[at..]), level(&p[6..])))),
        _ => return None,
    })
}

/// Turns pixels of `N` bytes into RGB in their own memory: from the front where they become shorter, from the back where they
/// become longer.
fn in_place<const N: usize>(mut bytes: Vec<u8>, rgb: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    let pixels = bytes.len() / N;
    bytes.resize(bytes.len().max(3 * pixels), 0);
    let convert = |i: usize| {
        let pixel = std::array::from_fn(|k| bytes[N * i + k]);
        bytes[3 * i..][..3].copy_from_slice(&rgb(pixel));
    };
    if N < 3 {
        (0..pixels).rev().for_each(convert)
    } else {
        (0..pixels).for_each(convert)
    }
    bytes.truncate(3 * pixels);
    bytes.shrink_to_fit();
    bytes
}

pub(super) fn level_of_16(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
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
