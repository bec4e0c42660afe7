//! JPEG files. Their markers are read here, and what they say is settled before a decoder sees the file: whether it is
//! whole, which process it is of, which colours it has. Two decoders share the rest: zune-jpeg, which is fast, has the
//! usual files; jpeg-decoder has those whose components come in scans of their own, or in unusual sizes.

use std::ops::Range;

use image::RgbImage;
use jpeg_decoder::{ColorTransform, PixelFormat};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::{Limits, undecodable};
use super::exif;

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

/// As in libjpeg: neither decoder counts rows beyond it in its 16 bits.
const LONGEST_SIDE: u16 = 65_500;

/// A scan costs the decoder a pass over the picture, and a file a few bytes. Encoders write up to 10 of them; one for
/// each coefficient of each component would be 192.
const MOST_SCANS: usize = 500;

/// Ones, which are put behind each scan: no code is of 16 of them, so that a decoder that finds a scan too short stops. What
/// it would read behind the scan's end otherwise is zeros, the picture's rest in one grey.
const ONES: [u8; 16] = [0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0];

/// One component as the frame header describes it: its number of samples against the others', across and down.
#[derive(Clone)]
struct Component {
    id: u8,
    across: u8,
    down: u8,
}

/// What the frame header says.
#[derive(Clone)]
struct Frame {
    /// Where its components are in the file.
    at: usize,
    /// The marker, which names the coding process.
    process: u8,
    bits: u8,
    width: u16,
    height: u16,
    components: Vec<Component>,
}

/// What a scan's header says.
struct Scan<'a> {
    /// The ids of its components, each with its tables.
    components: &'a [u8],
    /// Whether it brings the components' mean brightness; in a progressive file most do not.
    has_means: bool,
}

impl Scan<'_> {
    fn ids(&self) -> impl Iterator<Item = u8> {
        self.components.iter().step_by(2).copied()
    }
}

/// What a file's markers say.
#[derive(Default)]
struct Markers<'a> {
    frame: Option<Frame>,
    scans: Vec<Scan<'a>>,
    jfif: bool,
    adobe_transform: Option<u8>,
    /// The block of the first Exif segment.
    exif: Option<&'a [u8]>,
    /// The segments (but for application's beyond APP0, and comments), scans and the end: all that tells the pixels.
    coded: Vec<Coded>,
    /// Whether the segments and scans lead to the end-of-image marker. Decoders fill missing rows with grey, as photo
    /// viewers do; a segmentation of that would be nonsense that looks like a result.
    complete: bool,
}

/// A part of a file.
enum Coded {
    Segment(Range<usize>),
    /// A scan's header and its data.
    Scan(Range<usize>),
}

/// What the components are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Colours {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// The picture as stored and the EXIF orientation.
pub(super) fn decode(bytes: Vec<u8>, limits: Limits) -> Result<(RgbImage, Option<u8>), String> {
    let markers = Markers::read(&bytes)?;
    let mut frame = markers.frame.as_ref().ok_or_else(|| undecodable("JPEG", "it has no frame header"))?.clone();
    frame.check()?;
    let orientation = markers.exif.and_then(exif::orientation);
    let size = (frame.width.into(), frame.height.into());
    limits.check(size, 2 * bytes.len(), frame.bytes_per_pixel(markers.scans.len()), orientation)?;
    if !markers.complete {
        return Err("a JPEG that is cut short: it has no end-of-image marker; copy or download it again".into());
    }
    if markers.scans.len() > MOST_SCANS {
        return Err(format!("a JPEG of {} scans, more than {MOST_SCANS}; save it again", markers.scans.len()));
    }
    let in_scans = |component: &&Component| {
        let of_component = |scan: &Scan| scan.ids().any(|id| id == component.id);
        markers.scans.iter().any(|scan| of_component(scan) && (scan.has_means || !frame.is_progressive()))
    };
    if let Some(missing) = frame.components.iter().find(|component| !in_scans(component)) {
        return Err(format!("a JPEG that is cut short: component {} is in none of its scans", missing.id));
    }
    if markers.scans.iter().all(|scan| scan.components.len() == 2) && !frame.is_progressive() {
        frame.reduce();
    }
    let colours = markers.colours(&frame)?;
    let with_zune = if frame.is_usual() && markers.are_usual(&frame, colours) {
        true
    } else if markers.suit_unusual(&frame)? {
        false
    } else if frame.is_progressive() {
        true
    } else {
        let factors = frame.components.iter().map(|c| format!("{}×{}", c.across, c.down));
        return Err(unread(&format!("of separate scans sampled {}", factors.collect::<Vec<_>>().join(", "))));
    };
    let coded = markers.coded(&bytes, colours, &frame, with_zune);
    drop(bytes);
    let rgb = if with_zune { usual(&coded)? } else { unusual(&coded, colours)? };
    let picture = RgbImage::from_raw(frame.width.into(), frame.height.into(), rgb)
        .ok_or_else(|| undecodable("JPEG", "its pixels do not fill its size"))?;
    Ok((picture, orientation))
}

