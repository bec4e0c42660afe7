//! TIFF files. The `tiff` crate decompresses the first picture's samples; what they mean is told here, from its tags.

use std::io::Cursor;

use image::RgbImage;
use rayon::prelude::*;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::{TiffError, TiffUnsupportedError};

use super::decode::{Limits, cmyk, level_of_16, on_white, undecodable};
use super::exif::{Directory, Tiff};

mod tag {
    pub const NEW_SUBFILE_TYPE: u16 = 254;
    pub const SUBFILE_TYPE: u16 = 255;
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS_PER_SAMPLE: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const SAMPLES_PER_PIXEL: u16 = 277;
    pub const STRIP_BYTE_COUNTS: u16 = 279;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTE_COUNTS: u16 = 325;
    pub const SUB_IFDS: u16 = 330;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const DNG_VERSION: u16 = 50706;
}

/// PhotometricInterpretation: 0 is black.
const BLACK_IS_ZERO: u32 = 1;

/// Directories that are looked at for a larger picture than the first; a raw file has about five.
const MOST_DIRECTORIES: usize = 64;

/// The part of the samples that may lie outside the range that all others keep: what resampling and sharpening leave.
const OUTLIERS: f64 = 0.001;

/// How a picture's first samples become a colour.
enum Colours {
    Grey {
        white_is_zero: bool,
    },
    Rgb,
    Cmyk,
    /// R G B of each index.
    Palette(Vec<[u8; 3]>),
}

enum Alpha {
    /// The colours are multiplied by it.
    Associated,
    Unassociated,
}

/// What the tags tell of each pixel.
struct Pixels {
    colours: Colours,
    /// Its kind, and which sample it is.
    alpha: Option<(Alpha, usize)>,
    samples: usize,
    bits: usize,
}

/// A picture's samples as they were decompressed.
struct Samples {
    values: DecodingResult,
    pixels: Pixels,
    width: usize,
    height: usize,
    /// Elements from one row to the next, and from one sample's plane to the next where each has one.
    row: usize,
    plane: Option<usize>,
}

/// The first picture as stored, opaque, and its orientation.
pub(super) fn decode(mut bytes: Vec<u8>, limits: Limits) -> Result<(RgbImage, Option<u8>), String> {
    let damaged = |reason: &str| undecodable("TIFF", reason);
    let tiff = Tiff::read(&bytes).ok_or_else(|| damaged("a bad header"))?;
    let first = tiff.directory(tiff.first).ok_or_else(|| damaged("its first directory is not in it"))?;
    check_is_whole(tiff, first)?;
    let size = |tag| first.integer(tag).and_then(|side| u32::try_from(side).ok());
    let (Some(width), Some(height)) = (size(tag::WIDTH), size(tag::HEIGHT)) else {
        return Err(damaged("it has no size"));
    };
    check_compression(first.integer(tag::COMPRESSION).unwrap_or(1))?;
    let pixels = Pixels::read(first)?;
    let orientation = first.orientation();
    // The samples, and R G B made of them unless they are that.
    let per_pixel = (pixels.samples * pixels.bits).div_ceil(8) + if pixels.is_plain() { 0 } else { 3 };
    limits.check((width, height), bytes.len(), per_pixel as u64, orientation)?;

    let reversed =
        if first.integer(tag::FILL_ORDER) == Some(2) { coded_parts(first, bytes.len())? } else { Vec::new() };
    for (entry, value) in simplified(first, width, height).ok_or_else(|| damaged("bad tags"))? {
        bytes[entry..entry + value.len()].copy_from_slice(&value);
    }
    for part in reversed {
        bytes[part].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }

    let size = (width as usize, height as usize);
    let samples = Samples::read(&bytes, pixels, size, limits.bytes())?;
    drop(bytes);
    let picture =
        RgbImage::from_raw(width, height, samples.rgb()?).ok_or_else(|| damaged("its size is contradicted"))?;
    Ok((picture, orientation))
}

/// Entries in the place of those that the crate need not know: to it each picture is so many samples a pixel, and black
/// is zero; a picture of tiles is one of whole tiles, for in separate planes it takes the wrong tiles for cut ones.
fn simplified(first: Directory, width: u32, height: u32) -> Option<Vec<(usize, Vec<u8>)>> {
    let mut entries = vec![first.with_value(tag::PHOTOMETRIC, BLACK_IS_ZERO)?];
    if first.entry(tag::TILE_OFFSETS).is_some() {
        for (side, length, tile) in [(tag::WIDTH, width, tag::TILE_WIDTH), (tag::HEIGHT, height, tag::TILE_HEIGHT)] {
            let tile = u32::try_from(first.integer(tile)?).ok().filter(|&tile| tile > 0)?;
            entries.push(first.with_value(side, length.checked_next_multiple_of(tile)?)?);
        }
    }
    Some(entries)
}

