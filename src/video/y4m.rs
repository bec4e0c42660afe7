//! YUV4MPEG2, as `ffmpeg -f yuv4mpegpipe` and mjpegtools write it: a line that says what follows, then frames with a line each.

mod header;

use std::io::{self, Read};

use self::header::{Header, MOST_LINE};
use super::rate::{Rate, Stamps};
use super::{Frame, Next, Room, Source, pipe};
use crate::error::{Error, Result};
use crate::pixels::{Format, YuvMatrix};
use crate::termination::try_reserve;

/// What each frame begins with.
const FRAME: &[u8; 6] = b"FRAME\n";

/// What there is to say about a stream that its header does not.
#[derive(Clone, Copy, Debug)]
pub struct Y4mOptions {
    /// Pixels of a frame at most: a header can claim any size.
    pub max_pixels: u64,
    /// Of which colours luma is made. YUV4MPEG2 does not say.
    pub matrix: YuvMatrix,
    /// Whether frames come as they are taken, and their stamps are the time of day in which they came.
    pub live: bool,
}

impl Default for Y4mOptions {
    fn default() -> Y4mOptions {
        Y4mOptions { max_pixels: super::DEFAULT_MAX_PIXELS, matrix: YuvMatrix::Bt601, live: false }
    }
}

/// The frames of a YUV4MPEG2 stream: 8-bit 4:2:0, of which NV12 is made by laying the two planes of chroma into one, or grey.
pub struct Y4m<R> {
    reader: R,
    /// For people: a file's name, "standard input".
    name: String,
    header: Header,
    format: Format,
    stamps: Stamps,
    /// Both planes of chroma, one behind the other.
    chroma: Vec<u8>,
    /// Whole frames so far.
    index: u64,
    /// Bytes read so far.
    offset: u64,
    /// The line of the next frame was read, the frame was not.
    in_frame: bool,
    ended: bool,
}

