//! Frames without any header, one behind the other: their format and size are said by who opens them.

use std::io::Read;

use super::rate::{Rate, Stamps};
use super::{Frame, Next, Room, Source, check_size, pipe};
use crate::error::{Error, Result};
use crate::pixels::Format;

/// What is known of frames that have no header.
#[derive(Clone, Copy, Debug)]
pub struct RawOptions {
    /// How their bytes are pixels.
    pub format: Format,
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Frames a second: their stamps, of what is not live. Without it the moment in which they came is theirs.
    pub rate: Option<Rate>,
    /// Whether frames come as they are taken, and their stamps are the time of day in which they came.
    pub live: bool,
    /// Pixels of a frame at most.
    pub max_pixels: u64,
}

/// Frames of one format and size, [`Format::bytes`] bytes each.
pub struct Raw<R> {
    reader: R,
    name: String,
    options: RawOptions,
    stamps: Stamps,
    /// Whole frames so far.
    index: u64,
    ended: bool,
}

impl<R: Read + Send> Raw<R> {
    /// Nothing is read yet. For people the reader is called `name`.
    ///
    /// # Errors
    /// [`Error::Video`] for a size that no frame has, or more pixels than allowed.
    pub fn new(reader: R, name: &str, options: RawOptions) -> Result<Raw<R>> {
        check_size(options.width as u64, options.height as u64, options.max_pixels)
            .map_err(|what| Error::Video(format!("{name}: {what}")))?;
        let stamps = Stamps::new(options.live, options.rate);
        Ok(Raw { reader, name: name.to_owned(), options, stamps, index: 0, ended: false })
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<(usize, i64)> {
        let first = pipe::some(&mut self.reader, bytes)?;
        if first == 0 {
            return Ok((0, 0));
        }
        let stamp = self.stamps.next(self.index);
        Ok((first + pipe::fill(&mut self.reader, &mut bytes[first..])?, stamp))
    }
}

impl<R: Read + Send> Source for Raw<R> {
    fn describe(&self) -> String {
        let RawOptions { format, width, height, rate, .. } = self.options;
        let rate = rate.map_or(String::new(), |rate| format!(" at {rate} frames a second"));
        format!("{}: {format}, {width}×{height}{rate}", self.name)
    }

    fn is_live(&self) -> bool {
        self.stamps.is_live()
    }

    fn rate(&self) -> Option<Rate> {
        self.options.rate
    }

    /// What ends within a frame gives [`Next::Corrupt`], then [`Next::End`].
    ///
    /// # Errors
    /// [`Error::Video`] where nothing can be read; after it there is only the end.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        let RawOptions { format, width, height, .. } = self.options;
        let bytes = room.frame(format, width, height)?;
        let need = bytes.len();
        let (count, stamp) = self.read(bytes).map_err(|error| {
            self.ended = true;
            Error::Video(format!("{}: cannot be read: {error}", self.name))
        })?;
        if count == need {
            self.index += 1;
            return Ok(Next::Frame(Frame { stamp, missed: 0 }));
        }
        self.ended = true;
        let (name, index, missing) = (&self.name, self.index, need - count);
        Ok(match count {
            0 => Next::End,
            _ => Next::Corrupt(format!(
                "{name}: frame {index}: {missing} of its {need} bytes are missing: the stream was cut off, or its frames are not \
                 {format} of {width}×{height}"
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;
    use crate::video::DEFAULT_MAX_PIXELS;
    use crate::video::pipe::tests::Dripping;

    const OPTIONS: RawOptions = RawOptions {
        format: Format::Rgb8,
        width: 2,
        height: 1,
        rate: None,
        live: false,
        max_pixels: DEFAULT_MAX_PIXELS,
    };

    #[test]
    fn frames_come_as_they_are_and_a_cut_one_is_told() {
        let bytes: Vec<u8> = (0..15).collect();
        let options = RawOptions { rate: Rate::new(25, 1), ..OPTIONS };
        for drop in 1..8 {
            let reader = Dripping { bytes: &bytes, drop, interrupted: false };
            let mut source = Raw::new(reader, "a pipe", options).unwrap();
            assert_eq!(source.describe(), "a pipe: rgb8, 2×1 at 25 frames a second");
            let mut room = Memory::default();
            assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(Frame { stamp: 0, missed: 0 })));
            assert_eq!(room.bytes, [0, 1, 2, 3, 4, 5]);
            assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(Frame { stamp: 40_000_000, missed: 0 })));
            assert_eq!(room.bytes, [6, 7, 8, 9, 10, 11]);
            let Next::Corrupt(what) = source.next(&mut room).unwrap() else { panic!("it is cut") };
            assert!(what.contains("frame 2: 3 of its 6 bytes are missing"), "{what}");
            assert!(matches!(source.next(&mut room).unwrap(), Next::End));
        }
    }

    #[test]
    fn without_a_rate_frames_have_the_time_of_their_coming() {
        let mut room = Memory::default();
        let mut source = Raw::new(&[0; 12][..], "x", OPTIONS).unwrap();
        assert_eq!((source.describe().as_str(), source.is_live()), ("x: rgb8, 2×1", false));
        let mut stamp = || match source.next(&mut room).unwrap() {
            Next::Frame(frame) => frame.stamp,
            other => panic!("{other:?}"),
        };
        let first = stamp();
        assert!((0..1_000_000_000).contains(&first));
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(stamp() >= first + 3_000_000);

        let live = RawOptions { live: true, rate: Rate::new(25, 1), ..OPTIONS };
        let mut source = Raw::new(&[0; 12][..], "x", live).unwrap();
        assert!(source.is_live());
        let before = crate::video::rate::now();
        let Next::Frame(frame) = source.next(&mut room).unwrap() else { panic!("there is a frame") };
        assert!((before..=crate::video::rate::now()).contains(&frame.stamp));
    }

    #[test]
    fn sizes_that_no_frame_has_are_refused() {
        let refused = |width, height, max_pixels| {
            let error = Raw::new(&[][..], "x", RawOptions { width, height, max_pixels, ..OPTIONS }).err().unwrap();
            error.to_string()
        };
        assert!(refused(0, 4, 100).contains("0×4 pixels"));
        assert!(refused(11, 10, 100).contains("11×10 is 110 pixels, more than the 100 allowed"));
        assert!(refused(usize::MAX, usize::MAX, u64::MAX).contains("more than the"));
    }

    #[test]
    fn a_frame_that_had_no_room_is_there_when_it_is_asked_for_again() {
        let mut source = Raw::new(&[1, 2, 3, 4, 5, 6][..], "x", OPTIONS).unwrap();
        let mut room = Memory { refuse: 1, ..Memory::default() };
        assert!(matches!(source.next(&mut room), Err(Error::Memory(_))));
        assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
        assert_eq!(room.bytes, [1, 2, 3, 4, 5, 6]);
        assert!(matches!(source.next(&mut room).unwrap(), Next::End));
    }
}
