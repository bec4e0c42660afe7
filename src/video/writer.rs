//! YUV4MPEG2 out: RGB frames as 4:4:4 in full range, so that nearly nothing of a drawn edge is lost.

use std::io::{self, Write};

use super::rate::Rate;
use crate::error::Error;

/// Weights of red, green and blue in luma and chroma (ITU-R BT.601, full range), in 1/65536; those of luma are 65536 in all, those of
/// chroma 0, so that grey stays grey.
const LUMA: [i32; 3] = [19595, 38470, 7471];
const BLUE: [i32; 3] = [-11058, -21710, 32768];
const RED: [i32; 3] = [32768, -27439, -5329];

/// Writes RGB frames of one size as YUV4MPEG2 (`C444 XCOLORRANGE=FULL`): what `ffplay -` and `ffmpeg -i -` read.
pub struct Y4mWriter<W> {
    out: W,
    size: (usize, usize),
    /// Three planes of a frame, behind its line.
    bytes: Vec<u8>,
}

/// Of each frame.
const FRAME: &[u8] = b"FRAME\n";

impl<W: Write> Y4mWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// What the system says; of a reader that went away [`io::ErrorKind::BrokenPipe`].
    pub fn new(mut out: W, width: usize, height: usize, rate: Rate) -> io::Result<Y4mWriter<W>> {
        let (frames, seconds) = (rate.frames(), rate.seconds());
        writeln!(out, "YUV4MPEG2 W{width} H{height} F{frames}:{seconds} Ip A1:1 C444 XCOLORRANGE=FULL")?;
        let mut bytes = FRAME.to_vec();
        bytes.resize(FRAME.len() + 3 * width * height, 0);
        Ok(Y4mWriter { out, size: (width, height), bytes })
    }

    /// Writes a frame, `width · height · 3` bytes of R G B, and flushes it.
    ///
    /// # Errors
    /// What the system says; of a reader that went away [`io::ErrorKind::BrokenPipe`]. A frame of another number of bytes is
    /// [`io::ErrorKind::InvalidInput`]: a stream's frames are of one size.
    pub fn write(&mut self, rgb: &[u8]) -> io::Result<()> {
        let (width, height) = self.size;
        let pixels = width * height;
        if rgb.len() != 3 * pixels {
            let what = format!("a frame of {} bytes: expected {width}×{height} as the first", rgb.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (luma, chroma) = self.bytes[FRAME.len()..].split_at_mut(pixels);
        let (blue, red) = chroma.split_at_mut(pixels);
        for (((pixel, luma), blue), red) in rgb.chunks_exact(3).zip(luma).zip(blue).zip(red) {
            *luma = weighted(pixel, LUMA, 0);
            *blue = weighted(pixel, BLUE, 128);
            *red = weighted(pixel, RED, 128);
        }
        self.out.write_all(&self.bytes)?;
        self.out.flush()
    }
}

/// Rounded to the nearest.
fn weighted(pixel: &[u8], weights: [i32; 3], middle: i32) -> u8 {
    let sum: i32 = pixel.iter().zip(weights).map(|(colour, weight)| i32::from(*colour) * weight).sum();
    (middle + ((sum + (1 << 15)) >> 16)).clamp(0, 255) as u8
}

/// The error of a program whose frames cannot be written, for [`Y4mWriter::write`] and its like: what is called `name`.
pub fn unwritable(name: &str, error: &io::Error) -> Error {
    Error::Video(match error.kind() {
        io::ErrorKind::BrokenPipe => format!("{name}: its reader ended"),
        _ => format!("{name}: cannot be written: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::{Yuv, YuvMatrix, YuvRange};

    #[test]
    fn weights_keep_grey_grey() {
        assert_eq!([LUMA, BLUE, RED].map(|weights| weights.iter().sum::<i32>()), [65536, 0, 0]);
        for grey in 0..=255 {
            let pixel = [grey; 3];
            assert_eq!(
                [weighted(&pixel, LUMA, 0), weighted(&pixel, BLUE, 128), weighted(&pixel, RED, 128)],
                [grey, 128, 128]
            );
        }
    }

    /// Back by the formula that the engine reads NV12 with.
    #[test]
    fn colours_come_back_within_a_step_or_two() {
        let back = Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Full }.to_rgb();
        let mut worst = 0.0f32;
        for at in 0..(1 << 15) {
            let pixel = [at >> 10, at >> 5 & 31, at & 31].map(|part| (part * 255 / 31) as u8);
            let [y, cb, cr] = [(LUMA, 0), (BLUE, 128), (RED, 128)]
                .map(|(weights, middle)| f32::from(weighted(&pixel, weights, middle)));
            for ((of_cb, of_cr), wanted) in back.cb.into_iter().zip(back.cr).zip(pixel) {
                let colour = back.luma * (y - back.black) + of_cb * (cb - 128.0) + of_cr * (cr - 128.0);
                worst = worst.max((colour.clamp(0.0, 255.0) - f32::from(wanted)).abs());
            }
        }
        assert!(worst < 1.7, "{worst}");
    }

    #[test]
    fn a_stream_has_one_header_and_a_line_each_frame() {
        let mut out = Vec::new();
        let mut writer = Y4mWriter::new(&mut out, 2, 1, Rate::new(30000, 1001).unwrap()).unwrap();
        writer.write(&[255, 0, 0, 10, 10, 10]).unwrap();
        writer.write(&[0; 6]).unwrap();
        assert_eq!(writer.write(&[0; 7]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let header = b"YUV4MPEG2 W2 H1 F30000:1001 Ip A1:1 C444 XCOLORRANGE=FULL\n".as_slice();
        let frames = [b"FRAME\n".as_slice(), &[76, 10, 85, 128, 255, 128], b"FRAME\n", &[0, 0, 128, 128, 128, 128]];
        assert_eq!(out, [header, &frames.concat()].concat());
    }

    #[test]
    fn a_reader_that_went_away_is_told() {
        let error = unwritable("standard output", &io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.to_string(), "standard output: its reader ended");
    }
}