fn unread(kind: &str) -> String {
    format!("a TIFF {kind}, which is not read here; save it as PNG")
}

/// Whether the first picture is the file's own. In a camera's raw file it is a small one for file managers, or samples
/// that no colours have been made of yet.
fn check_is_whole(tiff: Tiff, first: Directory) -> Result<(), String> {
    const RAW: &str = "a camera's raw file, which is not read here; develop it and save it as JPEG or PNG";
    const REDUCED: u64 = 1;
    const MASK: u64 = 4;
    const OLD_REDUCED: u64 = 2;
    const COLOUR_FILTER_ARRAY: u64 = 32803;
    const LINEAR_RAW: u64 = 34892;

    let is_raw = |d: &Directory| matches!(d.integer(tag::PHOTOMETRIC), Some(COLOUR_FILTER_ARRAY | LINEAR_RAW));
    let area = |d: &Directory| Some(d.integer(tag::WIDTH)?.saturating_mul(d.integer(tag::HEIGHT)?));

    let pages = std::iter::successors(Some(first), |page| tiff.directory(page.next()?)).take(MOST_DIRECTORIES);
    let pages: Vec<Directory> = pages.collect();
    let parts = pages.iter().filter_map(|page| page.integers(tag::SUB_IFDS)).flatten().take(MOST_DIRECTORIES);
    let parts: Vec<Directory> = parts.filter_map(|at| tiff.directory(at)).collect();

    if first.entry(tag::DNG_VERSION).is_some() || pages.iter().chain(&parts).any(is_raw) {
        return Err(RAW.into());
    }
    let is_reduced = first.integer(tag::NEW_SUBFILE_TYPE).is_some_and(|kind| kind & (REDUCED | MASK) != 0)
        || first.integer(tag::SUBFILE_TYPE) == Some(OLD_REDUCED);
    let has_others = pages.len() > 1 || !parts.is_empty();
    if is_reduced && has_others || parts.iter().any(|part| area(part) > area(&first)) {
        return Err(
            "a TIFF whose first picture is a reduced one of another in it (as in cameras' raw files), which is not \
                    read here; save the full picture as JPEG or PNG"
                .into(),
        );
    }
    Ok(())
}

fn check_compression(method: u64) -> Result<(), String> {
    let name = match method {
        // None, CCITT group 4, LZW, Deflate (two numbers), PackBits.
        1 | 4 | 5 | 8 | 32946 | 32773 => return Ok(()),
        // Each of a TIFF's JPEG streams states a size of its own, which the decoder follows whatever the photo's size
        // and the limits are: a file of a kilobyte would take a gigabyte.
        6 | 7 | 34892 => {
            return Err("a TIFF of JPEG-compressed parts, which is not read here; save it as JPEG or PNG".into());
        }
        2 | 3 | 32771 => "CCITT group 3",
        34712 => "JPEG 2000",
        34887 => "LERC",
        34925 => "LZMA",
        34933 | 34934 => "PNG or JPEG XR",
        50000 => "Zstandard",
        50001 => "WebP",
        50002 | 52546 => "JPEG XL",
        _ => return Err(unread(&format!("of compression {method}"))),
    };
    Err(unread(&format!("with {name} compression")))
}

/// Where the coded data of a file of `len` bytes are.
fn coded_parts(first: Directory, len: usize) -> Result<Vec<std::ops::Range<usize>>, String> {
    let lists = |offsets, counts| Some((first.integers(offsets)?, first.integers(counts)?));
    let (offsets, counts) = lists(tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        .or_else(|| lists(tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS))
        .ok_or_else(|| undecodable("TIFF", "it does not tell where its data are"))?;
    let parts: Option<Vec<_>> = offsets
        .iter()
        .zip(&counts)
        .map(|(&at, &count)| {
            let end = at.checked_add(count).filter(|&end| end <= len as u64)?;
            Some(at as usize..end as usize)
        })
        .collect();
    let parts = parts.ok_or_else(|| undecodable("TIFF", "its data are not in it"))?;
    let mut sorted = parts.clone();
    sorted.sort_by_key(|part| part.start);
    if sorted.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(unread("whose parts share their bytes"));
    }
    Ok(parts)
}

