//! A PNG's pixels, compressed as they come.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Bytes that are worth a call to the compressor, which costs as much as some thousands of them.
pub const BLOCK: usize = 1 << 16;

/// How a row is filtered: the first byte of each.
pub const PLAIN: u8 = 0;
/// Each byte less the one above it.
pub const LESS_ABOVE: u8 = 2;

/// Where the pixels of a PNG go whose head has been written: rows, each behind the byte that names its filter.
pub fn idat<W: Write>(writer: &mut png::Writer<W>, compression: Compression) -> ZlibEncoder<Idat<'_, W>> {
    ZlibEncoder::new(Idat(writer), compression)
}

/// Makes a chunk of whatever is written to it: 32 KB, as the compressor gives it.
pub struct Idat<'a, W: Write>(&'a mut png::Writer<W>);

impl<W: Write> Write for Idat<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_chunk(png::chunk::IDAT, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
