//! Cameras of Linux: Video4Linux, by its own requests. The driver fills buffers that are shared with it; each frame is copied out once,
//! into the memory of who wants it, and its buffer goes back at once.

mod abi;
mod choose;
mod device;
mod driver;
mod find;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::choose::{Chosen, Content, NoFormat, choose};
use self::device::Device;
use self::driver::{Driver, Filled, Refusal};
pub use self::find::{cameras, first};
use self::find::{explain, silent};
use super::rate::now;
use super::{CameraOptions, Frame, Next, Room, Source, check_size};
use crate::error::{Error, Result};
use crate::image::decode;
use crate::pixels::{Format, PlaneSize};

/// Buffers: one is filled, one is copied, and two for a reader that is late.
const BUFFERS: u32 = 4;
/// Clocks drift apart, and the time of day is set: how often one is held against the other.
const CLOCKS_AGAIN: Duration = Duration::from_secs(1);

/// A camera that streams.
///
/// A frame's stamp is the driver's own, of the moment in which it was taken (or its first byte came, as the driver has it), brought
/// from the monotonic clock to the time of day. [`Frame::missed`] is a gap in the driver's count of frames.
pub struct Camera {
    driver: Box<dyn Driver>,
    path: PathBuf,
    chosen: Chosen,
    options: CameraOptions,
    sequence: Sequence,
    /// How far the time of day is ahead of the monotonic clock, in nanoseconds, and when that was so.
    ahead: (i64, Instant),
}

impl Camera {
    /// Opens `/dev/videoN`, agrees with its driver on a format, and begins.
    ///
    /// # Errors
    /// [`Error::Video`]: no such camera, no permission, another program has it, no format that is read here.
    pub fn open(path: &Path, options: &CameraOptions) -> Result<Camera> {
        let device = Device::open(path).map_err(|refusal| explain(path, &refusal))?;
        Camera::start(Box::new(device), path, options)
    }

    fn start(mut driver: Box<dyn Driver>, path: &Path, options: &CameraOptions) -> Result<Camera> {
        let explained = |refusal: Refusal| explain(path, &refusal);
        let wrong = |what: String| Error::Video(format!("{}: {what}", path.display()));
        let chosen = choose(driver.as_mut(), options).map_err(|no| match no {
            NoFormat::Refused(refusal) => explained(refusal),
            NoFormat::None(what) => wrong(what),
        })?;
        let (width, height) = (chosen.pix.width, chosen.pix.height);
        check_size(u64::from(width), u64::from(height), options.max_pixels).map_err(wrong)?;
        Layout::of(&chosen).map_err(wrong)?;
        driver.start(BUFFERS).map_err(explained)?;
        let ahead = (driver.ahead(), Instant::now());
        let (path, options, sequence) = (path.to_owned(), options.clone(), Sequence::default());
        Ok(Camera { driver, path, chosen, options, sequence, ahead })
    }

    /// Waits for a buffer with a frame.
    fn filled(&mut self) -> Result<Filled> {
        let (patience, start) = (self.options.patience, Instant::now());
        loop {
            let left = patience.saturating_sub(start.elapsed());
            if !self.driver.wait(left).map_err(|refusal| explain(&self.path, &refusal))? {
                return Err(silent(&self.path, patience.as_secs_f64()));
            }
            // None where the driver was mistaken.
            if let Some(filled) = self.dequeued().map_err(|refusal| explain(&self.path, &refusal))? {
                return Ok(filled);
            }
        }
    }

    /// The first filled buffer, or the last where the newest is wanted.
    fn dequeued(&mut self) -> Result<Option<Filled>, Refusal> {
        let Some(mut filled) = self.driver.dequeue()? else { return Ok(None) };
        self.sequence.saw(filled.sequence);
        // No more than there are buffers: a driver may be quicker than this loop.
        for _ in 1..if self.options.newest { BUFFERS } else { 1 } {
            let Some(newer) = self.driver.dequeue()? else { break };
            self.sequence.saw(newer.sequence);
            self.driver.enqueue(filled.index)?;
            self.options.passed_over.fetch_add(1, Ordering::Relaxed);
            filled = newer;
        }
        Ok(Some(filled))
    }

    /// Brings a buffer's frame into `room`: what is wrong with it, if something is.
    fn copy(&self, filled: &Filled, room: &mut dyn Room) -> Result<Result<(), String>> {
        if filled.damaged {
            return Ok(Err("the driver says that it is damaged".to_owned()));
        }
        let all = self.driver.bytes(filled.index);
        let bytes = &all[..filled.bytes.min(all.len())];
        match self.chosen.content {
            Content::Pixels(format) => self.copy_rows(bytes, format, room),
            Content::Jpeg => self.copy_jpeg(bytes, room),
        }
    }

