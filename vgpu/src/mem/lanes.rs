//! Races between the lanes of one warp, in shared memory.
//!
//! Lanes that stand at one instruction go in step here; a GPU promises that only after an operation that orders memory
//! among them. Those are barriers of the warp and of the block, and fences. Shuffles, votes, matches and matrix
//! instructions wait for all their lanes but order no memory (CUDA C++ Programming Guide, "Warp Shuffle Functions",
//! "Warp Vote Functions": "do not imply a memory barrier").
//!
//! A warp's *period* ends with each operation that orders all of its lanes. A line knows, for its last period of writing
//! and of reading, which lane touched each byte. What some lanes order among themselves alone, they count as ordered
//! with each other until the period ends: no false report, at the price of a missed one.

use super::lines::{LINE, lanes};
use super::{Request, SHARED_START};

const MAX_WARPS: usize = 32;

/// In a line's bytes, beside the numbers of lanes.
const MANY: u8 = 0x3f;
const NOBODY: u8 = 0xff;
/// Added to a lane that wrote by an atomic or the like: those do not race with each other.
const RELAXED: u8 = 0x40;

#[derive(Clone, Copy)]
struct Line {
    /// The periods that the lanes below are of.
    written: u64,
    read: u64,
    writers: [u8; 16],
    readers: [u8; 16],
}

const UNTOUCHED: Line = Line { written: 0, read: 0, writers: [NOBODY; 16], readers: [NOBODY; 16] };

impl Line {
    /// The lanes `own` read the bytes from `first` on.
    #[inline(always)]
    fn note_readers<const BYTES: usize>(&mut self, period: u64, first: usize, own: &[u8; BYTES]) {
        if self.read != period {
            (self.read, self.readers) = (period, [NOBODY; 16]);
        }
        for (reader, &own) in part_mut::<BYTES>(&mut self.readers, first).iter_mut().zip(own) {
            *reader = if *reader == NOBODY || *reader == own { own } else { MANY };
        }
    }
}

/// What an access met: a byte that another lane touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneClash {
    pub address: u64,
    /// `None`: several.
    pub other: Option<u32>,
    pub wrote: bool,
}

pub(super) struct Lanes {
    lines: Vec<Line>,
    /// Each warp's period: no two ever have the same number.
    periods: [u64; MAX_WARPS],
    last: u64,
    /// Lanes with which each lane was ordered in this period, by operations of part of the warp.
    partly: Vec<[u32; 32]>,
    has_partly: u32,
}

impl Lanes {
    pub fn new(lines: usize, warps: usize) -> Lanes {
        let mut lanes = Lanes {
            lines: vec![UNTOUCHED; lines],
            periods: [0; MAX_WARPS],
            last: 0,
            partly: vec![[0; 32]; warps],
            has_partly: 0,
        };
        lanes.reset();
        lanes
    }

    /// The next block.
    pub fn reset(&mut self) {
        for period in &mut self.periods {
            self.last += 1;
            *period = self.last;
        }
        self.has_partly = 0;
    }

    /// Memory is ordered among the lanes of `mask`; `all`: no other lane of the warp is left.
    pub fn order(&mut self, warp: usize, mask: u32, all: bool) {
        if all {
            self.last += 1;
            self.periods[warp] = self.last;
            self.has_partly &= !(1 << warp);
            return;
        }
        let partly = &mut self.partly[warp];
        if self.has_partly >> warp & 1 == 0 {
            *partly = [0; 32];
            self.has_partly |= 1 << warp;
        }
        lanes(mask).for_each(|lane| partly[lane] |= mask);
    }

    /// The lanes of a request read. `contiguous`: [`Lines::contiguous`](super::lines::Lines); `relaxed`: as atomics do, which may meet each other.
    pub fn read(&mut self, warp: usize, r: &Request<'_>, contiguous: bool, relaxed: bool) -> Result<(), LaneClash> {
        match r.bytes {
            1 => self.read_parts::<1>(warp, r, contiguous, relaxed),
            2 => self.read_parts::<2>(warp, r, contiguous, relaxed),
            4 => self.read_parts::<4>(warp, r, contiguous, relaxed),
            8 => self.read_parts::<8>(warp, r, contiguous, relaxed),
            _ => self.read_parts::<16>(warp, r, contiguous, relaxed),
        }
    }

