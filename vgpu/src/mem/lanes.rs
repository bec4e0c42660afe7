//! Races between the lanes of one warp, in shared memory.
//!
//! Lanes that stand at one instruction go in step here; a GPU promises that only after an operation that orders memory
//! among them. Those are barriers of the warp and of the block, and fences. Shuffles, votes, matches and matrix
//! instructions wait for all their lanes but order no memory (CUDA C++ Programming Guide, "Warp Shuffle Functions",
//! "Warp Vote Functions": "do not imply a memory barrier").
//!
//! A warp's *period* ends with each operation that orders all of its lanes. A line knows, for its last period of writing
//! and of reading, which lane touched each byte. After some lanes order memory among themselves alone, the rest of
//! the period is kept lane by lane in [`LaneSets`].

use super::lane_sets::{LaneSets, LaneTouch};
use super::lines::{LINE, lanes};
use super::order::Kind;
use super::{Request, SHARED_START};

const MAX_WARPS: usize = 32;

/// In a line's bytes, beside the numbers of lanes.
const MANY: u8 = 0x3f;
const NOBODY: u8 = 0xff;
/// Added to a lane that wrote by an atomic or the like: those do not race with each other.
const RELAXED: u8 = 0x40;

/// In one line of the host's cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    /// The periods that the lanes below are of.
    written: u64,
    read: u64,
    writers: [u8; 16],
    readers: [u8; 16],
    /// The instructions of the last ones.
    written_at: u32,
    read_at: u32,
    /// Lanes that read together, last, one place, and its bytes.
    crowd: u32,
    crowded: u16,
}

const UNTOUCHED: Line = Line {
    written: 0,
    read: 0,
    writers: [NOBODY; 16],
    readers: [NOBODY; 16],
    written_at: 0,
    read_at: 0,
    crowd: 0,
    crowded: 0,
};

impl Line {
    /// The lanes of `crowd` read the bytes of `mask`, as was noted.
    fn note_crowd(&mut self, crowd: u32, mask: u16) {
        self.crowd = if self.crowded == mask { self.crowd | crowd } else { crowd };
        self.crowded = mask;
    }

    /// What the lanes did in the period.
    fn touches(&self, period: u64) -> Vec<LaneTouch> {
        let mut touches = Vec::new();
        for byte in 0..16 {
            let (writer, reader) = (self.writers[byte], self.readers[byte]);
            let mask = 1 << byte;
            if self.written == period
                && let Some(lane) = lane_of(writer)
            {
                let kind = if writer & RELAXED != 0 { Kind::RelaxedWrite } else { Kind::Write };
                touches.push(LaneTouch { lanes: 1 << lane, mask, kind, step: 0, at: self.written_at });
            }
            // Of others that read together it is not known who they were.
            let crowd = if self.crowded & mask != 0 { self.crowd } else { 0 };
            let lanes = lane_of(reader).map_or(crowd, |lane| 1 << lane);
            if self.read == period && reader != NOBODY && lanes != 0 {
                touches.push(LaneTouch { lanes, mask, kind: Kind::Read, step: 0, at: self.read_at });
            }
        }
        touches
    }