    fn copy_rows(&self, bytes: &[u8], format: Format, room: &mut dyn Room) -> Result<Result<(), String>> {
        let layout = match Layout::of(&self.chosen) {
            Ok(layout) if layout.bytes <= bytes.len() => layout,
            Ok(layout) => return Ok(Err(format!("{} bytes of {}", bytes.len(), layout.bytes))),
            Err(what) => return Ok(Err(what)),
        };
        let (width, height) = (self.chosen.pix.width as usize, self.chosen.pix.height as usize);
        layout.copy(bytes, room.frame(format, width, height)?);
        Ok(Ok(()))
    }

    fn copy_jpeg(&self, bytes: &[u8], room: &mut dyn Room) -> Result<Result<(), String>> {
        match decode::decode_from(Path::new("JPEG"), bytes, self.options.max_pixels) {
            Ok(photo) => {
                room.frame(Format::Rgb8, photo.width, photo.height)?.copy_from_slice(&photo.rgb);
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    fn stamp(&mut self, filled: &Filled) -> i64 {
        if self.ahead.1.elapsed() >= CLOCKS_AGAIN {
            self.ahead = (self.driver.ahead(), Instant::now());
        }
        filled.taken.map_or_else(now, |taken| taken.saturating_add(self.ahead.0))
    }
}

impl Source for Camera {
    fn describe(&self) -> String {
        let Chosen { content, pix, rate } = &self.chosen;
        let (path, card) = (self.path.display(), self.driver.card());
        let rate = rate.map_or(String::new(), |rate| format!(" at {rate} frames a second"));
        format!("{path} ({card}): {content}, {}×{}{rate}", pix.width, pix.height)
    }

    fn is_live(&self) -> bool {
        true
    }

    /// # Errors
    /// [`Error::Video`]: unplugged, or silent for longer than it may be; those of `room`.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next> {
        let filled = self.filled()?;
        let copied = self.copy(&filled, room);
        // First of all, whatever came of it.
        self.driver.enqueue(filled.index).map_err(|refusal| explain(&self.path, &refusal))?;
        match copied? {
            Ok(()) => Ok(Next::Frame(Frame { stamp: self.stamp(&filled), missed: self.sequence.missed() })),
            Err(what) => {
                let (path, sequence) = (self.path.display(), filled.sequence);
                Ok(Next::Corrupt(format!("{path}: frame {sequence} of the driver's count: {what}")))
            }
        }
    }
}

/// The driver's count of frames.
#[derive(Default)]
struct Sequence {
    last: Option<u32>,
    /// Not told yet.
    missed: u64,
}

impl Sequence {
    fn saw(&mut self, sequence: u32) {
        let step = self.last.map_or(1, |last| sequence.wrapping_sub(last));
        // A count that stands still or begins again says nothing.
        if step > 0 && step < u32::MAX / 2 {
            self.missed += u64::from(step - 1);
        }
        self.last = Some(sequence);
    }

    /// Frames that were lost since it was last asked.
    fn missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

/// Where a frame's rows are in a buffer: planes follow each other, their rows are as far apart as those of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    planes: [PlaneSize; 2],
    /// From a row to the next, in bytes.
    pitch: usize,
    /// From the first byte to the last.
    bytes: usize,
}

impl Layout {
    /// Nothing of a JPEG, which has no rows.
    fn of(chosen: &Chosen) -> Result<Layout, String> {
        let Content::Pixels(format) = chosen.content else {
            return Ok(Layout { planes: [PlaneSize::default(); 2], pitch: 0, bytes: 0 });
        };
        let (width, height) = (chosen.pix.width as usize, chosen.pix.height as usize);
        let planes = format.planes(width, height).ok_or_else(|| format!("{width}×{height} is larger than memory"))?;
        let widest = planes.iter().map(|plane| plane.row).max().unwrap_or_default();
        let pitch = match chosen.pix.bytesperline as usize {
            // Of drivers that leave it unsaid.
            0 => widest,
            pitch => pitch,
        };
        let rows: usize = planes.iter().map(|plane| plane.rows).sum();
        let last = planes.iter().rfind(|plane| plane.rows > 0).map_or(0, |plane| plane.row);
        if pitch < widest {
            return Err(format!("its driver has {pitch} bytes from row to row: a row takes {widest}"));
        }
        let bytes = (rows - 1).checked_mul(pitch).and_then(|before| before.checked_add(last));
        let bytes = bytes.ok_or_else(|| format!("{width}×{height} is larger than memory"))?;
        Ok(Layout { planes: [planes[0], planes[1]], pitch, bytes })
    }

    fn copy(&self, from: &[u8], to: &mut [u8]) {
        let (mut start, mut rest) = (0, to);
        for PlaneSize { row, rows } in self.planes {
            for _ in 0..rows {
                let (room, behind) = rest.split_at_mut(row);
                room.copy_from_slice(&from[start..start + row]);
                (start, rest) = (start + self.pitch, behind);
            }
        }
    }
}

#[cfg(test)]
mod tests;