    /// They may write: nobody else touched the bytes in this period.
    pub fn check_write(&self, warp: usize, r: &Request<'_>, contiguous: bool, relaxed: bool) -> Result<(), LaneClash> {
        match r.bytes {
            1 => self.check_parts::<1>(warp, r, contiguous, relaxed),
            2 => self.check_parts::<2>(warp, r, contiguous, relaxed),
            4 => self.check_parts::<4>(warp, r, contiguous, relaxed),
            8 => self.check_parts::<8>(warp, r, contiguous, relaxed),
            _ => self.check_parts::<16>(warp, r, contiguous, relaxed),
        }
    }

    /// They wrote, as was checked.
    pub fn note_write(&mut self, warp: usize, r: &Request<'_>, contiguous: bool, relaxed: bool) {
        match r.bytes {
            1 => self.write_parts::<1>(warp, r, contiguous, relaxed),
            2 => self.write_parts::<2>(warp, r, contiguous, relaxed),
            4 => self.write_parts::<4>(warp, r, contiguous, relaxed),
            8 => self.write_parts::<8>(warp, r, contiguous, relaxed),
            _ => self.write_parts::<16>(warp, r, contiguous, relaxed),
        }
    }

    fn read_parts<const BYTES: usize>(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        contiguous: bool,
        relaxed: bool,
    ) -> Result<(), LaneClash> {
        let period = self.periods[warp];
        let mut met = false;
        if let Some(first) = whole_lines(r, contiguous && !relaxed) {
            for (i, line) in self.lines[first..first + 2 * BYTES].iter_mut().enumerate() {
                let own = pattern::<BYTES>(i);
                met |= line.written == period && meets(&line.writers, &own, false);
                line.note_readers(period, 0, &own);
            }
        } else {
            // A broadcast: one place, several readers.
            let (low, high) = r.span();
            let is_broadcast = low == high && r.mask.count_ones() > 1;
            for lane in lanes(r.mask) {
                let (place, first) = place(r.addresses[lane]);
                let line = &mut self.lines[place];
                let own = [if is_broadcast { MANY } else { lane as u8 }; BYTES];
                met |= line.written == period && meets(part(&line.writers, first), &own, relaxed);
                if !relaxed {
                    line.note_readers(period, first, &own);
                }
                if is_broadcast {
                    break;
                }
            }
        }
        if met { self.search(warp, r, relaxed, false) } else { Ok(()) }
    }

    fn check_parts<const BYTES: usize>(
        &self,
        warp: usize,
        r: &Request<'_>,
        contiguous: bool,
        relaxed: bool,
    ) -> Result<(), LaneClash> {
        let period = self.periods[warp];
        let is_met = |line: &Line, first: usize, own: u8| {
            let own = [own; BYTES];
            (line.written == period && meets(part(&line.writers, first), &own, relaxed))
                || (line.read == period && meets(part(&line.readers, first), &own, false))
        };
        let mut met = false;
        if let Some(first) = whole_lines(r, contiguous) {
            for (i, line) in self.lines[first..first + 2 * BYTES].iter().enumerate() {
                let own = pattern::<BYTES>(i);
                met |= line.written == period && meets(&line.writers, &own, relaxed);
                met |= line.read == period && meets(&line.readers, &own, false);
            }
        } else {
            for lane in lanes(r.mask) {
                let (place, first) = place(r.addresses[lane]);
                met |= is_met(&self.lines[place], first, lane as u8);
            }
        }
        if met { self.search(warp, r, relaxed, true) } else { Ok(()) }
    }

    fn write_parts<const BYTES: usize>(&mut self, warp: usize, r: &Request<'_>, contiguous: bool, relaxed: bool) {
        let period = self.periods[warp];
        let flag = if relaxed { RELAXED } else { 0 };
        if let Some(first) = whole_lines(r, contiguous && !relaxed) {
            for (i, line) in self.lines[first..first + 2 * BYTES].iter_mut().enumerate() {
                (line.written, line.writers) = (period, pattern::<BYTES>(i));
            }
            return;
        }
        for lane in lanes(r.mask) {
            let (place, first) = place(r.addresses[lane]);
            let line = &mut self.lines[place];
            if line.written != period {
                (line.written, line.writers) = (period, [NOBODY; 16]);
            }
            *part_mut::<BYTES>(&mut line.writers, first) = [lane as u8 | flag; BYTES];
        }
    }

    /// A matrix instruction reads a whole line for several lanes. It leaves no mark: all its lanes are past their reads when
    /// one goes on, so that overwriting what it read is safe (kernels that let results leave through the memory of their
    /// operands rely on it).
    #[inline]
    pub fn read_row(&self, warp: usize, line: usize) -> Result<(), LaneClash> {
        let found = &self.lines[line];
        if found.written == self.periods[warp] && self.has_partly >> warp & 1 == 0 {
            return Err(self.row_clash(line, found.writers, true));
        }
        Ok(())
    }

