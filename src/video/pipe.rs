//! Bytes out of a pipe: as many as a frame has, or as many as there are.

use std::io::{self, ErrorKind, Read};

/// Reads until `room` is full or nothing more comes; how many bytes came.
pub(super) fn fill(reader: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match some(reader, &mut room[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Waits for the first bytes; how many came, 0 at the end.
pub(super) fn some(reader: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(room) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// A line without its end, of at most `limit` bytes. `None` where nothing more comes before it; what came is in `line`.
pub(super) fn line(reader: &mut dyn Read, limit: usize, line: &mut Vec<u8>) -> io::Result<Option<()>> {
    line.clear();
    let mut byte = [0];
    while line.len() <= limit {
        if some(reader, &mut byte)? == 0 {
            return Ok(None);
        }
        if byte == *b"\n" {
            return Ok(Some(()));
        }
        line.push(byte[0]);
    }
    Ok(Some(()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A reader that gives few bytes at a time, as pipes do, and is interrupted between them.
    pub struct Dripping<'a> {
        pub bytes: &'a [u8],
        pub drop: usize,
        pub interrupted: bool,
    }

    impl Read for Dripping<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = self.drop.min(room.len()).min(self.bytes.len());
            let (now, later) = self.bytes.split_at(count);
            room[..count].copy_from_slice(now);
            self.bytes = later;
            Ok(count)
        }
    }

    #[test]
    fn a_frame_that_comes_in_drops_is_filled() {
        for drop in 1..6 {
            let mut reader = Dripping { bytes: b"abcdefg", drop, interrupted: false };
            let mut room = [0; 4];
            assert_eq!(fill(&mut reader, &mut room).unwrap(), 4);
            assert_eq!(&room, b"abcd");
            assert_eq!(fill(&mut reader, &mut room).unwrap(), 3);
            assert_eq!(fill(&mut reader, &mut room).unwrap(), 0);
        }
    }

    #[test]
    fn a_line_ends_at_its_end_at_the_limit_or_where_nothing_comes() {
        let mut bytes: &[u8] = b"ab\ncdefgh\nij";
        let mut text = Vec::new();
        assert!(line(&mut bytes, 4, &mut text).unwrap().is_some());
        assert_eq!(text, b"ab");
        assert!(line(&mut bytes, 4, &mut text).unwrap().is_some());
        assert_eq!(text, b"cdefg");
        let mut bytes: &[u8] = b"ij";
        assert!(line(&mut bytes, 4, &mut text).unwrap().is_none());
        assert_eq!(text, b"ij");
    }
}
