//! Races between the warps of a block, in shared memory, and the bytes of unfinished asynchronous copies.
//!
//! Time is a number that every barrier and fence increments. A warp's view says up to which time each other warp's
//! accesses are ordered before its own. A barrier of all warps orders everything: what is not later than the last one
//! races with nothing. A line whose accesses were all of the whole line has a [`Record`]; any other, a [`Mixed`] list.

use super::order::Kind;
use std::collections::HashMap;

const MAX_WARPS: usize = 32;

/// In [`Record::written`]: the whole line is in flight; the line is mixed.
const IN_FLIGHT: u32 = u32::MAX - 1;
const MIXED: u32 = u32::MAX;

/// The last accesses of a whole line.
#[derive(Clone, Copy, Default)]
struct Record {
    /// When it was written, and by which warp.
    written: u32,
    writer: u32,
    /// When it was read, and by which warps, a bit each. Of a mixed line, `readers` is its place.
    read: u32,
    readers: u32,
}

#[derive(Default)]
struct Mixed {
    /// Bytes in flight.
    in_flight: u16,
    /// Relaxed ones in the order of their last happening.
    touches: Vec<Touch>,
}

/// Each of `warps` accessed the bytes of `mask` at `time`.
#[derive(Clone, Copy)]
struct Touch {
    time: u32,
    warps: u32,
    mask: u16,
    kind: Kind,
}

/// What an access met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    Race { warp: u32, wrote: bool, mask: u16 },
    InFlight { mask: u16 },
}

type View = [u32; MAX_WARPS];

pub(super) struct Warps {
    all: u32,
    time: u32,
    /// Time of the last barrier of all warps.
    full: u32,
    ended: u32,
    views: [View; MAX_WARPS],
    records: Vec<Record>,
    mixed: Vec<Mixed>,
    unused: Vec<u32>,
    /// What a warp's last fence closed.
    released: [Option<View>; MAX_WARPS],
    /// Views left at addresses by atomics.
    left: HashMap<u64, View>,
}

impl Warps {
    pub fn new(lines: usize, warps: usize) -> Warps {
        Warps {
            all: u32::MAX >> (MAX_WARPS - warps.clamp(1, MAX_WARPS)),
            time: 1,
            full: 0,
            ended: 0,
            views: [[0; MAX_WARPS]; MAX_WARPS],
            records: vec![Record::default(); lines],
            mixed: Vec::new(),
            unused: Vec::new(),
            released: [None; MAX_WARPS],
            left: HashMap::new(),
        }
    }

    /// The next block. `unfinished`: copies may still be in flight.
    pub fn reset(&mut self, unfinished: bool) {
        if unfinished {
            self.records.fill(Record::default());
            self.mixed.clear();
            self.unused.clear();
        }
        self.full = self.time;
        self.time += 1;
        self.ended = 0;
        self.released = [None; MAX_WARPS];
        self.left.clear();
    }

    #[inline]
    pub fn read(&mut self, line: usize, mask: u16, warp: usize) -> Result<(), Clash> {
        let record = &mut self.records[line];
        let mine = 1 << warp;
        let is_ordered = record.written <= self.full || (record.written < IN_FLIGHT && record.writer == warp as u32);
        if mask == 0xffff && is_ordered {
            if record.read == self.time {
                record.readers |= mine;
                return Ok(());
            }
            if record.read <= self.full || record.readers == mine {
                record.read = self.time;
                record.readers = mine;
                return Ok(());
            }
        }
        self.touch(line, mask, warp, Kind::Read)
    }

    #[inline]
    pub fn write(&mut self, line: usize, mask: u16, warp: usize) -> Result<(), Clash> {
        if mask == 0xffff && self.is_mine(line, warp) {
            self.records[line] = Record { written: self.time, writer: warp as u32, read: 0, readers: 0 };
            return Ok(());
        }
        self.touch(line, mask, warp, Kind::Write)
    }

    /// No other warp accessed it since the last barrier of all.
    fn is_mine(&self, line: usize, warp: usize) -> bool {
        let record = &self.records[line];
        (record.written <= self.full || (record.written < IN_FLIGHT && record.writer == warp as u32))
            && (record.read <= self.full || record.readers & !(1 << warp) == 0)
    }

    /// An asynchronous copy begins to write: until it ends nobody may touch the bytes.
    pub fn begin_copy(&mut self, line: usize, mask: u16, warp: usize) -> Result<(), Clash> {
        if mask != 0xffff || !self.is_mine(line, warp) {
            self.touch(line, mask, warp, Kind::Write)?;
        }
        if mask == 0xffff {
            self.release_mixed(line);
            self.records[line] = Record { written: IN_FLIGHT, writer: warp as u32, read: 0, readers: 0 };
        } else {
            let place = self.make_mixed(line);
            self.mixed[place].in_flight |= mask;
        }
        Ok(())
    }

    /// It ends, in the sight of the warp that began it.
    pub fn end_copy(&mut self, line: usize, mask: u16, warp: usize) {
        if mask == 0xffff && self.records[line].written == IN_FLIGHT {
            self.records[line] = Record { written: self.time, writer: warp as u32, read: 0, readers: 0 };
            return;
        }
        let place = self.make_mixed(line);
        let mixed = &mut self.mixed[place];
        mixed.in_flight &= !mask;
        mixed.touches.retain(|t| t.mask & !mask != 0);
        mixed.touches.push(Touch { time: self.time, warps: 1 << warp, mask, kind: Kind::Write });
    }