    /// The lanes `own` read the bytes from `first` on.
    #[inline(always)]
    fn note_readers<const BYTES: usize>(&mut self, period: u64, at: u32, first: usize, own: &[u8; BYTES]) {
        if self.read != period {
            (self.read, self.readers, self.crowded) = (period, [NOBODY; 16], 0);
        }
        self.read_at = at;
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
    /// Its instruction.
    pub at: u32,
}

#[derive(Default)]
pub(super) struct Lanes {
    /// The instruction at which accesses are made now.
    pub at: u32,
    lines: Vec<Line>,
    /// Each warp's period: no two ever have the same number.
    periods: [u64; MAX_WARPS],
    last: u64,
    /// Warps that wrote in their period, a bit each.
    wrote: u32,
    /// Of warps of which a part met in this period.
    partly: Vec<Option<Box<LaneSets>>>,
    has_partly: u32,
}

impl Lanes {
    pub fn new(lines: usize, warps: usize) -> Lanes {
        let mut lanes = Lanes {
            at: 0,
            lines: vec![UNTOUCHED; lines],
            periods: [0; MAX_WARPS],
            last: 0,
            wrote: 0,
            partly: (0..warps).map(|_| None).collect(),
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
        self.wrote = 0;
    }

    /// Memory is ordered among the lanes of `mask`; `all`: no other lane of the warp is left.
    pub fn order(&mut self, warp: usize, mask: u32, all: bool) {
        if all {
            self.last += 1;
            self.periods[warp] = self.last;
            self.has_partly &= !(1 << warp);
            self.wrote &= !(1 << warp);
            return;
        }
        let partly = &mut self.partly[warp];
        if self.has_partly >> warp & 1 == 0 {
            *partly = None;
            self.has_partly |= 1 << warp;
        }
        partly.get_or_insert_with(LaneSets::new).order(mask);
    }

    fn is_partly(&self, warp: usize) -> bool {
        self.has_partly >> warp & 1 == 1
    }

    /// A request of a warp of which a part met, lane by lane.
    #[cold]
    fn check_partly(&mut self, warp: usize, r: &Request<'_>, kind: Kind) -> Result<(), LaneClash> {
        let (period, all) = (self.periods[warp], &self.lines);
        let Some(sets) = &mut self.partly[warp] else { return Ok(()) };
        for me in lanes(r.mask) {
            let (line, first) = place(r.addresses[me]);
            let mask = bytes_from(first, r.bytes);
            if let Some((touch, lane)) = sets.check(line, mask, me, kind, || all[line].touches(period)) {
                let byte = (touch.mask & mask).trailing_zeros();
                let address = SHARED_START + LINE * line as u64 + u64::from(byte);
                return Err(LaneClash { address, other: Some(lane), wrote: touch.kind.writes(), at: touch.at });
            }
        }
        Ok(())
    }

    fn note_partly(&mut self, warp: usize, r: &Request<'_>, kind: Kind) {
        let at = self.at;
        let (period, all) = (self.periods[warp], &self.lines);
        let Some(sets) = &mut self.partly[warp] else { return };
        for me in lanes(r.mask) {
            let (line, first) = place(r.addresses[me]);
            sets.note(line, bytes_from(first, r.bytes), me, kind, at, || all[line].touches(period));
        }
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
    pub fn check_write(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        contiguous: bool,
        relaxed: bool,
    ) -> Result<(), LaneClash> {
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
        if self.is_partly(warp) {
            let kind = if relaxed { Kind::RelaxedRead } else { Kind::Read };
            self.check_partly(warp, r, kind)?;
            self.note_partly(warp, r, kind);
            return Ok(());
        }
        let (period, at, wrote) = (self.periods[warp], self.at, self.wrote >> warp & 1 == 1);
        let mut met = false;
        if let Some(first) = whole_lines(r, contiguous && !relaxed) {
            for (i, line) in self.lines[first..first + 2 * BYTES].iter_mut().enumerate() {
                let own = pattern::<BYTES>(i);
                met |= wrote && line.written == period && meets(&line.writers, &own, false);
                line.note_readers(period, at, 0, &own);
            }
        } else {
            // A broadcast: one place, several readers.
            let (low, high) = r.span();
            let is_broadcast = low == high && r.mask.count_ones() > 1;
            for lane in lanes(r.mask) {
                let (place, first) = place(r.addresses[lane]);
                let line = &mut self.lines[place];
                let own = [if is_broadcast { MANY } else { lane as u8 }; BYTES];
                met |= wrote && line.written == period && meets(part(&line.writers, first), &own, relaxed);
                if !relaxed {
                    line.note_readers(period, at, first, &own);
                }
                if is_broadcast && !relaxed {
                    line.note_crowd(r.mask, bytes_from(first, BYTES));
                }
                if is_broadcast {
                    break;
                }
            }
        }
        if met { self.search(warp, r, relaxed, false) } else { Ok(()) }
    }

    fn check_parts<const BYTES: usize>(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        contiguous: bool,
        relaxed: bool,
    ) -> Result<(), LaneClash> {
        if self.is_partly(warp) {
            return self.check_partly(warp, r, write_kind(relaxed));
        }
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
        self.wrote |= 1 << warp;
        if self.is_partly(warp) {
            return self.note_partly(warp, r, write_kind(relaxed));
        }
        let (period, at) = (self.periods[warp], self.at);
        let flag = if relaxed { RELAXED } else { 0 };
        if let Some(first) = whole_lines(r, contiguous && !relaxed) {
            for (i, line) in self.lines[first..first + 2 * BYTES].iter_mut().enumerate() {
                (line.written, line.written_at, line.writers) = (period, at, pattern::<BYTES>(i));
            }
            return;
        }
        for lane in lanes(r.mask) {
            let (place, first) = place(r.addresses[lane]);
            let line = &mut self.lines[place];
            if line.written != period {
                (line.written, line.writers) = (period, [NOBODY; 16]);
            }
            line.written_at = at;
            *part_mut::<BYTES>(&mut line.writers, first) = [lane as u8 | flag; BYTES];
        }
    }

    /// A matrix instruction reads whole lines, each for several lanes. It leaves no mark: all its lanes are past their reads
    /// when one goes on, so that overwriting what it read is safe (kernels that let results leave through the memory of their
    /// operands rely on it).
    #[inline]
    pub fn read_rows(&self, warp: usize, rows: &[u32]) -> Result<(), (usize, LaneClash)> {
        if self.wrote >> warp & 1 == 0 {
            return Ok(());
        }
        let period = self.periods[warp];
        let met = rows.iter().map(|&line| line as usize).find(|&line| self.lines[line].written == period);
        match met {
            Some(line) if !self.is_partly(warp) => Err((line, self.row_clash(line, self.lines[line].writers, true))),
            _ => Ok(()),
        }
    }

    /// It may write one, byte i by lane `own[i]`.
    pub fn check_row(&self, warp: usize, line: usize, own: &[u8; 16]) -> Result<(), LaneClash> {
        let (period, found) = (self.periods[warp], &self.lines[line]);
        if self.is_partly(warp) {
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
        self.wrote |= 1 << warp;
        let line = &mut self.lines[line];
        (line.written, line.written_at, line.writers) = (self.periods[warp], self.at, *own);
    }

    fn row_clash(&self, line: usize, touched: [u8; 16], wrote: bool) -> LaneClash {
        let byte = touched.iter().position(|&lane| lane != NOBODY).unwrap_or(0);
        let address = SHARED_START + LINE * line as u64 + byte as u64;
        let at = if wrote { self.lines[line].written_at } else { self.lines[line].read_at };
        LaneClash { address, other: lane_of(touched[byte]), wrote, at }
    }

    /// Byte by byte: the first clash.
    #[cold]
    fn search(&self, warp: usize, r: &Request<'_>, relaxed: bool, writes: bool) -> Result<(), LaneClash> {
        let period = self.periods[warp];
        let is_ordered = |other: Option<u32>, me: usize| other == Some(me as u32);
        for me in lanes(r.mask) {
            for address in r.addresses[me]..r.addresses[me] + r.bytes as u64 {
                let (place, byte) = place(address);
                let line = &self.lines[place];
                let (writer, reader) = (line.writers[byte], line.readers[byte]);
                let may_meet = relaxed && writer & RELAXED != 0;
                if line.written == period && writer != NOBODY && !may_meet && !is_ordered(lane_of(writer), me) {
                    return Err(LaneClash { address, other: lane_of(writer), wrote: true, at: line.written_at });
                }
                if writes && line.read == period && reader != NOBODY && !is_ordered(lane_of(reader), me) {
                    return Err(LaneClash { address, other: lane_of(reader), wrote: false, at: line.read_at });
                }
            }
        }
        Ok(())
    }
}

fn write_kind(relaxed: bool) -> Kind {
    if relaxed { Kind::RelaxedWrite } else { Kind::Write }
}

/// `bytes` from byte `first` of a line on.
fn bytes_from(first: usize, bytes: usize) -> u16 {
    0xffff >> (16 - bytes) << first
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