impl Pixels {
    fn read(first: Directory) -> Result<Self, String> {
        let damaged = |reason: &str| undecodable("TIFF", reason);
        let bits = first.integers(tag::BITS_PER_SAMPLE).unwrap_or_else(|| vec![1]);
        let &depth = bits.first().ok_or_else(|| damaged("it tells no bits a sample"))?;
        if bits.iter().any(|&other| other != depth) {
            return Err(unread("of channels with different numbers of bits"));
        }
        if !matches!(depth, 1 | 2 | 4 | 8 | 16 | 32 | 64) {
            return Err(unread(&format!("of {depth} bits a channel")));
        }
        let formats = first.integers(tag::SAMPLE_FORMAT).unwrap_or_else(|| vec![1]);
        if formats.iter().any(|&format| format != formats[0] || !(1..=3).contains(&format)) {
            return Err(unread("of complex numbers, or of channels of different types"));
        }
        if depth < 8 && formats.first() != Some(&1) {
            return Err(unread(&format!("of signed numbers of {depth} bits")));
        }
        let samples = usize::try_from(first.integer(tag::SAMPLES_PER_PIXEL).unwrap_or(1)).unwrap_or(usize::MAX);
        let extra = first.integers(tag::EXTRA_SAMPLES).unwrap_or_default();

        let photometric = first.integer(tag::PHOTOMETRIC).ok_or_else(|| damaged("it tells no colours"))?;
        let (colours, count) = match photometric {
            0 | 1 => (Colours::Grey { white_is_zero: photometric == 0 }, 1),
            2 => (Colours::Rgb, 3),
            3 if depth <= 16 => (Colours::Palette(palette(first, depth)?), 1),
            4 => return Err(unread("that is a mask of another")),
            5 => (Colours::Cmyk, 4),
            6 => return Err(unread("of YCbCr colours")),
            8..=10 => return Err(unread("of L*a*b* colours")),
            32844 | 32845 => return Err(unread("of LogLuv colours")),
            _ => return Err(unread(&format!("of colours of kind {photometric}"))),
        };
        let alpha = match extra.iter().position(|kind| matches!(kind, 1 | 2)) {
            Some(at) if extra[at] == 1 => Some((Alpha::Associated, count + at)),
            Some(at) => Some((Alpha::Unassociated, count + at)),
            // Many programs forget to say that the fourth sample is alpha.
            None if extra.is_empty() && samples == count + 1 && count > 1 => Some((Alpha::Unassociated, count)),
            None => None,
        };
        let named = count + extra.len().max(usize::from(alpha.is_some()));
        if named > samples {
            return Err(damaged(&format!("it has {samples} samples a pixel, and its tags speak of {named}")));
        }
        // Bands of a sensor: that the first of them is the picture's grey is a guess.
        if count == 1 && samples > 2 {
            return Err(unread(&format!("of {samples} channels")));
        }
        if named < samples {
            return Err(unread(&format!("of {samples} channels of which {named} are told what they are")));
        }
        Ok(Pixels { colours, alpha, samples, bits: depth as usize })
    }

    /// Whether the samples are R G B as they are.
    fn is_plain(&self) -> bool {
        matches!(self, Pixels { colours: Colours::Rgb, alpha: None, samples: 3, bits: 8 })
    }

    fn colour_samples(&self) -> usize {
        match self.colours {
            Colours::Grey { .. } | Colours::Palette(_) => 1,
            Colours::Rgb => 3,
            Colours::Cmyk => 4,
        }
    }
}

/// The ColorMap: all reds, all greens, all blues, of 16 bits each.
fn palette(first: Directory, bits: u64) -> Result<Vec<[u8; 3]>, String> {
    let map = first.integers(tag::COLOR_MAP).unwrap_or_default();
    let count = 1 << bits;
    if map.len() != 3 * count {
        let reason = format!("its palette has {} entries, {} are expected", map.len(), 3 * count);
        return Err(undecodable("TIFF", &reason));
    }
    // Some programs write 8 bits; libtiff tells them by this.
    let is_short = map.iter().all(|&level| level < 256);
    let level = |at: usize| if is_short { map[at] as u8 } else { level_of_16(map[at] as u16) };
    Ok((0..count).map(|index| [level(index), level(count + index), level(2 * count + index)]).collect())
}

