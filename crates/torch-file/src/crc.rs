//! The zip's CRC-32 of a storage, compared once by who reads the storage first: beside the reading where that is of all
//! of it, in a pass of its own where a tensor is only a part.

use std::sync::OnceLock;

use crc32fast::Hasher;

use crate::Result;
use crate::layout::{CHUNK, Extent};
use crate::printable::shortened;
use crate::source::Source;

/// A storage with its checksum.
#[derive(Debug)]
pub(crate) struct Summed {
    extent: Extent,
    expected: u32,
    /// The first tensor that lies in it, for messages.
    tensor: String,
    /// What its bytes have: once it is known, right or wrong, nobody reads them for it again.
    found: OnceLock<u32>,
}

impl Summed {
    pub fn new(extent: Extent, expected: u32, tensor: &str) -> Self {
        Summed { extent, expected, tensor: tensor.to_owned(), found: OnceLock::new() }
    }

    /// A sum for who is about to read `len` bytes from `offset`, if these are all of the storage and it was not compared
    /// before. Where they are a part, all is read here.
    fn begin(&self, source: &Source, offset: u64, len: u64) -> Result<Option<Hasher>> {
        if let Some(&found) = self.found.get() {
            self.compare(source, found)?;
            return Ok(None);
        }
        let mut sum = Hasher::new();
        if (offset, len) == (self.extent.offset, self.extent.len) {
            return Ok(Some(sum));
        }
        let mut chunk = vec![0; self.extent.len.min(CHUNK as u64) as usize];
        let mut at = 0;
        while at < self.extent.len {
            let part = (self.extent.len - at).min(CHUNK as u64) as usize;
            source.read_at(self.extent.offset + at, &mut chunk[..part])?;
            sum.update(&chunk[..part]);
            at += part as u64;
        }
        self.end(source, sum)?;
        Ok(None)
    }

    fn end(&self, source: &Source, sum: Hasher) -> Result<()> {
        self.compare(source, *self.found.get_or_init(|| sum.finalize()))
    }

    fn compare(&self, source: &Source, found: u32) -> Result<()> {
        if found != self.expected {
            return Err(source.damaged(format!(
                "tensor {}: its bytes have the checksum {:08x}, {:08x} is expected; the file is damaged: copy or download it \
                 again",
                shortened(&self.tensor),
                found,
                self.expected
            )));
        }
        Ok(())
    }
}

/// Reads a part of the file from its start to its end, and compares the checksum of the storage that it lies in.
pub(crate) struct Reading<'a> {
    source: &'a Source,
    at: u64,
    sum: Option<(Hasher, &'a Summed)>,
}

impl<'a> Reading<'a> {
    /// Of `len` bytes from `offset`, in a storage that may have a checksum.
    pub fn new(source: &'a Source, offset: u64, len: u64, summed: Option<&'a Summed>) -> Result<Self> {
        let mut sum = None;
        if let Some(summed) = summed {
            sum = summed.begin(source, offset, len)?.map(|sum| (sum, summed));
        }
        Ok(Reading { source, at: offset, sum })
    }

    /// Fills `buffer` with the next bytes.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.source.read_at(self.at, buffer)?;
        self.at += buffer.len() as u64;
        if let Some((sum, _)) = &mut self.sum {
            sum.update(buffer);
        }
        Ok(())
    }

    /// To be called once all bytes were read.
    pub fn end(self) -> Result<()> {
        self.sum.map_or(Ok(()), |(sum, summed)| summed.end(self.source, sum))
    }
}
