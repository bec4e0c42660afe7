//! One allocation of device memory: its bytes and their shadow. The host's memory is committed as it is touched.

use super::blocks::Shadow;
use super::lines::{LINE, is_contiguous, lanes};
use super::words::part_mask;
use super::{Request, Words};
use bytemuck::{Zeroable, try_zeroed_slice_box};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// What uninitialised bytes look like to the host.
const POISON: u8 = 0xcd;

pub(super) struct Allocation {
    pub start: u64,
    pub bytes: usize,
    lines: Box<[Line]>,
}

/// A line with its shadow: what one access needs lies in half a line of the host's cache.
#[derive(Zeroable)]
#[repr(C, align(32))]
struct Line {
    /// The bytes, little endian. Relaxed atomics: blocks that race are reported, not undefined behaviour of the host.
    words: [AtomicU32; 4],
    /// Who touched it in the launch at hand: see [`super::blocks`] and [`super::order`].
    record: AtomicU64,
    /// Of the first line of a 32-byte sector: the launch (its tag) that loaded from the sector last, in the low half, and
    /// that stored to it.
    sector: AtomicU32,
    /// A bit for every byte: written since the allocation.
    defined: AtomicU16,
    /// Of the record's access that decided it last: see [`super::blocks::Shadow`].
    place: AtomicU16,
}

impl Allocation {
    /// `None` when the host has no memory for it.
    pub fn new(start: u64, bytes: usize) -> Option<Allocation> {
        let lines = bytes.div_ceil(LINE as usize);
        Some(Allocation { start, bytes, lines: zeroed(lines)? })
    }

