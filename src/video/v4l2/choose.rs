//! Which of a camera's formats is taken, and what its bytes mean.

use std::fmt;

use super::abi::{self, PixFormat, fourcc};
use super::driver::{Driver, Refusal};
use crate::pixels::{Format, Yuv, YuvMatrix, YuvRange};
use crate::video::CameraFormat::{self, Auto, Bgr8, Mjpeg, Mono8, Nv12, Rgb8, Yuyv};
use crate::video::CameraOptions;
use crate::video::rate::Rate;

/// In order of preference: raw ones first, which cost neither decoding nor quality; of them the one of fewest bytes that has colours.
const FORMATS: [(CameraFormat, &[u8; 4]); 7] = [
    (Nv12, b"NV12"),
    (Yuyv, b"YUYV"),
    (Rgb8, b"RGB3"),
    (Bgr8, b"BGR3"),
    (Mono8, b"GREY"),
    (Mjpeg, b"MJPG"),
    (Mjpeg, b"JPEG"),
];

/// What a frame's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Pixels of this format.
    Pixels(Format),
    /// A JPEG.
    Jpeg,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Pixels(format) => format.fmt(f),
            Content::Jpeg => f.write_str("mjpeg"),
        }
    }
}

/// What a driver has agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub content: Content,
    pub pix: PixFormat,
    pub rate: Option<Rate>,
}

/// Why none was chosen.
pub enum NoFormat {
    Refused(Refusal),
    /// One line: what was asked, what the driver has, what to do.
    None(String),
}

impl From<Refusal> for NoFormat {
    fn from(refusal: Refusal) -> NoFormat {
        NoFormat::Refused(refusal)
    }
}

/// Asks for one format after the other. The first that comes in the wanted size and (to a tenth) the wanted rate is taken; where none
/// does, the one that comes nearest: a camera that gives 5 raw frames a second may give 30 JPEGs.
pub fn choose(driver: &mut dyn Driver, options: &CameraOptions) -> Result<Chosen, NoFormat> {
    let has = driver.formats()?;
    let now = driver.format()?;
    let mut refused = Vec::new();
    let mut best: Option<((bool, bool), Chosen)> = None;
    let wanted = FORMATS.into_iter().filter(|(format, ..)| options.format == Auto || options.format == *format);
    for (format, letters) in wanted.filter(|(_, letters)| has.contains(&fourcc(letters))) {
        let ask = wanted_of(&now, fourcc(letters), options);
        match asked(driver, ask, format, options.rate)? {
            Err(reason) => refused.push(format!("{}: {reason}", format.name())),
            Ok(chosen) => {
                let fits = fits(&chosen, options);
                if best.as_ref().is_none_or(|(other, _)| fits > *other) {
                    best = Some((fits, chosen));
                }
                if fits == (true, true) {
                    return Ok(chosen);
                }
            }
        }
    }
    let Some((_, chosen)) = best else { return Err(NoFormat::None(none(&has, &refused, options.format))) };
    // Another was asked for after it.
    let ask = PixFormat { private: 0, ..chosen.pix };
    let again = asked(driver, ask, content_of(chosen.content), options.rate)?;
    again.map_err(|reason| NoFormat::None(format!("its driver has changed its mind: {reason}")))
}

fn wanted_of(now: &PixFormat, pixelformat: u32, options: &CameraOptions) -> PixFormat {
    let (width, height) = options.size.unwrap_or((now.width, now.height));
    PixFormat { width, height, pixelformat, field: abi::FIELD_NONE, ..PixFormat::default() }
}

/// What the driver makes of it, or why nothing can be made of that.
fn asked(
    driver: &mut dyn Driver,
    ask: PixFormat,
    format: CameraFormat,
    rate: Option<Rate>,
) -> Result<Result<Chosen, String>, Refusal> {
    let pix = driver.set_format(ask)?;
    if pix.pixelformat != ask.pixelformat {
        return Ok(Err(format!("the driver answers with {}", letters(pix.pixelformat))));
    }
    let content = match content(&pix, format) {
        Ok(content) => content,
        Err(reason) => return Ok(Err(reason)),
    };
    let rate = driver.set_rate(rate)?;
    Ok(Ok(Chosen { content, pix, rate }))
}

/// Whether the size is the wanted one, and the rate.
fn fits(chosen: &Chosen, options: &CameraOptions) -> (bool, bool) {
    let size = options.size.is_none_or(|size| size == (chosen.pix.width, chosen.pix.height));
    let rate = match (options.rate, chosen.rate) {
        (Some(wanted), Some(rate)) => rate.per_second() >= 0.9 * wanted.per_second(),
        // What the driver does not say is not held against it.
        _ => true,
    };
    (size, rate)
}

