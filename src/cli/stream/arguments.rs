//! What `stream` is called with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::engine::{Alpha, Output, Threshold, Wanted};
use crate::image::palette::Palette;
use crate::pixels::Format;
use crate::protocol::Size;
use crate::stream::{Policy, Realtime, StreamOptions, Waiting};
use crate::video::{CameraFormat, DEFAULT_MAX_PIXELS, Rate};

use super::super::Failure;
use super::super::common::{EngineArguments, alpha, threshold};
use super::words::WordArguments;

/// The answers that wait for whoever writes them, where every frame is computed.
const POOL: usize = 4;

/// Segment a camera, a video or a pipe of frames as they come.
///
/// Of what is live (a camera, rtsp) the newest frame is computed and older ones are left out and counted; of files and folders every frame
/// is. Ctrl-C ends it well: the frame in flight is finished, files are whole, and the exit code is 0.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A camera (/dev/video0, or camera for the first one), a video file or URL (through ffmpeg), a folder of photos, or - for frames on
    /// standard input (YUV4MPEG2, or --raw)
    #[arg(value_name = "SOURCE")]
    pub source: String,

    #[command(flatten)]
    pub words: WordArguments,

    #[command(flatten)]
    pub engine: EngineArguments,

    /// The network's size: native (the frame's own), HEIGHTxWIDTH, or long:L (longer side L) [default: the model's]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// A folder for a picture a frame, a video's file (mp4, mkv, webm; through ffmpeg), or - for standard output [default: nothing is
    /// written, each frame is told]
    #[arg(long, value_name = "DIR|FILE|-")]
    pub out: Option<PathBuf>,

    /// What to write of each frame: mask, confidence and overlay into a folder; a video has overlays, standard output either (overlays as
    /// YUV4MPEG2, masks as raw bytes) [default: mask; of videos and standard output: overlay]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    save: Vec<Save>,

    /// Compute every frame, in its order; a camera's frames then wait [default of files and folders]
    #[arg(long, conflicts_with = "newest")]
    every: bool,

    /// Compute the newest frame and leave out older ones [default of cameras and live URLs]
    #[arg(long)]
    newest: bool,

    /// Frames that may wait, where every one is computed
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    queue: u16,

    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,

    /// Frames a second of a folder and of --raw, and of a video that is written: 30, 29.97 or 30000/1001 [default: the source's own, or 30]
    #[arg(long, value_name = "RATE")]
    pub fps: Option<Rate>,

    /// Standard input has frames of this format and size, one after the other: nv12:640x480, rgb8:640x480, yuyv:1280x720 …
    #[arg(long, value_name = "FORMAT:WxH", value_parser = raw)]
    pub raw: Option<(Format, usize, usize)>,

    /// How ffmpeg hands over frames: rgb8 (the bytes of its own PNGs), or nv12 (half of them, as videos have them) [default: rgb8 of files,
    /// nv12 of URLs]
    #[arg(long, value_name = "FORMAT")]
    pub pixels: Option<Pixels>,

    /// A camera's pixels: auto (the first that it has), nv12, yuyv, rgb8, bgr8, mono8 or mjpeg
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    pub camera_format: CameraFormat,

    /// A camera's size and rate, such as 1280x720 or 1280x720@30 [default: the driver's own]
    #[arg(long, value_name = "WxH[@FPS]", value_parser = camera_size)]
    pub camera_size: Option<CameraSize>,

    /// What to do when a camera or a live URL is lost
    #[arg(long, default_value = "reconnect", value_name = "HOW")]
    pub on_loss: OnLoss,

    /// Do not compute frames that have waited for longer than so many milliseconds
    #[arg(long, value_name = "MS")]
    stale_after: Option<u32>,

    /// A realtime priority (SCHED_FIFO, 1 to 99) for the engine's thread, and its memory locked; what the system refuses is said
    #[arg(long, value_name = "PRIORITY", value_parser = clap::value_parser!(u8).range(1..=99))]
    realtime: Option<u8>,

    /// Refuse to run without --realtime and --cpus
    #[arg(long)]
    realtime_required: bool,

    /// The processors of the engine's thread, such as 2,3
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    cpus: Vec<usize>,

    /// How the engine's thread waits for frames and for a GPU: block (asleep), yield or spin (least jitter, a core of its own)
    #[arg(long, default_value = "block", value_name = "HOW")]
    wait: Wait,

    /// The labels' colours: default, ade20k, cityscapes or voc, or a file with one colour a line (#rrggbb or r g b)
    #[arg(long, default_value = "default", value_name = "NAME|FILE")]
    palette: String,

    /// The weight of the colours in overlays, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "WEIGHT", value_parser = alpha)]
    alpha: Option<Alpha>,

    /// Leave pixels without a label whose confidence is below this (0 to 1): 255 in masks of 8 bits, 65535 in masks of 16
    #[arg(long, value_name = "CONFIDENCE", value_parser = threshold)]
    threshold: Option<Threshold>,

    /// Refuse frames of more pixels than this
    #[arg(long, default_value_t = DEFAULT_MAX_PIXELS, value_name = "N")]
    pub max_pixels: u64,

    /// No notes on stderr; errors remain
    #[arg(short, long)]
    pub quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast stream /dev/video0 --labels \"person,floor,other\" --json --model lseg.safetensors
  lseg-fast stream camera --labels \"road,sky,other\" --out - --model lseg.safetensors | ffplay -
  lseg-fast stream clip.mp4 --labels @words.txt --out masks --model lseg.safetensors
  lseg-fast stream clip.mp4 --labels \"road,sky\" --out named.mp4 --model lseg.safetensors
  lseg-fast stream rtsp://robot/front --labels-from words.txt --json --model lseg.safetensors
  lseg-fast stream photos/ --labels \"grass,other\" --out masks --fps 10
  ffmpeg -i clip.mp4 -f yuv4mpegpipe - | lseg-fast stream - --labels \"cat,other\" --out masks
  lseg-fast stream - --raw nv12:640x480 --labels \"cat,other\" --out - --save mask < frames > masks