impl<R: Read + Send> Y4m<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::Video`]: no YUV4MPEG2, a size, rate or layout that is not taken, or nothing can be read.
    pub fn new(mut reader: R, name: &str, options: Y4mOptions) -> Result<Y4m<R>> {
        let wrong = |what: String| Error::Video(format!("{name}: {what}"));
        let mut line = Vec::new();
        let whole = pipe::line(&mut reader, MOST_LINE, &mut line).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let header = Header::parse(&line, whole.is_some(), options.max_pixels).map_err(wrong)?;
        let format = header.format(options.matrix);
        let mut chroma = Vec::new();
        let bytes = header.chroma_bytes();
        try_reserve(&mut chroma, bytes).map_err(|_| Error::Memory(format!("{name}: {bytes} bytes for its chroma")))?;
        chroma.resize(bytes, 0);
        let stamps = Stamps::new(options.live, Some(header.rate));
        let offset = line.len() as u64 + 1;
        let name = name.to_owned();
        Ok(Y4m { reader, name, header, format, stamps, chroma, index: 0, offset, in_frame: false, ended: false })
    }

    /// Frames a second, as the header says.
    pub fn rate(&self) -> Rate {
        self.header.rate
    }

    /// Reads the line that begins a frame; whether there is one.
    fn begin(&mut self) -> Result<bool, Stop> {
        let at = self.offset;
        let mut start = [0; FRAME.len()];
        let count = self.fill(&mut start)?;
        let (expected, end) = FRAME.split_at(FRAME.len() - 1);
        if count == 0 {
            return Ok(false);
        }
        if !start[..count].starts_with(&expected[..count.min(expected.len())]) {
            return Err(Stop::Lost(format!("at byte {at} a frame was expected (FRAME), something else was found")));
        }
        if count < start.len() {
            return Err(Stop::Cut(format!("frame {}: its first line ends after {count} bytes", self.index)));
        }
        match start[expected.len()] {
            last if last == end[0] => Ok(true),
            // Parameters of a frame say how it was interlaced, which this one is not, or are comments.
            b' ' => self.skip_parameters(at).map(|()| true),
            _ => Err(Stop::Lost(format!("at byte {at} a frame was expected (FRAME), something else was found"))),
        }
    }

    fn skip_parameters(&mut self, at: u64) -> Result<(), Stop> {
        let mut line = Vec::new();
        let whole = pipe::line(&mut self.reader, MOST_LINE, &mut line).map_err(Stop::Io)?;
        self.offset += line.len() as u64 + u64::from(whole.is_some());
        match whole {
            None => Err(Stop::Cut(format!("frame {}: its first line does not end", self.index))),
            Some(()) if line.len() > MOST_LINE => {
                Err(Stop::Lost(format!("the line at byte {at} is longer than {MOST_LINE} bytes")))
            }
            Some(()) => Ok(()),
        }
    }

    fn fill(&mut self, room: &mut [u8]) -> Result<usize, Stop> {
        let count = pipe::fill(&mut self.reader, room).map_err(Stop::Io)?;
        self.offset += count as u64;
        Ok(count)
    }

    /// Reads a frame's planes into `room`.
    fn planes(&mut self, room: &mut [u8]) -> Result<i64, Stop> {
        let luma = self.header.luma_bytes();
        let first = pipe::some(&mut self.reader, &mut room[..luma]).map_err(Stop::Io)?;
        let stamp = self.stamps.next(self.index);
        let mut chroma = std::mem::take(&mut self.chroma);
        let count = self.fill_planes(&mut room[first..luma], &mut chroma, first);
        interleave(&chroma, &mut room[luma..]);
        self.chroma = chroma;
        let (count, whole) = (count?, self.header.frame_bytes());
        if count < whole {
            let missing = whole - count;
            return Err(Stop::Cut(format!("frame {}: {missing} of its {whole} bytes are missing", self.index)));
        }
        Ok(stamp)
    }

    /// The rest of luma and all chroma, behind `first` bytes; how many came in all.
    fn fill_planes(&mut self, luma: &mut [u8], chroma: &mut [u8], first: usize) -> Result<usize, Stop> {
        self.offset += first as u64;
        if first == 0 {
            return Ok(0);
        }
        let count = first + self.fill(luma)?;
        Ok(count + self.fill(chroma)?)
    }

    fn frame(&mut self, room: &mut dyn Room) -> Result<Next, Stop> {
        if !self.in_frame && !self.begin()? {
            self.ended = true;
            return Ok(Next::End);
        }
        self.in_frame = true;
        let bytes = room.frame(self.format, self.header.width, self.header.height).map_err(Stop::Room)?;
        let stamp = self.planes(bytes)?;
        self.in_frame = false;
        self.index += 1;
        Ok(Next::Frame(Frame { stamp, missed: 0 }))
    }
}

/// Why there is no frame.
enum Stop {
    Io(io::Error),
    /// Where frames are is not known any more.
    Lost(String),
    /// The stream ends in the middle of one.
    Cut(String),
    /// Of who wanted it: it may be asked for again.
    Room(Error),
}

impl<R: Read + Send> Source for Y4m<R> {
    fn describe(&self) -> String {
        let Header { width, height, rate, .. } = self.header;
        format!("{}: {}, {width}×{height} at {rate} frames a second", self.name, self.format)
    }

    fn is_live(&self) -> bool {
        self.stamps.is_live()
    }

    fn rate(&self) -> Option<Rate> {
        Some(self.header.rate)
    }

    /// A stream that ends within a frame gives [`Next::Corrupt`], then [`Next::End`].
    ///
    /// # Errors
    /// [`Error::Video`] where something else than a frame follows, or nothing can be read. After it there is only the end.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        let stop = match self.frame(room) {
            Ok(next) => return Ok(next),
            Err(Stop::Room(error)) => return Err(error),
            Err(stop) => stop,
        };
        self.ended = true;
        let name = &self.name;
        match stop {
            Stop::Cut(what) => Ok(Next::Corrupt(format!("{name}: {what}: the stream was cut off"))),
            Stop::Lost(what) => Err(Error::Video(format!("{name}: {what}; frames behind it cannot be found"))),
            Stop::Io(error) => Err(Error::Video(format!("{name}: cannot be read: {error}"))),
            Stop::Room(error) => Err(error),
        }
    }
}

/// Cb and Cr, a plane each, as NV12 has them: side by side.
fn interleave(planes: &[u8], pairs: &mut [u8]) {
    let (blue, red) = planes.split_at(planes.len() / 2);
    for ((pair, blue), red) in pairs.chunks_exact_mut(2).zip(blue).zip(red) {
        pair.copy_from_slice(&[*blue, *red]);
    }
}

#[cfg(test)]
mod tests;
