//! The first line of a YUV4MPEG2 stream: anybody's, until it has been looked at.

use crate::checkpoint::printable;
use crate::pixels::{Format, Yuv, YuvMatrix, YuvRange};
use crate::video::rate::Rate;

/// Bytes of a line at most. Those that are written are shorter than 128.
pub const MOST_LINE: usize = 1024;

const MAGIC: &str = "YUV4MPEG2";

/// What becomes of each layout's planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Luma, Cb and Cr of half its width and height.
    Half,
    /// Luma alone.
    Mono,
}

/// A header that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub width: usize,
    pub height: usize,
    pub rate: Rate,
    pub layout: Layout,
    pub range: YuvRange,
}

/// A header's parameters as they stand there.
#[derive(Default)]
struct Parameters<'a> {
    width: Option<&'a str>,
    height: Option<&'a str>,
    rate: Option<&'a str>,
    interlacing: Option<&'a str>,
    layout: Option<&'a str>,
    range: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    fn of(text: &'a str) -> Parameters<'a> {
        let mut found = Parameters::default();
        for parameter in text.split(' ') {
            let Some((tag, value)) = parameter.split_at_checked(1) else { continue };
            match tag {
                "W" => found.width = Some(value),
                "H" => found.height = Some(value),
                "F" => found.rate = Some(value),
                "I" => found.interlacing = Some(value),
                "C" => found.layout = Some(value),
                "X" => found.range = value.strip_prefix("COLORRANGE=").or(found.range),
                // The shape of pixels, which nothing here asks for, and what others invented.
                _ => {}
            }
        }
        found
    }
}

impl Header {
    /// Of a line that came whole or not.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn parse(line: &[u8], whole: bool, max_pixels: u64) -> Result<Header, String> {
        let text = magic(line)?;
        if line.len() > MOST_LINE {
            return Err(format!("its first line is longer than {MOST_LINE} bytes; the stream is damaged"));
        }
        if !whole {
            return Err(format!("its first line ends after {} bytes; the stream was cut off", line.len()));
        }
        let text =
            std::str::from_utf8(text).map_err(|_| "its first line is no text; the stream is damaged".to_owned())?;
        let found = Parameters::of(text);
        let (width, height) = size(found.width, found.height, max_pixels)?;
        let rate = rate(found.rate)?;
        progressive(found.interlacing)?;
        let layout = layout(found.layout.unwrap_or("420jpeg"))?;
        let range = range(found.range, layout)?;
        Ok(Header { width, height, rate, layout, range })
    }

    /// What its frames become.
    pub fn format(&self, matrix: YuvMatrix) -> Format {
        match self.layout {
            Layout::Half => Format::Nv12(Yuv { matrix, range: self.range }),
            Layout::Mono => Format::Mono8,
        }
    }

    /// Bytes of luma.
    pub fn luma_bytes(&self) -> usize {
        self.width * self.height
    }

    /// Bytes of both planes of chroma.
    pub fn chroma_bytes(&self) -> usize {
        match self.layout {
            Layout::Half => 2 * self.width.div_ceil(2) * self.height.div_ceil(2),
            Layout::Mono => 0,
        }
    }

    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.luma_bytes() + self.chroma_bytes()
    }
}

/// What stands behind the first word.
fn magic(line: &[u8]) -> Result<&[u8], String> {
    let rest = line.strip_prefix(MAGIC.as_bytes());
    match rest {
        Some([]) => Ok(&[]),
        Some([b' ', rest @ ..]) => Ok(rest),
        _ if line.is_empty() => Err(format!("nothing came; expected {MAGIC}")),
        _ => {
            let start = String::from_utf8_lossy(&line[..line.len().min(16)]).into_owned();
            let start = printable(&start);
            Err(format!(
                "begins with {start:?}; expected {MAGIC} (ffmpeg … -f yuv4mpegpipe -pix_fmt yuv420p -). Frames without a header need \
                 their format and size said"
            ))
        }
    }
}

fn size(width: Option<&str>, height: Option<&str>, max_pixels: u64) -> Result<(usize, usize), String> {
    let number = |name: &str, value: Option<&str>| {
        let value = value.ok_or_else(|| format!("its header has no {name}"))?;
        let digits = !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit());
        let number = if digits { value.parse::<u32>().ok() } else { None };
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("its {name} is {:?}; expected pixels", printable(value)))
    };
    let (width, height) = (number("width", width)?, number("height", height)?);
    super::super::check_size(u64::from(width), u64::from(height), max_pixels)?;
    Ok((width as usize, height as usize))
}

fn rate(value: Option<&str>) -> Result<Rate, String> {
    let remedy = "write it with a rate (ffmpeg … -r 30)";
    let value = value.ok_or_else(|| format!("its header has no rate, so its frames have no time; {remedy}"))?;
    let found = value.contains(':').then(|| value.parse().ok()).flatten();
    found.ok_or_else(|| format!("its rate is {:?}; expected frames and seconds above 0; {remedy}", printable(value)))
}

fn progressive(value: Option<&str>) -> Result<(), String> {
    match value {
        None | Some("p" | "?") => Ok(()),
        Some(value) => Err(format!(
            "its frames are interlaced (I{}); expected whole frames (ffmpeg … -vf yadif -f yuv4mpegpipe -)",
            printable(value)
        )),
    }
}

fn layout(value: &str) -> Result<Layout, String> {
    match value {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(Layout::Half),
        "mono" => Ok(Layout::Mono),
        other => Err(format!(
            "its pixels are {}; expected 8-bit 4:2:0 (420, 420jpeg, 420mpeg2, 420paldv) or mono: ffmpeg … -pix_fmt yuv420p",
            printable(other)
        )),
    }
}

/// Where nothing is said, what video means: ffmpeg reads it so too.
fn range(value: Option<&str>, layout: Layout) -> Result<YuvRange, String> {
    match (value, layout) {
        (Some("FULL"), _) => Ok(YuvRange::Full),
        (Some("LIMITED"), Layout::Mono) => {
            Err("its grey is 16 to 235; expected 0 to 255: ffmpeg … -vf scale=out_range=full -pix_fmt gray".to_owned())
        }
        (None, Layout::Mono) => Ok(YuvRange::Full),
        (None | Some("LIMITED"), Layout::Half) => Ok(YuvRange::Video),
        (Some(other), _) => Err(format!("its colour range is {:?}; expected FULL or LIMITED", printable(other))),
    }
}
