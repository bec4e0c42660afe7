//! Video files and URLs through a program that reads all of them: ffmpeg, as a child that writes raw frames into a pipe. It is
//! given a list of arguments, never a line for a shell.

mod address;
mod child;
mod encoder;
mod probe;

use std::ffi::OsString;
use std::time::Duration;

pub use self::address::Address;
pub(super) use self::address::protocol;
pub use self::child::Programs;
use self::child::{Ended, Patience, Running};
pub use self::encoder::Encoder;
use self::probe::{Probe, TO_LOOK, probe};
use super::rate::{Rate, Stamps};
use super::{Frame, Next, Room, Source, check_size};
use crate::error::{Error, Result};
use crate::pixels::{Format, Yuv, YuvMatrix, YuvRange};

/// What ffmpeg makes of a video's pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decoded {
    /// NV12, which nearly all videos are already: half of RGB's bytes, and no arithmetic for ffmpeg.
    #[default]
    Nv12,
    /// 8-bit RGB, the bytes that ffmpeg would put into a PNG.
    Rgb8,
}

/// How a video is read.
#[derive(Clone, Debug)]
pub struct FfmpegOptions {
    /// The frames' pixels.
    pub decoded: Decoded,
    /// Pixels of a frame at most.
    pub max_pixels: u64,
    /// A URL from which nothing comes for so long is lost; at its beginning it has 10 s more.
    pub patience: Duration,
    /// Where ffmpeg is.
    pub programs: Programs,
}

impl Default for FfmpegOptions {
    fn default() -> FfmpegOptions {
        let (max_pixels, patience) = (super::DEFAULT_MAX_PIXELS, Duration::from_secs(10));
        FfmpegOptions { decoded: Decoded::Nv12, max_pixels, patience, programs: Programs::default() }
    }
}

/// The first video of a file or URL, upright.
///
/// A pipe of frames carries no stamps. Of a file they are index / rate: ffmpeg leaves frames out or repeats them so that this is true
/// of files without a fixed rate. Of what is live they are the time of day in which a frame came. Live are rtsp, rtmp, udp, tcp and
/// srt, and what else has no end that ffmpeg knows.
pub struct Ffmpeg {
    running: Running,
    address: Address,
    format: Format,
    width: usize,
    height: usize,
    rate: Option<Rate>,
    stamps: Stamps,
    patience: Duration,
    /// Whole frames so far.
    index: u64,
    then: Then,
}

/// What follows.
enum Then {
    Frames,
    /// Of a live source, behind what is left of its last frame.
    Lost(String),
    End,
}

impl Ffmpeg {
    /// Asks ffprobe for its size, rate and colours, then starts ffmpeg.
    ///
    /// # Errors
    /// [`Error::Video`]: no ffmpeg, nothing there, no video in it, more pixels than allowed.
    pub fn open(address: &Address, options: &FfmpegOptions) -> Result<Ffmpeg> {
        let FfmpegOptions { decoded, max_pixels, patience, programs } = options;
        let known = probe(address, programs, *patience)?;
        let live = address.is_always_live() || address.is_url() && !known.has_length;
        check_size(known.width, known.height, *max_pixels)
            .map_err(|what| Error::Video(format!("{}: {what}", address.shown())))?;
        let watched = Patience { first: *patience + TO_LOOK, later: *patience };
        let arguments = arguments(address, &known, *decoded, live);
        let running = Running::start(&programs.ffmpeg, arguments, false, live.then_some(watched))?;
        let format = match decoded {
            Decoded::Nv12 => Format::Nv12(known.yuv),
            Decoded::Rgb8 => Format::Rgb8,
        };
        Ok(Ffmpeg {
            running,
            address: address.clone(),
            format,
            width: known.width as usize,
            height: known.height as usize,
            rate: known.rate,
            stamps: Stamps::new(live, known.rate),
            patience: *patience,
            index: 0,
            then: Then::Frames,
        })
    }

    /// Frames a second, where ffmpeg knows.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// What there is instead of a frame of which `count` bytes came, when no more do.
    fn stopped(&mut self, count: usize, need: usize) -> Result<Next> {
        self.then = Then::End;
        let ended = self.running.end().map_err(|e| self.error(format!("ffmpeg: {e}")))?;
        if !self.is_live() {
            return self.stopped_file(&ended, count, need);
        }
        let lost = if ended.silent {
            let patience = if self.index == 0 { self.patience + TO_LOOK } else { self.patience };
            format!("nothing came for {} s", patience.as_secs_f64())
        } else if ended.status.success() && ended.said.is_empty() {
            "the stream ended".to_owned()
        } else {
            format!("ffmpeg ended ({})", ended.why())
        };
        if count == 0 {
            return Err(self.error(lost));
        }
        self.then = Then::Lost(lost);
        Ok(self.cut(count, need))
    }