    /// It may write one, byte i by lane `own[i]`.
    pub fn check_row(&self, warp: usize, line: usize, own: &[u8; 16]) -> Result<(), LaneClash> {
        let (period, found) = (self.periods[warp], &self.lines[line]);
        if self.has_partly >> warp & 1 == 1 {
            return Ok(());
        }
        if found.written == period && meets(&found.writers, own, false) {
            return Err(self.row_clash(line, found.writers, true));
        }
        if found.read == period && meets(&found.readers, own, false) {
            return Err(self.row_clash(line, found.readers, false));
        }
        Ok(())
    }

    pub fn write_row(&mut self, warp: usize, line: usize, own: &[u8; 16]) {
        let line = &mut self.lines[line];
        (line.written, line.writers) = (self.periods[warp], *own);
    }

    fn row_clash(&self, line: usize, touched: [u8; 16], wrote: bool) -> LaneClash {
        let byte = touched.iter().position(|&lane| lane != NOBODY).unwrap_or(0);
        let address = SHARED_START + LINE * line as u64 + byte as u64;
        LaneClash { address, other: lane_of(touched[byte]), wrote }
    }

    /// Byte by byte, with what lanes ordered among themselves: the first clash that is one.
    #[cold]
    fn search(&self, warp: usize, r: &Request<'_>, relaxed: bool, writes: bool) -> Result<(), LaneClash> {
        let period = self.periods[warp];
        let partly = (self.has_partly >> warp & 1 == 1).then(|| &self.partly[warp]);
        let is_ordered = |other: Option<u32>, me: usize| match (partly, other) {
            (None, _) => other == Some(me as u32),
            // Which lanes they were is not known.
            (Some(_), None) => true,
            (Some(partly), Some(other)) => other == me as u32 || partly[me] >> other & 1 == 1,
        };
        for me in lanes(r.mask) {
            for address in r.addresses[me]..r.addresses[me] + r.bytes as u64 {
                let (place, byte) = place(address);
                let line = &self.lines[place];
                let (writer, reader) = (line.writers[byte], line.readers[byte]);
                let may_meet = relaxed && writer & RELAXED != 0;
                if line.written == period && writer != NOBODY && !may_meet && !is_ordered(lane_of(writer), me) {
                    return Err(LaneClash { address, other: lane_of(writer), wrote: true });
                }
                if writes && line.read == period && reader != NOBODY && !is_ordered(lane_of(reader), me) {
                    return Err(LaneClash { address, other: lane_of(reader), wrote: false });
                }
            }
        }
        Ok(())
    }
}

fn lane_of(mark: u8) -> Option<u32> {
    let lane = u32::from(mark & !RELAXED);
    (lane < 32).then_some(lane)
}

/// The line of an address, and the byte in it.
#[inline(always)]
fn place(address: u64) -> (usize, usize) {
    let offset = (address - SHARED_START) as usize;
    (offset / 16, offset % 16)
}

/// The bytes of an access, which is aligned.
#[inline(always)]
fn part<const BYTES: usize>(line: &[u8; 16], first: usize) -> &[u8; BYTES] {
    &line.as_chunks::<BYTES>().0[first / BYTES]
}

#[inline(always)]
fn part_mut<const BYTES: usize>(line: &mut [u8; 16], first: usize) -> &mut [u8; BYTES] {
    &mut line.as_chunks_mut::<BYTES>().0[first / BYTES]
}

/// The first line of a request that asks, lane after lane (`contiguous`), for all bytes of some lines.
#[inline(always)]
fn whole_lines(r: &Request<'_>, contiguous: bool) -> Option<usize> {
    let offset = r.addresses[0].wrapping_sub(SHARED_START);
    (contiguous && offset.is_multiple_of(LINE)).then_some((offset / LINE) as usize)
}

/// The lanes of the bytes of its i-th line.
#[inline(always)]
fn pattern<const BYTES: usize>(i: usize) -> [u8; 16] {
    let first = (16 * i / BYTES) as u8;
    std::array::from_fn(|byte| first + (byte / BYTES) as u8)
}

/// Whether some byte was touched by another lane than its own.
#[inline(always)]
fn meets<const BYTES: usize>(touched: &[u8; BYTES], own: &[u8; BYTES], relaxed: bool) -> bool {
    let mut any = 0;
    for (&mark, &own) in touched.iter().zip(own) {
        let is_other = (mark != NOBODY) & (mark & !RELAXED != own) & !(relaxed & (mark & RELAXED != 0));
        any |= u8::from(is_other);
    }
    any != 0
}
