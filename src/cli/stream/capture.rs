//! The thread that reads the source, straight into the stream's memory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::pixels::Format;
use crate::stream::{Policy, Slot, Stream};
use crate::video::{CameraOptions, Decoded, Next, Rate, Reconnect, Room, Source, SourceOptions, open};

use super::super::{Failure, message};
use super::arguments::{Arguments, OnLoss, Pixels};

/// How long a full queue is waited for before an end is looked for.
const GLANCE: Duration = Duration::from_millis(50);
/// How long an ended stream waits for its source, which may never tell.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the source has lost.
#[derive(Default)]
pub struct Counted {
    corrupt: AtomicU64,
    missed: AtomicU64,
    passed_over: Arc<AtomicU64>,
    last: Mutex<String>,
    reconnections: Mutex<Option<Arc<AtomicU64>>>,
}

impl Counted {
    pub fn corrupt(&self) -> u64 {
        self.corrupt.load(Ordering::Acquire)
    }

    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Acquire)
    }

    pub fn passed_over(&self) -> u64 {
        self.passed_over.load(Ordering::Acquire)
    }

    pub fn reconnections(&self) -> u64 {
        let count = self.reconnections.lock().unwrap_or_else(PoisonError::into_inner);
        count.as_ref().map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// What was wrong with the last frame that was damaged.
    pub fn last_damage(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_damage(&self, what: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.corrupt.fetch_add(1, Ordering::AcqRel);
    }
}

/// A source that is open.
pub struct Capture {
    source: Box<dyn Source>,
    rate: Rate,
    pub counted: Arc<Counted>,
    stop: Arc<AtomicBool>,
}

impl Capture {
    /// Opens what the call names.
    pub fn open(
        arguments: &Arguments,
        stop: &Arc<AtomicBool>,
        notes: message::Notes,
    ) -> std::result::Result<Capture, Failure> {
        let counted = Arc::new(Counted::default());
        let options = options(arguments, &counted);
        let opened = open(&arguments.source, &options)?;
        let rate = arguments.fps.or(opened.rate()).unwrap_or_default();
        let reconnects = opened.is_live() && arguments.on_loss == OnLoss::Reconnect && !arguments.is_from_stdin();
        let source: Box<dyn Source> = if reconnects {
            let (spec, mut first) = (arguments.source.clone(), Some(opened));
            let again = move || first.take().map_or_else(|| open(&spec, &options), Ok);
            let tell = Box::new(move |what: &str| notes.error(what));
            let source = Reconnect::new(again, tell, Arc::clone(stop))?;
            *counted.reconnections.lock().unwrap_or_else(PoisonError::into_inner) = Some(source.count());
            Box::new(source)
        } else {
            opened
        };
        Ok(Capture { source, rate, counted, stop: Arc::clone(stop) })
    }

    pub fn describe(&self) -> String {
        self.source.describe()
    }

    pub fn is_live(&self) -> bool {
        self.source.is_live()
    }

    /// Of what is written of it.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Reads frames into the stream on a thread of its own, until there are no more. Then the stream is closed.
    pub fn start(self, stream: Arc<Stream>, policy: Policy) -> std::result::Result<Reading, Failure> {
        let work = move || {
            let Capture { mut source, counted, stop, .. } = self;
            let read = read(&mut *source, &stream, policy, &counted, &stop);
            stream.close();
            // Whoever has enough tells neither the source nor the stream first.
            if stop.load(Ordering::Relaxed) { Ok(()) } else { read }
        };
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::Device(format!("no thread for the source: {error}")))?;
        Ok(Reading(thread))
    }
}

/// The thread that reads.
pub struct Reading(JoinHandle<Result<()>>);

impl Reading {
    /// How the source ended; it is not waited for where nothing comes from it.
    ///
    /// # Errors
    /// Why it did, where it was lost.
    pub fn ended(self) -> Result<()> {
        let begin = Instant::now();
        while !self.0.is_finished() {
            if begin.elapsed() >= PATIENCE {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.0.join().unwrap_or_else(|_| Err(Error::Lost("the thread that reads the source has panicked".to_owned())))
    }
}

fn options(arguments: &Arguments, counted: &Counted) -> SourceOptions {
    let camera = arguments.camera_size;
    // Of files the exact way, as of what ffmpeg would extract; of what is live the quicker one.
    let is_file = Path::new(&arguments.source).is_file();
    let decoded = match arguments.pixels {
        Some(Pixels::Rgb8) => Decoded::Rgb8,
        Some(Pixels::Nv12) => Decoded::Nv12,
        None if is_file => Decoded::Rgb8,
        None => Decoded::Nv12,
    };
    SourceOptions {
        rate: arguments.fps,
        raw: arguments.raw,
        live: arguments.is_live_input(),
        decoded,
        camera: CameraOptions {
            format: arguments.camera_format,
            size: camera.map(|size| (size.width, size.height)),
            rate: camera.and_then(|size| size.rate),
            passed_over: Arc::clone(&counted.passed_over),
            newest: arguments.policy(true) == Policy::Newest,
            ..CameraOptions::default()
        },
        max_pixels: arguments.max_pixels,
        ..SourceOptions::default()
    }
}

/// Frames from the source to the stream.
fn read(source: &mut dyn Source, stream: &Stream, policy: Policy, counted: &Counted, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut room = StreamRoom { stream, stop, waits: policy != Policy::Newest, slot: None };
        match source.next(&mut room) {
            Ok(Next::Frame(frame)) => {
                counted.missed.fetch_add(frame.missed, Ordering::AcqRel);
                if let Some(slot) = room.slot.take() {
                    slot.push(frame.stamp)?;
                }
            }
            Ok(Next::Corrupt(what)) => counted.note_damage(what),
            Ok(Next::End) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where the stream has room, or will have.
struct StreamRoom<'a> {
    stream: &'a Stream,
    stop: &'a AtomicBool,
    waits: bool,
    slot: Option<Slot<'a>>,
}

impl Room for StreamRoom<'_> {
    fn frame(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]> {
        // Asked again, the slot before is given back first.
        self.slot = None;
        while !self.stop.load(Ordering::Relaxed) {
            let slot = match self.waits {
                true => self.stream.slot_within(format, width, height, GLANCE)?,
                false => self.stream.slot(format, width, height)?,
            };
            if let Some(slot) = slot {
                return Ok(self.slot.insert(slot).bytes());
            }
        }
        Err(Error::Busy("the stream takes no more frames".to_owned()))
    }
}