fn content_of(content: Content) -> CameraFormat {
    match content {
        Content::Pixels(Format::Nv12(_)) => Nv12,
        Content::Pixels(Format::Yuyv(_)) => Yuyv,
        Content::Pixels(Format::Rgb8) => Rgb8,
        Content::Pixels(Format::Bgr8) => Bgr8,
        Content::Pixels(_) => Mono8,
        Content::Jpeg => Mjpeg,
    }
}

/// What bytes of this format mean, as the driver says; or why there is no name for that.
fn content(pix: &PixFormat, format: CameraFormat) -> Result<Content, String> {
    if abi::FIELDS_APART.contains(&pix.field) {
        return Err("its fields come apart; expected whole frames".to_owned());
    }
    if pix.width == 0 || pix.height == 0 {
        return Err(format!("{}×{} pixels", pix.width, pix.height));
    }
    let format = match format {
        Nv12 => Format::Nv12(yuv(pix)?),
        Yuyv => Format::Yuyv(yuv(pix)?),
        Rgb8 => Format::Rgb8,
        Bgr8 => Format::Bgr8,
        // Sensors give 0 to 255, whatever their drivers leave unsaid.
        Mono8 => Format::Mono8,
        Mjpeg | Auto => return Ok(Content::Jpeg),
    };
    let is_limited = pix.private == abi::PRIV_MAGIC && pix.quantization == abi::QUANTIZATION_LIM_RANGE;
    if format.yuv().is_none() && is_limited {
        return Err("its values are 16 to 235; expected 0 to 255".to_owned());
    }
    Ok(Content::Pixels(format))
}

/// The header's own rules for what a driver leaves unsaid: `V4L2_MAP_YCBCR_ENC_DEFAULT` and `V4L2_MAP_QUANTIZATION_DEFAULT`.
fn yuv(pix: &PixFormat) -> Result<Yuv, String> {
    let (encoding, quantization) = match pix.private {
        abi::PRIV_MAGIC => (pix.ycbcr_enc, pix.quantization),
        _ => (abi::YCBCR_ENC_DEFAULT, abi::QUANTIZATION_DEFAULT),
    };
    let encoding = match (encoding, pix.colorspace) {
        (abi::YCBCR_ENC_DEFAULT, abi::COLORSPACE_REC709 | abi::COLORSPACE_DCI_P3) => abi::YCBCR_ENC_709,
        (abi::YCBCR_ENC_DEFAULT, abi::COLORSPACE_BT2020) => abi::YCBCR_ENC_BT2020,
        (abi::YCBCR_ENC_DEFAULT, abi::COLORSPACE_SMPTE240M) => abi::YCBCR_ENC_SMPTE240M,
        (abi::YCBCR_ENC_DEFAULT, _) => abi::YCBCR_ENC_601,
        (said, _) => said,
    };
    let matrix = match encoding {
        abi::YCBCR_ENC_601 | abi::YCBCR_ENC_XV601 | abi::YCBCR_ENC_SYCC => YuvMatrix::Bt601,
        abi::YCBCR_ENC_709 | abi::YCBCR_ENC_XV709 => YuvMatrix::Bt709,
        other => return Err(format!("its luma is of neither BT.601 nor BT.709 (V4L2's encoding {other})")),
    };
    let range = match (quantization, pix.colorspace) {
        (abi::QUANTIZATION_LIM_RANGE, _) => YuvRange::Video,
        (abi::QUANTIZATION_DEFAULT, abi::COLORSPACE_JPEG) => YuvRange::Full,
        (abi::QUANTIZATION_DEFAULT, _) => YuvRange::Video,
        _ => YuvRange::Full,
    };
    Ok(Yuv { matrix, range })
}

fn none(has: &[u32], refused: &[String], wanted: CameraFormat) -> String {
    let names: Vec<String> = has.iter().map(|format| letters(*format)).collect();
    let wanted = if wanted == Auto { CameraFormat::NAMES } else { wanted.name() };
    let gives = if names.is_empty() { "no format at all".to_owned() } else { names.join(", ") };
    let refused = if refused.is_empty() { String::new() } else { format!(" ({})", refused.join("; ")) };
    format!("expected {wanted}{refused}; it gives {gives}")
}

/// A format's four letters.
fn letters(format: u32) -> String {
    crate::checkpoint::printable(String::from_utf8_lossy(&format.to_le_bytes()).trim_end())
}