impl<'a> Markers<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut markers = Markers::default();
        let (mut at, mut in_scan) = (2, false);
        while let Some((marker, start)) = next_marker(bytes, at) {
            if in_scan && let Some(Coded::Scan(scan)) = markers.coded.last_mut() {
                // Its data reach to this marker, before which there may be fill bytes.
                let fill = bytes[scan.end..start - 2].iter().rev().take_while(|byte| **byte == 0xFF).count();
                scan.end = start - 2 - fill;
            }
            match marker {
                END_OF_IMAGE => {
                    markers.complete = true;
                    markers.coded.push(Coded::Segment(start - 2..start));
                    return Ok(markers);
                }
                // Markers without a length: TEM, start of image.
                0x01 | START_OF_IMAGE => {
                    at = start;
                    continue;
                }
                _ => {}
            }
            let length = bytes.get(start..start + 2).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
            let Some(segment) = bytes.get(start + 2..start + length.max(2)) else { break };
            at = start + length.max(2);
            markers.segment(marker, segment, start + 2)?;
            match marker {
                0xE1..=0xEF | 0xFE => {}
                START_OF_SCAN => markers.coded.push(Coded::Scan(start - 2..at)),
                _ => markers.coded.push(Coded::Segment(start - 2..at)),
            }
            in_scan = marker == START_OF_SCAN;
        }
        Ok(markers)
    }

    fn segment(&mut self, marker: u8, segment: &'a [u8], at: usize) -> Result<(), String> {
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => {
                if self.frame.is_some() {
                    return Err(unread("of several frames (hierarchical)"));
                }
                self.frame =
                    Some(Frame::read(marker, segment, at).ok_or_else(|| undecodable("JPEG", "a bad frame header"))?);
            }
            START_OF_SCAN => self.scans.push(Scan::read(segment)),
            // What follows the first scan tells nothing of the whole picture.
            _ if !self.scans.is_empty() => {}
            0xE0 => self.jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
            0xE1 if self.exif.is_none() => self.exif = segment.strip_prefix(b"Exif\0\0"),
            0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => self.adobe_transform = Some(segment[11]),
            _ => {}
        }
        Ok(())
    }

    /// libjpeg's order of evidence; an Adobe transform that it does not know it takes for the one that Adobe writes.
    fn colours(&self, frame: &Frame) -> Result<Colours, String> {
        Ok(match (frame.components.as_slice(), self.adobe_transform) {
            ([_], _) => Colours::Grey,
            ([_, _, _], _) if self.jfif => Colours::YCbCr,
            ([_, _, _], Some(0)) => Colours::Rgb,
            ([_, _, _], Some(_)) => Colours::YCbCr,
            ([r, g, b], None) if [r.id, g.id, b.id] == *b"RGB" => Colours::Rgb,
            ([_, _, _], None) => Colours::YCbCr,
            ([_, _, _, _], Some(0) | None) => Colours::Cmyk,
            ([_, _, _, _], Some(_)) => Colours::Ycck,
            (components, _) => return Err(unread(&format!("of {} components", components.len()))),
        })
    }

    /// Whether zune-jpeg reads these scans rightly. It goes by the ids "RGB" whatever else the file says.
    fn are_usual(&self, frame: &Frame, colours: Colours) -> bool {
        let scans = match self.scans.as_slice() {
            _ if frame.is_progressive() => true,
            [all] => all.components.len() == 2 * frame.components.len(),
            _ => false,
        };
        scans && (colours == Colours::Rgb || !frame.components.iter().map(|c| &c.id).eq(b"RGB"))
    }

    /// Whether jpeg-decoder reads these scans rightly. A component that is alone in a scan it takes for one of full
    /// size or of the smallest. A component that is coded twice is an error: two passes over the picture for a few bytes.
    fn suit_unusual(&self, frame: &Frame) -> Result<bool, String> {
        let mut seen = [false; 256];
        for id in self.scans.iter().flat_map(Scan::ids) {
            if std::mem::replace(&mut seen[usize::from(id)], true) && !frame.is_progressive() {
                return Err(undecodable("JPEG", "a component is coded twice"));
            }
        }
        let between = |factor: fn(&Component) -> u8| {
            let largest = frame.largest(factor);
            frame.components.iter().any(|c| (2..largest).contains(&factor(c)))
        };
        let has_middle = between(|c| c.across) || between(|c| c.down);
        let has_alone = self.scans.iter().any(|scan| scan.components.len() == 2) && frame.components.len() > 1;
        Ok(!(has_middle && has_alone))
    }

    /// The file as the decoders get it: what tells the pixels, one Adobe segment that tells the colours, and [`ONES`] behind
    /// each scan.
    fn coded(&self, bytes: &[u8], colours: Colours, frame: &Frame, for_zune: bool) -> Vec<u8> {
        let transform = match colours {
            Colours::Grey | Colours::Rgb | Colours::Cmyk => 0,
            Colours::YCbCr => 1,
            Colours::Ycck => 2,
        };
        let mut coded = Vec::with_capacity(bytes.len() + 18 + self.scans.len() * ONES.len());
        coded.extend([0xFF, START_OF_IMAGE, 0xFF, 0xEE, 0, 14]);
        coded.extend(*b"Adobe\0\x64\0\0\0\0");
        coded.push(transform);
        let mut scans = 0;
        for part in &self.coded {
            let part = match part {
                Coded::Segment(part) => part,
                Coded::Scan(part) => {
                    scans += 1;
                    // zune-jpeg wants a marker close behind the first scan of a progressive file. A scan that comes twice
                    // says the same.
                    if for_zune && frame.is_progressive() && scans == 1 {
                        coded.extend(&bytes[part.clone()]);
                    }
                    coded.extend(&bytes[part.clone()]);
                    coded.extend(ONES);
                    continue;
                }
            };
            let start = coded.len();
            coded.extend(&bytes[part.clone()]);
            if part.contains(&frame.at) {
                let components = coded[start + frame.at - part.start..].as_chunks_mut::<3>().0;
                for (coded, component) in components.iter_mut().zip(&frame.components) {
                    coded[1] = component.across << 4 | component.down;
                }
            }
        }
        coded
    }
}

