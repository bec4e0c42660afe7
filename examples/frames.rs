//! A line for each frame of a camera, video, stream, folder or pipe: `frames /dev/video0 --format yuyv --size 640x480 --frames 30`.
//! tests/v4l2 runs it.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lseg_fast::video::{Next, Reconnect, Room, Source, SourceOptions, open};
use lseg_fast::{Error, Format, Result};

/// Memory for one frame.
#[derive(Default)]
struct Memory {
    frame: Option<(Format, usize, usize)>,
    bytes: Vec<u8>,
}

impl Room for Memory {
    fn frame(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]> {
        let bytes = format.bytes(width, height).ok_or_else(|| Error::Size(format!("{width}×{height}")))?;
        self.frame = Some((format, width, height));
        self.bytes.resize(bytes, 0);
        Ok(&mut self.bytes)
    }
}

impl Memory {
    /// Its bytes at a pixel: of luma and chroma those of both.
    fn pixel(&self, x: usize, y: usize) -> Vec<u8> {
        let Some((format, width, height)) = self.frame else { return Vec::new() };
        let at = |start: usize, count: usize| self.bytes[start..start + count].to_vec();
        let pairs = width.div_ceil(2);
        match format {
            Format::Nv12(_) => [at(y * width + x, 1), at(height * width + y / 2 * 2 * pairs + x / 2 * 2, 2)].concat(),
            Format::Yuyv(_) => {
                let pair = at(y * 4 * pairs + x / 2 * 4, 4);
                vec![pair[x % 2 * 2], pair[1], pair[3]]
            }
            Format::Rgb8 | Format::Bgr8 => at((y * width + x) * 3, 3),
            _ => at(y * width + x, 1),
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [source, rest @ ..] = arguments else { return Err(Error::Video("expected a source".to_owned())) };
    let value = |name: &str| rest.iter().position(|argument| argument == name).and_then(|at| rest.get(at + 1));
    let number = |name: &str, otherwise: u64| value(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let has = |name: &str| rest.iter().any(|argument| argument == name);
    let mut options = SourceOptions::default();
    options.camera.newest = has("--newest");
    if let Some(format) = value("--format") {
        options.camera.format = format.parse()?;
    }
    options.camera.size = value("--size").and_then(|size| {
        let (width, height) = size.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    });
    options.camera.rate = value("--rate").map(|rate| rate.parse()).transpose()?;
    options.patience = Some(Duration::from_millis(number("--patience", 5000)));
    let passed_over = options.camera.passed_over.clone();
    let spec = source.clone();
    let mut source: Box<dyn Source> = match has("--reconnect") {
        true => {
            let tell = Box::new(|what: &str| println!("told: {what}"));
            Box::new(Reconnect::new(move || open(&spec, &options), tell, Arc::default())?)
        }
        false => open(&spec, &options)?,
    };
    println!("source: {}", source.describe());
    let (mut room, mut missed, mut corrupt) = (Memory::default(), 0, 0);
    let frames = number("--frames", u64::MAX);
    let mut frame = 0;
    while frame < frames {
        match source.next(&mut room)? {
            Next::Frame(next) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64;
                let age = (now - next.stamp) as f64 / 1e6;
                let (_, width, height) = room.frame.unwrap_or((Format::Rgb8, 0, 0));
                let pixel = room.pixel(width * 3 / 16, height * 7 / 8);
                println!("frame {frame}: stamp {} age_ms {age:.3} missed {} pixel {pixel:?}", next.stamp, next.missed);
                missed += next.missed;
                frame += 1;
            }
            Next::Corrupt(what) => {
                println!("corrupt: {what}");
                corrupt += 1;
            }
            Next::End => break,
        }
        std::thread::sleep(Duration::from_millis(number("--slow", 0)));
    }
    println!("frames {frame} missed {missed} corrupt {corrupt} passed_over {}", passed_over.load(Ordering::Relaxed));
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