impl Samples {
    fn read(bytes: &[u8], pixels: Pixels, (width, height): (usize, usize), byte_limit: u64) -> Result<Self, String> {
        let mut limits = tiff::decoder::Limits::default();
        limits.decoding_buffer_size = usize::try_from(byte_limit).unwrap_or(usize::MAX);
        limits.intermediate_buffer_size = limits.decoding_buffer_size;
        limits.ifd_value_size = limits.decoding_buffer_size;
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(reason)?.with_limits(limits);
        let mut values = DecodingResult::U8(Vec::new());
        let layout = decoder.read_image_to_buffer(&mut values).map_err(reason)?;
        let element = element_bytes(&values);
        if element != (pixels.bits / 8).max(1) {
            return Err(undecodable("TIFF", "its tags contradict each other"));
        }
        let len = values.as_buffer(0).as_bytes().len();
        if len < layout.complete_len {
            return Err(reason(TiffError::LimitsExceeded));
        }
        let samples = Samples {
            row: layout.row_stride.map_or(0, |bytes| bytes.get() / element),
            plane: layout.plane_stride.filter(|_| layout.planes > 1).map(|bytes| bytes.get() / element),
            values,
            pixels,
            width,
            height,
        };
        let last = samples.place(samples.width - 1, samples.height - 1, samples.pixels.samples - 1);
        if last * samples.pixels.bits >= 8 * len {
            return Err(undecodable("TIFF", "its data do not fill its size"));
        }
        Ok(samples)
    }

    /// Which sample in order (not in bytes) is the pixel's; rows of samples below 8 bits are whole bytes.
    fn place(&self, x: usize, y: usize, sample: usize) -> usize {
        let samples_per_element = 8 / self.pixels.bits.min(8);
        let (plane, in_row) = match self.plane {
            Some(plane) => (plane * sample, x),
            None => (0, x * self.pixels.samples + sample),
        };
        (plane + y * self.row) * samples_per_element + in_row
    }

    /// An unsigned sample of up to 16 bits.
    fn short(&self, place: usize) -> u16 {
        match &self.values {
            DecodingResult::U16(values) => values[place],
            DecodingResult::U8(values) => {
                let bits = self.pixels.bits;
                let per_byte = 8 / bits;
                let shift = 8 - bits * (place % per_byte + 1);
                u16::from(values[place / per_byte]) >> shift & ((1 << bits) - 1)
            }
            _ => 0,
        }
    }

    /// A sample of the types that no picture format has a range for.
    fn number(&self, place: usize) -> f64 {
        match &self.values {
            DecodingResult::U32(values) => values[place].into(),
            DecodingResult::U64(values) => values[place] as f64,
            DecodingResult::I8(values) => values[place].into(),
            DecodingResult::I16(values) => values[place].into(),
            DecodingResult::I32(values) => values[place].into(),
            DecodingResult::I64(values) => values[place] as f64,
            DecodingResult::F16(values) => values[place].into(),
            DecodingResult::F32(values) => values[place].into(),
            DecodingResult::F64(values) => values[place],
            DecodingResult::U8(_) | DecodingResult::U16(_) => self.short(place).into(),
        }
    }

    /// The value of `samples` that stands for 255.
    fn white(&self, samples: std::ops::Range<usize>) -> Result<f64, String> {
        let bits = self.pixels.bits;
        let (name, ranges): (_, &[f64]) = match &self.values {
            DecodingResult::U8(_) | DecodingResult::U16(_) => return Ok(f64::from((1_u32 << bits) - 1)),
            DecodingResult::U32(_) => ("unsigned integers", &[255.0, 65_535.0, u32::MAX as f64]),
            DecodingResult::U64(_) => ("unsigned integers", &[255.0, 65_535.0, u64::MAX as f64]),
            DecodingResult::F16(_) | DecodingResult::F32(_) | DecodingResult::F64(_) => {
                ("floats", &[1.0, 255.0, 65_535.0])
            }
            _ => ("signed integers", &[255.0, 65_535.0]),
        };
        let all = || {
            let places = (0..self.height).flat_map(move |y| (0..self.width).map(move |x| (x, y)));
            places.flat_map(|(x, y)| samples.clone().map(move |sample| self.number(self.place(x, y, sample))))
        };
        let count = (self.width * self.height * samples.len()) as f64;
        let share = |holds: &(dyn Fn(f64) -> bool + Sync)| {
            let in_row = |y| {
                let values = (0..self.width).flat_map(|x| samples.clone().map(move |sample| (x, sample)));
                values.filter(|&(x, sample)| holds(self.number(self.place(x, y, sample)))).count()
            };
            (0..self.height).into_par_iter().map(in_row).sum::<usize>() as f64 / count
        };
        // Up to half of an 8-bit level outside is rounding.
        let fits = |white: f64| {
            let half = white / 510.0;
            share(&|value| !(-half..=white + half).contains(&value)) <= OUTLIERS
        };
        // Floats from 0 to 1 are the rule; any other range must be used to be believed.
        let is_used = |white: f64| white == 1.0 || share(&|value| value > white / 2.0) > OUTLIERS;
        match ranges.iter().find(|&&white| fits(white)) {
            Some(&white) if is_used(white) => Ok(white),
            _ => {
                let (low, high) =
                    all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
                let odd = if all().any(f64::is_nan) { ", and some are no numbers" } else { "" };
                let known = ranges.iter().map(|white| format!("0 to {white}")).collect::<Vec<_>>().join(", ");
                let (low, high) = (low as f32, high as f32);
                Err(format!(
                    "a TIFF of {bits}-bit {name} from {low} to {high}{odd}: what is white cannot be told (expected values \
                     that use {known}); scale it, or save it as 8-bit TIFF or PNG"
                ))
            }
        }
    }

