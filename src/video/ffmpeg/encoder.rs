//! Frames into a video file, through ffmpeg.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::address::file;
use super::child::{Ended, Programs, Running};
use super::rate_argument;
use crate::atomic_file::Beside;
use crate::error::{Error, Result};
use crate::video::rate::Rate;

/// Endings, and ffmpeg's names of what they are.
const CONTAINERS: [(&str, &str); 5] =
    [("mp4", "mp4"), ("m4v", "mp4"), ("mov", "mov"), ("mkv", "matroska"), ("webm", "webm")];

/// What is done with frames: video has chroma for each 2×2 pixels, so that odd sizes get a black column or row, and the meaning that
/// players give to luma and chroma where they are not told.
const FILTER: &str = "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p";
const COLOURS: [&str; 8] =
    ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"];

/// Writes RGB frames of one size into a video file, which is there once [`Encoder::finish`] has succeeded; before, it has a temporary
/// name beside its own. Dropped before that, it leaves nothing.
pub struct Encoder {
    running: Running,
    beside: Option<Beside>,
    path: PathBuf,
    size: (usize, usize),
}

impl Encoder {
    /// A file whose ending is mp4, m4v, mov, mkv or webm.
    ///
    /// # Errors
    /// [`Error::Video`] for another ending, or where there is no ffmpeg; [`Error::Output`] where the file cannot be there.
    pub fn create(path: &Path, width: usize, height: usize, rate: Rate, programs: &Programs) -> Result<Encoder> {
        let container = container(path)?;
        if width == 0 || height == 0 {
            return Err(Error::Video(format!("{}: frames of {width}×{height} have no pixels", path.display())));
        }
        let beside = Beside::of(path)?;
        let arguments = arguments(container, beside.path(), (width, height), rate);
        let running = Running::start(&programs.ffmpeg, arguments, true, None)?;
        Ok(Encoder { running, beside: Some(beside), path: path.to_owned(), size: (width, height) })
    }

    /// Hands on a frame, `width · height · 3` bytes of R G B.
    ///
    /// # Errors
    /// [`Error::Video`]: a frame of another size; ffmpeg ended, with its status and its last line.
    pub fn write(&mut self, rgb: &[u8]) -> Result<()> {
        let (width, height) = self.size;
        if rgb.len() != 3 * width * height {
            let (path, found) = (self.path.display(), rgb.len());
            return Err(Error::Video(format!(
                "{path}: a frame of {found} bytes: expected {width}×{height} as the first"
            )));
        }
        let written = self.running.input().map_or(Err(io::ErrorKind::BrokenPipe.into()), |input| input.write_all(rgb));
        let Err(error) = written else { return Ok(()) };
        self.beside = None;
        Err(match (error.kind(), self.running.end()) {
            (io::ErrorKind::BrokenPipe, Ok(ended)) => self.failed(&ended),
            _ => self.error(&format!("ffmpeg takes no frames: {error}")),
        })
    }

    /// Waits until ffmpeg has written all, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Video`] where ffmpeg failed, [`Error::Output`] where the name cannot be given. What was there before stays.
    pub fn finish(mut self) -> Result<()> {
        let ended = self.running.finish().map_err(|error| self.error(&error.to_string()))?;
        match self.beside.take() {
            Some(beside) if ended.status.success() => beside.publish(),
            _ => Err(self.failed(&ended)),
        }
    }

    fn failed(&self, ended: &Ended) -> Error {
        self.error(&format!("ffmpeg could not write it ({})", ended.why()))
    }

    fn error(&self, what: &str) -> Error {
        Error::Video(format!("{}: {what}", self.path.display()))
    }
}

fn container(path: &Path) -> Result<&'static str> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    CONTAINERS.iter().find(|(known, _)| *known == ending).map(|(_, container)| *container).ok_or_else(|| {
        let endings: Vec<&str> = CONTAINERS.iter().map(|(ending, _)| *ending).collect();
        Error::Video(format!("{}: expected a video's ending: {}", path.display(), endings.join(", ")))
    })
}

fn arguments(container: &str, to: &Path, (width, height): (usize, usize), rate: Rate) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["-nostdin", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s"]
            .map(OsString::from)
            .into();
    arguments.extend([
        format!("{width}x{height}").into(),
        "-r".into(),
        rate_argument(rate),
        "-i".into(),
        "pipe:0".into(),
    ]);
    arguments.extend(["-vf", FILTER, "-pix_fmt", "yuv420p"].map(OsString::from));
    arguments.extend(COLOURS.map(OsString::from));
    arguments.extend(["-f".into(), container.into(), file(to)]);
    arguments
}