impl<'a> Scan<'a> {
    fn read(segment: &'a [u8]) -> Self {
        let (&count, rest) = segment.split_first().unwrap_or((&0, &[]));
        let ids = rest.as_chunks::<2>().0;
        let components = ids[..ids.len().min(count.into())].as_flattened();
        // The first coefficient that it brings, and whether they are the first bits of it.
        let has_means = matches!(rest[components.len()..], [0, _, bits, ..] if bits >> 4 == 0);
        Scan { components, has_means }
    }
}

impl Frame {
    fn read(process: u8, segment: &[u8], at: usize) -> Option<Self> {
        let (head, components) = segment.split_first_chunk::<6>()?;
        let &[bits, h1, h0, w1, w0, count] = head;
        let components = components.get(..3 * usize::from(count))?.as_chunks::<3>().0;
        Some(Frame {
            at: at + head.len(),
            process,
            bits,
            width: u16::from_be_bytes([w1, w0]),
            height: u16::from_be_bytes([h1, h0]),
            components: components.iter().map(|c| Component { id: c[0], across: c[1] >> 4, down: c[1] & 15 }).collect(),
        })
    }

    /// Whether it is of a kind that is read here.
    fn check(&self) -> Result<(), String> {
        match self.process {
            0xC0..=0xC2 => {}
            0xC3 => return Err(unread("of the lossless process")),
            0xF7 => return Err(unread("of the JPEG-LS kind")),
            0xC9..=0xCB => return Err(unread("with arithmetic coding")),
            _ => return Err(unread("of the hierarchical process")),
        }
        if self.bits != 8 {
            return Err(unread(&format!("of {} bits a channel", self.bits)));
        }
        if self.width > LONGEST_SIDE || self.height > LONGEST_SIDE {
            return Err(unread(&format!("of {}×{} pixels, longer than {LONGEST_SIDE}", self.width, self.height)));
        }
        Ok(())
    }

