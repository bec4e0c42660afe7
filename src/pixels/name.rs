//! Formats by their names.

use std::fmt;
use std::str::FromStr;

use super::{Format, Yuv, YuvMatrix, YuvRange};
use crate::error::Error;

const YUV: Yuv = Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Video };

impl Format {
    /// One of each name; of luma and chroma as their defaults mean.
    pub const ALL: [Format; 9] = [
        Format::Rgb8,
        Format::Bgr8,
        Format::Rgba8,
        Format::Bgra8,
        Format::Mono8,
        Format::Nv12(YUV),
        Format::Yuyv(YUV),
        Format::RgbF32,
        Format::RgbF16,
    ];

    /// As the command line, Python and C name it; of luma and chroma without their meaning.
    pub fn name(self) -> &'static str {
        match self {
            Format::Rgb8 => "rgb8",
            Format::Bgr8 => "bgr8",
            Format::Rgba8 => "rgba8",
            Format::Bgra8 => "bgra8",
            Format::Mono8 => "mono8",
            Format::Nv12(_) => "nv12",
            Format::Yuyv(_) => "yuyv",
            Format::RgbF32 => "rgb_f32",
            Format::RgbF16 => "rgb_f16",
        }
    }

    /// What luma and chroma mean, where it has them.
    pub fn yuv(self) -> Option<Yuv> {
        match self {
            Format::Nv12(yuv) | Format::Yuyv(yuv) => Some(yuv),
            _ => None,
        }
    }

    fn yuv_mut(&mut self) -> Option<&mut Yuv> {
        match self {
            Format::Nv12(yuv) | Format::Yuyv(yuv) => Some(yuv),
            _ => None,
        }
    }

    /// As its [`FromStr`] reads it; `None` for what is no format.
    fn parse(text: &str) -> Option<Format> {
        let mut parts = text.split(':');
        let name = parts.next()?;
        let mut format = Format::ALL.into_iter().find(|format| format.name() == name)?;
        let (mut matrix, mut range) = (None, None);
        for part in parts {
            let old = match part {
                "bt601" => matrix.replace(YuvMatrix::Bt601).is_some(),
                "bt709" => matrix.replace(YuvMatrix::Bt709).is_some(),
                "video" => range.replace(YuvRange::Video).is_some(),
                "full" => range.replace(YuvRange::Full).is_some(),
                _ => return None,
            };
            let yuv = format.yuv_mut().filter(|_| !old)?;
            *yuv = Yuv { matrix: matrix.unwrap_or_default(), range: range.unwrap_or_default() };
        }
        Some(format)
    }
}

impl FromStr for Format {
    type Err = Error;

    /// A name; behind those of luma and chroma a colon and the matrix (`bt601`, which it is otherwise, or `bt709`), a colon and the
    /// range (`video`, which it is otherwise, or `full`).
    ///
    /// ```
    /// use lseg_fast::{Format, Yuv, YuvMatrix, YuvRange};
    ///
    /// assert_eq!("bgr8".parse::<Format>()?, Format::Bgr8);
    /// let high = Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Full };
    /// assert_eq!("nv12:bt709:full".parse::<Format>()?, Format::Nv12(high));
    /// assert_eq!(Format::Nv12(high).to_string(), "nv12:bt709:full");
    /// # Ok::<(), lseg_fast::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Format, Error> {
        Format::parse(text).ok_or_else(|| {
            let names = Format::ALL.map(Format::name).join(", ");
            Error::Size(format!(
                "format {text:?}: expected one of {names}; behind nv12 and yuyv :bt601 or :bt709 and :video or :full (such as \
                 nv12:bt709:full)"
            ))
        })
    }
}

impl fmt::Display for Format {
    /// The shortest text that [`FromStr`] reads as this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let Yuv { matrix, range } = self.yuv().unwrap_or_default();
        if matrix == YuvMatrix::Bt709 {
            f.write_str(":bt709")?;
        }
        if range == YuvRange::Full {
            f.write_str(":full")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_read_as_it_is_written() {
        let mut written = Vec::new();
        for mut format in Format::ALL {
            assert_eq!(format.to_string(), format.name());
            for (matrix, range) in [
                (YuvMatrix::Bt601, YuvRange::Video),
                (YuvMatrix::Bt601, YuvRange::Full),
                (YuvMatrix::Bt709, YuvRange::Video),
                (YuvMatrix::Bt709, YuvRange::Full),
            ] {
                if let Some(yuv) = format.yuv_mut() {
                    *yuv = Yuv { matrix, range };
                }
                assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
                written.push(format.to_string());
            }
        }
        written.dedup();
        assert_eq!(written.len(), 7 + 2 * 4);
    }

    #[test]
    fn what_is_said_in_full_is_read_too() {
        assert_eq!("nv12:bt601:video".parse::<Format>().unwrap(), Format::Nv12(Yuv::default()));
        let full = Yuv { range: YuvRange::Full, ..Yuv::default() };
        assert_eq!("yuyv:full".parse::<Format>().unwrap(), Format::Yuyv(full));
        let high = Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Full };
        assert_eq!("yuyv:full:bt709".parse::<Format>().unwrap(), Format::Yuyv(high));
    }

    #[test]
    fn nothing_else_is_a_format() {
        let wrong = [
            "",
            "rgb",
            "RGB8",
            "nv12:",
            "nv12:bt2020",
            "nv12:full:full",
            "nv12:bt601:bt709",
            "rgb8:full",
            "bgr8:",
            "i420",
        ];
        for text in wrong {
            let error = text.parse::<Format>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("format {text:?}: expected one of rgb8, bgr8, rgba8, ")), "{error}");
            assert!(
                !error.contains('\n') && error.contains("rgb_f16;") && error.contains("nv12:bt709:full"),
                "{error}"
            );
        }
    }
}