    pub fn shadow(&self, line: usize) -> Shadow<'_> {
        let Line { record, place, .. } = &self.lines[line];
        Shadow { record, place }
    }

    pub fn end(&self) -> u64 {
        self.start + self.bytes as u64
    }

    /// `bytes` from `address` on lie inside.
    pub fn holds(&self, address: u64, bytes: usize) -> bool {
        let offset = address.wrapping_sub(self.start);
        offset <= self.bytes as u64 && bytes as u64 <= self.bytes as u64 - offset
    }

    /// Tags begin anew: nothing of earlier launches may be mistaken for a later one's.
    pub fn forget_launches(&self) {
        for line in &self.lines {
            if line.record.load(Relaxed) != 0 {
                line.record.store(0, Relaxed);
            }
            if line.sector.load(Relaxed) != 0 {
                line.sector.store(0, Relaxed);
            }
        }
    }

    /// Marks the line's sector as loaded (or stored) by the launch `tag`; true for the first time.
    pub fn first_touch(&self, line: usize, tag: u16, store: bool) -> bool {
        let sector = &self.lines[line & !1].sector;
        let shift = if store { 16 } else { 0 };
        let is_tagged = |now: u32| (now >> shift) as u16 == tag;
        let mut now = sector.load(Relaxed);
        while !is_tagged(now) {
            let new = now & !(0xffff << shift) | u32::from(tag) << shift;
            match sector.compare_exchange_weak(now, new, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }

    /// The 16 bytes of a line.
    pub fn line(&self, line: usize) -> [u32; 4] {
        let words = &self.lines[line].words;
        [0, 1, 2, 3].map(|i| words[i].load(Relaxed))
    }

    /// The values of the lanes of `mask`, which lie inside and are aligned.
    pub fn load(&self, r: &Request<'_>, mask: u32, into: &mut Words) {
        let offset = |lane: usize| (r.addresses[lane] - self.start) as usize;
        match r.bytes {
            4 if mask == u32::MAX && offset(0).is_multiple_of(16) && is_contiguous(r.addresses, 4) => {
                let lines = &self.lines[offset(0) / 16..][..8];
                for (bits, line) in into.bits[0].as_chunks_mut::<4>().0.iter_mut().zip(lines) {
                    for (bits, word) in bits.iter_mut().zip(&line.words) {
                        *bits = word.load(Relaxed);
                    }
                }
            }
            4 => {
                for lane in lanes(mask) {
                    into.bits[0][lane] = self.word(offset(lane) / 4).load(Relaxed);
                }
            }
            1 | 2 => {
                let keep = u32::MAX >> (32 - 8 * r.bytes);
                for lane in lanes(mask) {
                    let shift = 8 * (offset(lane) % 4);
                    into.bits[0][lane] = self.word(offset(lane) / 4).load(Relaxed) >> shift & keep;
                }
            }
            8 => {
                for lane in lanes(mask) {
                    let word = offset(lane) / 4;
                    let words = &self.lines[word / 4].words;
                    into.bits[0][lane] = words[word % 4].load(Relaxed);
                    into.bits[1][lane] = words[(word % 4) | 1].load(Relaxed);
                }
            }
            _ if mask == u32::MAX && is_contiguous(r.addresses, 16) => {
                for (lane, line) in self.lines[offset(0) / 16..][..32].iter().enumerate() {
                    for (bits, word) in into.bits.iter_mut().zip(&line.words) {
                        bits[lane] = word.load(Relaxed);
                    }
                }
            }
            _ => {
                for lane in lanes(mask) {
                    let words = &self.lines[offset(lane) / 16].words;
                    for (bits, word) in into.bits.iter_mut().zip(words) {
                        bits[lane] = word.load(Relaxed);
                    }
                }
            }
        }
    }

    fn word(&self, place: usize) -> &AtomicU32 {
        &self.lines[place / 4].words[place % 4]
    }

    /// Stores the values of the lanes of `mask`, lowest first; the shadow stays.
    pub fn store(&self, r: &Request<'_>, mask: u32, from: &Words) {
        let word = |lane: usize| (r.addresses[lane] - self.start) as usize / 4;
        match r.bytes {
            1 | 2 => self.store_narrow(r, mask, from),
            bytes => {
                for lane in lanes(mask) {
                    let first = word(lane);
                    let words = &self.lines[first / 4].words[first % 4..];
                    for (word, bits) in words.iter().zip(&from.bits[..bytes / 4]) {
                        word.store(bits[lane], Relaxed);
                    }
                }
            }
        }
    }

    /// Other blocks may store the rest of a word at the same time, so parts of words are exchanged; whole words made of
    /// neighbouring lanes are stored at once.
    fn store_narrow(&self, r: &Request<'_>, mask: u32, from: &Words) {
        let offset = (r.addresses[0].wrapping_sub(self.start)) as usize;
        if mask == u32::MAX && offset.is_multiple_of(4) && is_contiguous(r.addresses, r.bytes as u64) {
            let a_word = 4 / r.bytes;
            for (i, values) in from.bits[0].chunks_exact(a_word).enumerate() {
                let whole =
                    values.iter().rev().fold(0u32, |whole, &value| whole.wrapping_shl(8 * r.bytes as u32) | value);
                self.word(offset / 4 + i).store(whole, Relaxed);
            }
            return;
        }
        let keep = u32::MAX >> (32 - 8 * r.bytes);
        for lane in lanes(mask) {
            let offset = (r.addresses[lane] - self.start) as usize;
            let shift = 8 * (offset % 4);
            let value = from.bits[0][lane] & keep;
            self.exchange(offset / 4, keep << shift, value << shift);
        }
    }

    fn exchange(&self, word: usize, bits: u32, value: u32) {
        let word = self.word(word);
        let mut now = word.load(Relaxed);
        while let Err(other) = word.compare_exchange_weak(now, now & !bits | value, Relaxed, Relaxed) {
            now = other;
        }
    }

    /// One value of 1 to 8 bytes.
    pub fn value(&self, address: u64, bytes: usize) -> u64 {
        let offset = (address - self.start) as usize;
        let low = u64::from(self.word(offset / 4).load(Relaxed));
        match bytes {
            8 => low | u64::from(self.word(offset / 4 + 1).load(Relaxed)) << 32,
            4 => low,
            _ => low >> (8 * (offset % 4)) & ((1 << (8 * bytes)) - 1),
        }
    }

    pub fn set_value(&self, address: u64, bytes: usize, value: u64) {
        let offset = (address - self.start) as usize;
        if bytes < 4 {
            let shift = 8 * (offset % 4);
            let keep = u32::MAX >> (32 - 8 * bytes);
            self.exchange(offset / 4, keep << shift, (value as u32 & keep) << shift);
            return;
        }
        self.word(offset / 4).store(value as u32, Relaxed);
        if bytes == 8 {
            self.word(offset / 4 + 1).store((value >> 32) as u32, Relaxed);
        }
    }

    pub fn is_defined(&self, line: usize, mask: u16) -> bool {
        self.lines[line].defined.load(Relaxed) & mask == mask
    }

    /// A bit for every byte that nothing has written.
    pub fn undefined(&self, line: usize) -> u16 {
        !self.lines[line].defined.load(Relaxed)
    }

    pub fn define(&self, line: usize, mask: u16) {
        let defined = &self.lines[line].defined;
        if mask == 0xffff {
            defined.store(mask, Relaxed);
        } else if defined.load(Relaxed) & mask != mask {
            defined.fetch_or(mask, Relaxed);
        }
    }

    pub fn undefine(&self, line: usize, mask: u16) {
        self.lines[line].defined.fetch_and(!mask, Relaxed);
    }

    /// To the host; the number of uninitialised bytes, which read as [`POISON`].
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let mut undefined = 0;
        let mut done = 0;
        while done < into.len() {
            let at = offset + done;
            let (line, first) = (at / 16, at % 16);
            let part = (16 - first).min(into.len() - done);
            let bytes: [u8; 16] = bytemuck::cast(self.line(line));
            let target = &mut into[done..done + part];
            target.copy_from_slice(&bytes[first..first + part]);
            let defined = self.lines[line].defined.load(Relaxed) >> first;
            if defined & part_mask(part) != part_mask(part) {
                for (i, byte) in target.iter_mut().enumerate() {
                    if defined >> i & 1 == 0 {
                        *byte = POISON;
                        undefined += 1;
                    }
                }
            }
            done += part;
        }
        undefined
    }

    /// From the host.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done;
            let (line, first) = (at / 16, at % 16);
            let part = (16 - first).min(bytes.len() - done);
            self.write_line(line, first, &bytes[done..done + part]);
            self.define(line, part_mask(part) << first);
            done += part;
        }
    }

    /// `bytes` into a line from its byte `first` on; the shadow stays.
    fn write_line(&self, line: usize, first: usize, bytes: &[u8]) {
        if let Ok(whole) = <[u8; 16]>::try_from(bytes) {
            let whole: [u32; 4] = bytemuck::cast(whole);
            for (word, value) in self.lines[line].words.iter().zip(whole) {
                word.store(value, Relaxed);
            }
            return;
        }
        for (i, &byte) in bytes.iter().enumerate() {
            let at = first + i;
            let shift = 8 * (at % 4);
            self.exchange(4 * line + at / 4, 0xff << shift, u32::from(byte) << shift);
        }
    }

    /// From a kernel's bulk copy: `defined` tells of each byte.
    pub fn put(&self, offset: usize, bytes: &[u8], defined: u16) {
        let mut done = 0;
        while done < bytes.len() {
            let (line, first) = ((offset + done) / 16, (offset + done) % 16);
            let part = (16 - first).min(bytes.len() - done);
            self.write_line(line, first, &bytes[done..done + part]);
            let marks = defined >> done & part_mask(part);
            self.define(line, marks << first);
            if marks != part_mask(part) {
                self.undefine(line, (!marks & part_mask(part)) << first);
            }
            done += part;
        }
    }

    /// From another place, uninitialised bytes as such. The bytes must not overlap.
    pub fn copy(&self, offset: usize, from: &Allocation, from_offset: usize, bytes: usize) {
        let mut done = 0;
        while done < bytes {
            let (at, source) = (offset + done, from_offset + done);
            let (line, first) = (at / 16, at % 16);
            let part = (16 - first).min(16 - source % 16).min(bytes - done);
            let values: [u8; 16] = bytemuck::cast(from.line(source / 16));
            self.write_line(line, first, &values[source % 16..source % 16 + part]);
            let defined = from.lines[source / 16].defined.load(Relaxed) >> (source % 16) & part_mask(part);
            self.define(line, defined << first);
            let undefined = !defined & part_mask(part);
            if undefined != 0 {
                self.undefine(line, undefined << first);
            }
            done += part;
        }
    }
}

fn zeroed<T: Zeroable>(len: usize) -> Option<Box<[T]>> {
    try_zeroed_slice_box(len).ok()
}
