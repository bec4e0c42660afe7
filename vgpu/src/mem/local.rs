//! Local memory of a warp's threads: each its own bytes, nobody else's.

use super::lines::lanes;
use super::words::{mark_undefined, misaligned, undefined_bytes};
use super::{LOCAL_START, Request, Words};
use crate::fault::{BadAccess, Check};

pub struct LocalMemory {
    /// Bytes a lane, as 16-byte lines; lane l's are at l × `lines`.
    bytes: usize,
    lines: usize,
    data: Vec<[u32; 4]>,
    /// A bit for every byte of a line: written.
    defined: Vec<u16>,
}

impl LocalMemory {
    /// `bytes` for each of 32 lanes, uninitialised.
    pub fn new(bytes: usize) -> LocalMemory {
        let lines = bytes.div_ceil(16);
        LocalMemory { bytes, lines, data: vec![[0; 4]; 32 * lines], defined: vec![0; 32 * lines] }
    }

    pub fn reset(&mut self) {
        self.defined.fill(0);
    }

    pub fn load(&self, r: &Request<'_>, into: &mut Words) -> Result<(), BadAccess> {
        self.check(r)?;
        for lane in lanes(r.mask) {
            let (line, first) = self.place(r, lane);
            let words = &self.data[line];
            if r.bytes < 4 {
                let keep = u32::MAX >> (32 - 8 * r.bytes);
                into.bits[0][lane] = words[first / 4] >> (8 * (first % 4)) & keep;
            } else {
                for (word, value) in words[first / 4..][..r.bytes / 4].iter().enumerate() {
                    into.bits[word][lane] = *value;
                }
            }
        }
        mark_undefined(r, r.mask, false, into, |lane| {
            let (line, first) = self.place(r, lane);
            !self.defined[line] >> first
        });
        Ok(())
    }

    pub fn store(&mut self, r: &Request<'_>, from: &Words) -> Result<(), BadAccess> {
        self.check(r)?;
        for lane in lanes(r.mask) {
            let (line, first) = self.place(r, lane);
            let words = &mut self.data[line];
            if r.bytes < 4 {
                let (shift, keep) = (8 * (first % 4), u32::MAX >> (32 - 8 * r.bytes));
                let word = &mut words[first / 4];
                *word = *word & !(keep << shift) | (from.bits[0][lane] & keep) << shift;
            } else {
                for (word, value) in words[first / 4..][..r.bytes / 4].iter_mut().enumerate() {
                    *value = from.bits[word][lane];
                }
            }
            let bytes = super::words::part_mask(r.bytes);
            let undefined = undefined_bytes(r.bytes, lane, from);
            self.defined[line] = self.defined[line] & !(bytes << first) | (bytes & !undefined) << first;
        }
        Ok(())
    }

    /// The line of a lane's address, and the byte in it.
    fn place(&self, r: &Request<'_>, lane: usize) -> (usize, usize) {
        let offset = (r.addresses[lane] - LOCAL_START) as usize;
        (lane * self.lines + offset / 16, offset % 16)
    }

    fn check(&self, r: &Request<'_>) -> Result<(), BadAccess> {
        misaligned(r)?;
        let last = (self.bytes as u64).checked_sub(r.bytes as u64);
        let is_inside = |address: u64| last.is_some_and(|last| address.wrapping_sub(LOCAL_START) <= last);
        let outside =
            lanes(r.mask).filter(|&lane| !is_inside(r.addresses[lane])).fold(0u32, |mask, lane| mask | 1 << lane);
        if outside == 0 {
            return Ok(());
        }
        let address = r.addresses[outside.trailing_zeros() as usize];
        let detail =
            format!("{} bytes at {address:#x}, outside the thread's {} bytes of local memory", r.bytes, self.bytes);
        Err(BadAccess { check: Check::OutOfBounds, lanes: outside, address: Some(address), detail, other: None })
    }
}