    /// Any access, of any bytes of a line.
    pub fn touch(&mut self, line: usize, mask: u16, warp: usize, kind: Kind) -> Result<(), Clash> {
        if self.records[line].written == IN_FLIGHT {
            return Err(Clash::InFlight { mask });
        }
        let place = self.make_mixed(line);
        let (time, full, view, mine) = (self.time, self.full, &self.views[warp], 1u32 << warp);
        let mixed = &mut self.mixed[place];
        if mixed.in_flight & mask != 0 {
            return Err(Clash::InFlight { mask: mixed.in_flight & mask });
        }
        let touches = &mut mixed.touches;
        touches.retain(|t| t.time > full);
        let unordered = |t: &Touch| {
            let unknown = |&other: &u32| other != warp as u32 && view[other as usize] < t.time;
            (0..MAX_WARPS as u32).filter(|other| t.warps >> other & 1 != 0).find(unknown)
        };
        // All accesses of one address by atomics and the like have one order: those before this warp's last are ordered.
        let coherent = |t: &Touch| t.kind.relaxed() && t.warps == mine && t.mask & mask == mask;
        let coherent = touches.iter().rposition(coherent).unwrap_or(0);
        for (i, t) in touches.iter().enumerate() {
            if t.mask & mask != 0
                && kind.conflicts(t.kind)
                && !(t.kind.relaxed() && i < coherent)
                && let Some(other) = unordered(t)
            {
                return Err(Clash::Race { warp: other, wrote: t.kind.writes(), mask: t.mask & mask });
            }
        }
        match kind {
            // Whoever is ordered after this write is ordered after what came before it; and so for reads.
            Kind::Write => touches.retain(|t| t.mask & !mask != 0),
            Kind::Read => touches
                .retain(|t| t.kind != Kind::Read || t.mask & !mask != 0 || t.time == time || unordered(t).is_some()),
            _ => touches.retain(|t| t.kind != kind || t.warps != mine || t.mask & !mask != 0),
        }
        let same = |t: &&mut Touch| t.kind == kind && t.time == time && (t.mask == mask || t.warps == mine);
        match touches.iter_mut().find(same) {
            Some(t) if !kind.relaxed() && t.mask == mask => t.warps |= mine,
            Some(t) if !kind.relaxed() => t.mask |= mask,
            _ => touches.push(Touch { time, warps: mine, mask, kind }),
        }
        self.unmix(line, place);
        Ok(())
    }

    /// The place of the line's list, made from its record if it has none.
    fn make_mixed(&mut self, line: usize) -> usize {
        let record = self.records[line];
        if record.written == MIXED {
            return record.readers as usize;
        }
        let place = self.unused.pop().unwrap_or_else(|| {
            self.mixed.push(Mixed::default());
            self.mixed.len() as u32 - 1
        });
        let touches = &mut self.mixed[place as usize].touches;
        if record.written > self.full {
            touches.push(Touch { time: record.written, warps: 1 << record.writer, mask: 0xffff, kind: Kind::Write });
        }
        if record.read > self.full {
            touches.push(Touch { time: record.read, warps: record.readers, mask: 0xffff, kind: Kind::Read });
        }
        self.records[line] = Record { written: MIXED, writer: 0, read: 0, readers: place };
        place as usize
    }

    /// Back to a record when that can tell all.
    fn unmix(&mut self, line: usize, place: usize) {
        let mixed = &self.mixed[place];
        let mut record = Record::default();
        if mixed.in_flight != 0 || mixed.touches.len() > 2 {
            return;
        }
        for t in &mixed.touches {
            match t.kind {
                Kind::Write if t.mask == 0xffff && record.written == 0 => {
                    record.written = t.time;
                    record.writer = t.warps.trailing_zeros();
                }
                Kind::Read if t.mask == 0xffff && record.read == 0 => {
                    record.read = t.time;
                    record.readers = t.warps;
                }
                _ => return,
            }
        }
        self.release_mixed(line);
        self.records[line] = record;
    }

    fn release_mixed(&mut self, line: usize) {
        if self.records[line].written == MIXED {
            let place = self.records[line].readers;
            self.mixed[place as usize].touches.clear();
            self.unused.push(place);
        }
    }

    /// `arrived` signalled, `waited` also waited: what any of them did before is ordered before what these do from now on.
    pub fn barrier(&mut self, arrived: u32, waited: u32) {
        let time = self.time;
        self.time += 1;
        if (waited | self.ended) & self.all == self.all {
            self.full = time;
            return;
        }
        let mut joined = [0; MAX_WARPS];
        for warp in (0..MAX_WARPS).filter(|warp| (arrived | waited) >> warp & 1 != 0) {
            join(&mut joined, &self.views[warp]);
            joined[warp] = time;
        }
        for warp in (0..MAX_WARPS).filter(|warp| waited >> warp & 1 != 0) {
            self.views[warp] = joined;
        }
    }

    /// All threads of the warp have ended: barriers no longer wait for it.
    pub fn end(&mut self, warp: usize) {
        self.ended |= 1 << warp;
    }

    pub fn fence(&mut self, warp: usize) {
        let mut view = self.views[warp];
        view[warp] = self.time;
        self.released[warp] = Some(view);
        self.time += 1;
    }

    /// An atomic or a relaxed store: leaves what the last fence closed.
    pub fn release(&mut self, warp: usize, address: u64) {
        if let Some(released) = &self.released[warp] {
            join(self.left.entry(address).or_insert([0; MAX_WARPS]), released);
        }
    }

    /// An atomic or a relaxed load takes up what others left.
    pub fn acquire(&mut self, warp: usize, address: u64) {
        if let Some(left) = self.left.get(&address) {
            join(&mut self.views[warp], left);
        }
    }
}

fn join(view: &mut View, other: &View) {
    for (mine, theirs) in view.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}