    fn stopped_file(&self, ended: &Ended, count: usize, need: usize) -> Result<Next> {
        if !ended.status.success() {
            return Err(self.error(format!("ffmpeg ended after {} frames ({})", self.index, ended.why())));
        }
        if count > 0 {
            return Ok(self.cut(count, need));
        }
        match (self.index, ended.said.is_empty()) {
            (0, true) => Err(self.error("no frame in it".to_owned())),
            (0, false) => Err(self.error(format!("no frame in it: {}", ended.said))),
            (_, true) => Ok(Next::End),
            // ffmpeg goes on over what is damaged or missing, and ends as if nothing were.
            (_, false) => Ok(Next::Corrupt(format!("{}: {}", self.address.shown(), self.address.hide(&ended.said)))),
        }
    }

    fn cut(&self, count: usize, need: usize) -> Next {
        let (shown, index, missing) = (self.address.shown(), self.index, need - count);
        Next::Corrupt(format!("{shown}: frame {index}: {missing} of its {need} bytes are missing: ffmpeg was cut off"))
    }

    fn error(&self, what: String) -> Error {
        Error::Video(format!("{}: {}", self.address.shown(), self.address.hide(&what)))
    }

    /// The child's process number.
    #[doc(hidden)]
    pub fn process(&self) -> u32 {
        self.running.id()
    }
}

impl Source for Ffmpeg {
    fn describe(&self) -> String {
        let rate = self.rate.map_or(String::new(), |rate| format!(" at {rate} frames a second"));
        format!("{}: {}, {}×{}{rate}", self.address.shown(), self.format, self.width, self.height)
    }

    fn is_live(&self) -> bool {
        self.stamps.is_live()
    }

    fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Damage that ffmpeg went over is told once, as [`Next::Corrupt`] before the end.
    ///
    /// # Errors
    /// [`Error::Video`] where ffmpeg fails, with its status and its last line; where a URL is lost. After it there is only the end.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next> {
        match std::mem::replace(&mut self.then, Then::Frames) {
            Then::Frames => {}
            Then::Lost(what) => {
                self.then = Then::End;
                return Err(self.error(what));
            }
            Then::End => {
                self.then = Then::End;
                return Ok(Next::End);
            }
        }
        let bytes = room.frame(self.format, self.width, self.height)?;
        let (mut stamp, stamps, index) = (0, &mut self.stamps, self.index);
        let read = self.running.read(bytes, || stamp = stamps.next(index));
        match read {
            Ok(count) if count == bytes.len() => {
                self.index += 1;
                Ok(Next::Frame(Frame { stamp, missed: 0 }))
            }
            Ok(count) => self.stopped(count, bytes.len()),
            Err(error) => {
                self.then = Then::End;
                Err(self.error(format!("cannot be read: {error}")))
            }
        }
    }
}

fn arguments(address: &Address, known: &Probe, decoded: Decoded, live: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-nostdin", "-loglevel", "error"].map(OsString::from).into();
    if live {
        // Threads that decode several frames at once hold as many back.
        arguments.extend(["-thread_type", "slice"].map(OsString::from));
    }
    arguments.extend(address.input());
    arguments.extend(["-map", "0:V:0", "-f", "rawvideo"].map(OsString::from));
    match known.rate {
        Some(rate) if !live => arguments.extend(["-r".into(), rate_argument(rate)]),
        // Each frame when it comes, none twice.
        _ if known.knows_fps_mode => arguments.extend(["-fps_mode", "passthrough"].map(OsString::from)),
        _ => arguments.extend(["-vsync", "passthrough"].map(OsString::from)),
    }
    match decoded {
        Decoded::Nv12 => arguments.extend(["-vf".into(), keep(known.yuv).into(), "-pix_fmt".into(), "nv12".into()]),
        Decoded::Rgb8 => arguments.extend(["-pix_fmt", "rgb24"].map(OsString::from)),
    }
    arguments.push("pipe:1".into());
    arguments
}

/// As ffmpeg's `-r` takes it.
fn rate_argument(rate: Rate) -> OsString {
    format!("{}/{}", rate.frames(), rate.seconds()).into()
}

/// A filter after which luma and chroma mean this: nothing, where they do already. Left alone, ffmpeg makes JPEG's range into video's.
fn keep(yuv: Yuv) -> String {
    let matrix = match yuv.matrix {
        YuvMatrix::Bt601 => "bt601",
        YuvMatrix::Bt709 => "bt709",
    };
    let range = match yuv.range {
        YuvRange::Video => "tv",
        YuvRange::Full => "pc",
    };
    format!("scale=in_range={range}:out_range={range}:out_color_matrix={matrix}")
}

#[cfg(all(test, unix))]
mod tests;