    /// The picture, transparency composed on white.
    fn rgb(self) -> Result<Vec<u8>, String> {
        if self.pixels.is_plain()
            && self.plane.is_none()
            && self.row == 3 * self.width
            && let DecodingResult::U8(mut values) = self.values
        {
            // Tiles may reach beyond the last row.
            values.truncate(3 * self.width * self.height);
            return Ok(values);
        }
        let pixels = &self.pixels;
        let colour_white = match pixels.colours {
            Colours::Palette(_) => 0.0,
            _ => self.white(0..pixels.colour_samples())?,
        };
        let alpha_white = match pixels.alpha {
            Some((_, sample)) => self.white(sample..sample + 1)?,
            None => 0.0,
        };
        let level = |place: usize, white: f64| match &self.values {
            DecodingResult::U8(values) if pixels.bits == 8 => values[place],
            DecodingResult::U16(values) => level_of_16(values[place]),
            // A cast from float keeps within the type's range.
            _ => (self.number(place) / white * 255.0).round() as u8,
        };
        let pixel = |x: usize, y: usize| {
            let sample = |sample: usize| level(self.place(x, y, sample), colour_white);
            let colour = match &pixels.colours {
                Colours::Grey { white_is_zero: false } => [sample(0); 3],
                Colours::Grey { white_is_zero: true } => [255 - sample(0); 3],
                Colours::Rgb => [sample(0), sample(1), sample(2)],
                Colours::Cmyk => cmyk([sample(0), sample(1), sample(2), sample(3)]),
                Colours::Palette(palette) => palette[usize::from(self.short(self.place(x, y, 0)))],
            };
            let alpha = |sample: usize| level(self.place(x, y, sample), alpha_white);
            match &pixels.alpha {
                None => colour,
                Some((Alpha::Unassociated, at)) => colour.map(|level| on_white(level, alpha(*at))),
                Some((Alpha::Associated, at)) => colour.map(|level| level.saturating_add(255 - alpha(*at))),
            }
        };
        let mut rgb = vec![0; 3 * self.width * self.height];
        rgb.par_chunks_mut(3 * self.width).enumerate().for_each(|(y, row)| {
            row.as_chunks_mut::<3>().0.iter_mut().enumerate().for_each(|(x, rgb)| *rgb = pixel(x, y));
        });
        Ok(rgb)
    }
}

fn element_bytes(values: &DecodingResult) -> usize {
    match values {
        DecodingResult::U8(_) | DecodingResult::I8(_) => 1,
        DecodingResult::U16(_) | DecodingResult::I16(_) | DecodingResult::F16(_) => 2,
        DecodingResult::U32(_) | DecodingResult::I32(_) | DecodingResult::F32(_) => 4,
        DecodingResult::U64(_) | DecodingResult::I64(_) | DecodingResult::F64(_) => 8,
    }
}

/// Why the crate cannot read a file, in users' words where the file is not at fault.
fn reason(error: TiffError) -> String {
    match error {
        TiffError::UnsupportedError(TiffUnsupportedError::HorizontalPredictor(_)) => {
            unread("of differences between samples of under 8 bits")
        }
        TiffError::UnsupportedError(error) => unread(&format!("of an unusual kind ({error})")),
        TiffError::LimitsExceeded => {
            "a TIFF that would take more memory when decoded than allowed; save it as PNG, or raise the limit \
             (--max-pixels)"
                .into()
        }
        error => undecodable("TIFF", &error.to_string()),
    }
}