    /// What decoding takes at most: the picture, and before it in several scans each sample (or coefficient) in 16 bits.
    fn bytes_per_pixel(&self, scans: usize) -> u64 {
        if scans > 1 || self.is_progressive() { 3 + 2 * self.components.len() as u64 } else { 3 }
    }

    fn is_progressive(&self) -> bool {
        self.process == 0xC2
    }

    fn largest(&self, factor: impl Fn(&Component) -> u8) -> u8 {
        self.components.iter().map(factor).max().unwrap_or(1)
    }

    /// Divides the numbers of samples by what they have in common. Scans of one component each do not change with that.
    fn reduce(&mut self) {
        let common = |factor: fn(&Component) -> u8| {
            let divides = |by: &u8| self.components.iter().all(|c| factor(c).is_multiple_of(*by));
            (2..=4).rev().find(divides).unwrap_or(1)
        };
        let (across, down) = (common(|c| c.across), common(|c| c.down));
        for component in &mut self.components {
            component.across /= across;
            component.down /= down;
        }
    }

    /// Each component is of full size, or of the same part of it, across and down; the first is of full size.
    fn is_usual(&self) -> bool {
        let usual = |factor: fn(&Component) -> u8| {
            let largest = self.largest(factor);
            matches!(largest, 1 | 2 | 4)
                && self.components.first().is_some_and(|first| factor(first) == largest)
                && self.components.iter().all(|c| [1, largest].contains(&factor(c)))
        };
        usual(|c| c.across) && usual(|c| c.down)
    }
}

/// zune-jpeg's pixels, R G B.
fn usual(coded: &[u8]) -> Result<Vec<u8>, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(coded), options);
    decoder.decode().map_err(|e| undecodable("JPEG", &e.to_string()))
}

/// jpeg-decoder's pixels, R G B.
fn unusual(coded: &[u8], colours: Colours) -> Result<Vec<u8>, String> {
    let damaged = |e: jpeg_decoder::Error| undecodable("JPEG", &e.to_string());
    let mut decoder = jpeg_decoder::Decoder::new(coded);
    decoder.set_color_transform(match colours {
        Colours::Grey => ColorTransform::Grayscale,
        Colours::Rgb => ColorTransform::RGB,
        Colours::YCbCr => ColorTransform::YCbCr,
        Colours::Cmyk => ColorTransform::CMYK,
        Colours::Ycck => ColorTransform::YCCK,
    });
    let pixels = decoder.decode().map_err(damaged)?;
    Ok(match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::RGB24) => pixels,
        Some(PixelFormat::CMYK32) => pixels.as_chunks::<4>().0.iter().flat_map(|&p| super::decode::cmyk(p)).collect(),
        _ => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
    })
}

fn unread(kind: &str) -> String {
    format!("a JPEG {kind}, which is not read here; convert it to an ordinary JPEG or to PNG")
}

/// The next marker's code and the position after it. Skips entropy-coded data, in which 0xFF is followed by 0 (a
/// stuffed byte) or by a restart marker, and fill bytes.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let rest = bytes.get(from..)?;
    let at = rest.windows(2).position(|w| w[0] == 0xFF && !matches!(w[1], 0x00 | 0xD0..=0xD7 | 0xFF))?;
    Some((rest[at + 1], from + at + 2))
}