Other words while it runs: --labels-from FILE is read again when it changes, and a line on standard input (where that is not the source)
is a new list. Writes, for frame 12 with the stamp 400000000 ns:
  out/00000012_400000000.mask.png        as `run` writes it
  out/00000012_400000000.confidence.png  8-bit grey: 255 times the softmax of each pixel's label
  out/00000012_400000000.overlay.png     the frame in the labels' colours";

/// What is written of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Save {
    Mask,
    Confidence,
    Overlay,
}

impl Save {
    pub fn output(self) -> Output {
        match self {
            Save::Mask => Output::Mask,
            Save::Confidence => Output::Confidence,
            Save::Overlay => Output::Overlay,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pixels {
    Rgb8,
    Nv12,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnLoss {
    /// Open it again and again, from 0.1 to 5 s apart
    Reconnect,
    /// End, with exit code 1
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    Block,
    Yield,
    Spin,
}

/// Width, height, and frames a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameraSize {
    pub width: u32,
    pub height: u32,
    pub rate: Option<Rate>,
}

fn size(text: &str) -> Option<(usize, usize)> {
    let (width, height) = text.split_once(['x', '×'])?;
    let side = |text: &str| text.parse().ok().filter(|side| (1..=1 << 16).contains(side));
    Some((side(width)?, side(height)?))
}

fn raw(text: &str) -> Result<(Format, usize, usize), String> {
    let parts = text.rsplit_once(':').and_then(|(format, pixels)| Some((format, size(pixels)?)));
    let (format, (width, height)) = parts.ok_or("expected a format and a size, such as nv12:640x480")?;
    let format = format.parse::<Format>().map_err(|e| e.to_string())?;
    Ok((format, width, height))
}

fn camera_size(text: &str) -> Result<CameraSize, String> {
    let (pixels, rate) = text.split_once('@').map_or((text, None), |(pixels, rate)| (pixels, Some(rate)));
    let (width, height) = size(pixels).ok_or("expected a size such as 1280x720, or 1280x720@30")?;
    let rate = rate.map(str::parse::<Rate>).transpose().map_err(|e| e.to_string())?;
    Ok(CameraSize { width: width as u32, height: height as u32, rate })
}

/// Where answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Nowhere,
    Folder,
    Video,
    Stdout,
}

const VIDEOS: [&str; 5] = ["mp4", "m4v", "mov", "mkv", "webm"];

impl Arguments {
    pub fn to(&self) -> To {
        let Some(out) = &self.out else { return To::Nowhere };
        let ending = out.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        match ending {
            _ if out == Path::new("-") => To::Stdout,
            Some(ending) if VIDEOS.contains(&&*ending) && !out.is_dir() => To::Video,
            _ => To::Folder,
        }
    }

    pub fn to_stdout(&self) -> bool {
        self.to() == To::Stdout
    }

    pub fn is_from_stdin(&self) -> bool {
        self.source == "-"
    }

    /// Whether there is nothing else to see of a frame, or it was asked for.
    pub fn has_threshold(&self) -> bool {
        self.threshold.is_some()
    }

    /// What is written of each frame.
    pub fn saved(&self) -> Vec<Save> {
        match (&*self.save, self.to()) {
            ([], To::Nowhere) => Vec::new(),
            ([], To::Folder) => vec![Save::Mask],
            ([], To::Video | To::Stdout) => vec![Save::Overlay],
            (given, _) => {
                let mut saved: Vec<Save> = Vec::new();
                given.iter().for_each(|save| {
                    if !saved.contains(save) {
                        saved.push(*save)
                    }
                });
                saved
            }
        }
    }

    /// # Errors
    /// Arguments that contradict each other.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |what: &str| Err(Failure::call(what));
        match (self.to(), &*self.saved()) {
            (To::Nowhere, [_, ..]) => refuse("--save is for --out, which is missing: name a folder, a video or -"),
            (To::Video, saved) if saved != [Save::Overlay] => {
                refuse("--save: a video's file has overlays alone; name a folder for masks and confidences")
            }
            (To::Stdout, saved) if saved.len() != 1 => {
                refuse("--save: standard output takes one kind; name a folder for more")
            }
            _ if self.raw.is_some() && !self.is_from_stdin() => {
                refuse("--raw is for frames on standard input: the source is then -")
            }
            _ if self.realtime_required && self.realtime.is_none() && self.cpus.is_empty() => {
                refuse("--realtime-required is for --realtime and --cpus: name one of them")
            }
            _ => Ok(()),
        }
    }

    /// Whether frames on standard input are taken as they come.
    pub fn is_live_input(&self) -> bool {
        self.newest
    }

    pub fn policy(&self, is_live: bool) -> Policy {
        let every = Policy::Every { queue: usize::from(self.queue) };
        match (self.every, self.newest) {
            (true, _) => every,
            (_, true) => Policy::Newest,
            _ if is_live => Policy::Newest,
            _ => every,
        }
    }

    pub fn palette(&self) -> crate::Result<Palette> {
        Palette::parse(&self.palette)
    }

    pub fn stream_options(&self, policy: Policy) -> Result<StreamOptions, Failure> {
        let saved = self.saved();
        let plain = saved.iter().filter(|save| **save != Save::Overlay);
        // The mask is there for the shares, whatever is written.
        let mut wanted = plain.fold(Wanted::MASK, |all, save| all.and(save.output()));
        if let Some(threshold) = self.threshold {
            wanted = wanted.threshold(threshold);
        }
        let overlay = saved.contains(&Save::Overlay).then(|| self.palette()).transpose()?;
        let asks = self.realtime.is_some() || !self.cpus.is_empty();
        let realtime = asks.then(|| Realtime {
            priority: self.realtime.unwrap_or(0),
            cpus: self.cpus.clone(),
            lock_memory: self.realtime.is_some(),
            required: self.realtime_required,
        });
        Ok(StreamOptions {
            policy,
            wanted,
            overlay: overlay.map(|palette| (palette, self.alpha.unwrap_or_default())),
            size: self.size,
            wait: match self.wait {
                Wait::Block => Waiting::Block,
                Wait::Yield => Waiting::Yield,
                Wait::Spin => Waiting::Spin,
            },
            realtime,
            stale_after: self.stale_after.map(|ms| Duration::from_millis(ms.into())),
            pool: if policy == Policy::Newest { 2 } else { POOL },
            ..StreamOptions::default()
        })
    }
}
