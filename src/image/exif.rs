//! The directories of a TIFF file, and of an EXIF block, which is one: tags with their values.
//!
//! By hand, not by kamadak-exif: one entry of a photo is asked for, the orientation, and the same directories answer what the crate
//! tiff does not say about its files; each read is bounded.

/// A TIFF file's header: byte order, classic or BigTIFF, where its first directory is.
#[derive(Clone, Copy)]
pub(super) struct Tiff<'a> {
    bytes: &'a [u8],
    little_endian: bool,
    big: bool,
    pub first: u64,
}

/// One directory's entries.
#[derive(Clone, Copy)]
pub(super) struct Directory<'a> {
    tiff: Tiff<'a>,
    /// Where the entries start, and how many there are.
    start: usize,
    count: usize,
}

/// The EXIF orientation, from 1 to 8, of an EXIF block. The signature that JPEG has before the block is allowed.
pub(super) fn orientation(mut block: &[u8]) -> Option<u8> {
    while let Some(rest) = block.strip_prefix(b"Exif\0\0") {
        block = rest;
    }
    let tiff = Tiff::read(block)?;
    tiff.directory(tiff.first)?.orientation()
}

impl<'a> Tiff<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let little_endian = match bytes.first_chunk()? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let mut tiff = Tiff { bytes, little_endian, big: false, first: 0 };
        tiff.big = match tiff.number(2, 2)? {
            42 => false,
            // BigTIFF: offsets of 8 bytes.
            43 if tiff.number(4, 2)? == 8 => true,
            _ => return None,
        };
        tiff.first = if tiff.big { tiff.number(8, 8)? } else { tiff.number(4, 4)? };
        Some(tiff)
    }

    pub(super) fn directory(self, at: u64) -> Option<Directory<'a>> {
        let at = usize::try_from(at).ok().filter(|&at| at > 0)?;
        let width = if self.big { 8 } else { 2 };
        let count = usize::try_from(self.number(at, width)?).ok()?;
        let directory = Directory { tiff: self, start: at + width, count };
        // An entry's place cannot overflow after this.
        (count <= self.bytes.len() / directory.entry_size()).then_some(directory)
    }

    /// The unsigned number of `width` bytes at `at`.
    fn number(self, at: usize, width: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(width)?)?;
        let join = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        Some(if self.little_endian { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) })
    }
}

impl Directory<'_> {
    fn entry_size(self) -> usize {
        if self.tiff.big { 20 } else { 12 }
    }

    /// The place of `tag`'s entry, all of which is in the file.
    pub(super) fn entry(self, tag: u16) -> Option<usize> {
        let entries = self.tiff.bytes.get(self.start..)?.chunks_exact(self.entry_size()).take(self.count);
        let places = entries.enumerate().map(|(index, _)| self.start + index * self.entry_size());
        places.into_iter().find(|&entry| self.tiff.number(entry, 2) == Some(tag.into()))
    }

    /// A tag's values, where they are integers; negative ones are left out.
    pub(super) fn integers(self, tag: u16) -> Option<Vec<u64>> {
        let entry = self.entry(tag)?;
        let (width, signed) = match self.tiff.number(entry + 2, 2)? {
            1 => (1, false),       // BYTE
            3 => (2, false),       // SHORT
            4 | 13 => (4, false),  // LONG, IFD
            16 | 18 => (8, false), // LONG8, IFD8
            6 => (1, true),        // SBYTE
            8 => (2, true),        // SSHORT
            9 => (4, true),        // SLONG
            17 => (8, true),       // SLONG8
            _ => return None,
        };
        let offset = if self.tiff.big { 8 } else { 4 };
        let count = usize::try_from(self.tiff.number(entry + 4, offset)?).ok()?;
        let value = entry + 4 + offset;
        let len = count.checked_mul(width)?;
        let start = if len <= offset { value } else { usize::try_from(self.tiff.number(value, offset)?).ok()? };
        // Nothing is made for values that the file does not have.
        self.tiff.bytes.get(start..start.checked_add(len)?)?;
        let values = (0..count).filter_map(|index| self.tiff.number(start + index * width, width));
        Some(values.filter(|value| !signed || value >> (8 * width - 1) == 0).collect())
    }

    /// Where `tag`'s entry is, and the bytes of one with `value` in its place.
    pub(super) fn with_value(self, tag: u16, value: u32) -> Option<(usize, Vec<u8>)> {
        const LONG: u64 = 4;
        let number = |value: u64, width: usize| {
            if self.tiff.little_endian {
                value.to_le_bytes()[..width].to_vec()
            } else {
                value.to_be_bytes()[8 - width..].to_vec()
            }
        };
        let count = number(1, self.entry_size() / 2 - 2);
        let mut entry = [number(tag.into(), 2), number(LONG, 2), count, number(value.into(), 4)].concat();
        entry.resize(self.entry_size(), 0);
        Some((self.entry(tag)?, entry))
    }

    /// A tag's first value, where it is an integer that is not negative.
    pub(super) fn integer(self, tag: u16) -> Option<u64> {
        self.integers(tag)?.first().copied()
    }

    /// The tag Orientation, where it is from 1 to 8.
    pub(super) fn orientation(self) -> Option<u8> {
        const ORIENTATION: u16 = 274;
        self.integer(ORIENTATION).filter(|value| (1..=8).contains(value)).map(|value| value as u8)
    }

    /// Where the next directory is.
    pub(super) fn next(self) -> Option<u64> {
        let end = self.start + self.count * self.entry_size();
        self.tiff.number(end, if self.tiff.big { 8 } else { 4 }).filter(|&at| at > 0)
    }
}
