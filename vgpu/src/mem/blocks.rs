//! Races between the blocks of a launch whose blocks cannot order each other: two blocks touch one byte and one of them
//! writes. Exact to the byte, whatever the threads that run the blocks do.
//!
//! A line's record is one 64-bit word: the launch's tag (14 bits), a kind (2), two masks of 2-byte halves (8 each) and a
//! block (32). It tells all as long as at most one block has bytes of its own in the line: `Read` has the halves that
//! only `block` read and those that several read; `Owned`, what `block` wrote and what it read. Everything else is
//! `Split`: the word is the place of a [`SplitLine`], which knows each byte.

use super::sites::warp_of;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU16, AtomicU64};
use std::sync::{Mutex, PoisonError};

/// Tags are 1 to this, then begin anew.
pub(super) const TAGS: u32 = (1 << 14) - 1;

const READ: u64 = 1;
const OWNED: u64 = 2;
const SPLIT: u64 = 3;

/// Locks that threads share when they meet split lines.
const SHARDS: usize = 64;

/// What is known of a line.
#[derive(Clone, Copy)]
pub(super) struct Shadow<'a> {
    pub record: &'a AtomicU64,
    /// The place ([`super::sites`]) of the access by the record's block that decided it last: of an owned line, the last
    /// write.
    pub place: &'a AtomicU16,
}

/// Who accesses: a block, at a place of the program.
#[derive(Clone, Copy)]
pub(super) struct By {
    pub block: u32,
    pub place: u16,
}

/// Who wrote a line before, as far as the warps of a block are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Own {
    /// Not this block.
    No,
    /// It did; the last to write was the warp itself.
    Mine,
    /// It did, or may have, and the last to write may have been another warp.
    Another,
}

/// What an access met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The other block, or one of them.
    pub block: Option<u32>,
    /// Several blocks did the same.
    pub several: bool,
    /// The place of its access.
    pub place: u16,
    pub wrote: bool,
    /// Bytes of the line that both touched.
    pub mask: u16,
    /// It is no race, but a read through the non-coherent path of what was written.
    pub non_coherent: bool,
}

/// A record of the launch `tag`.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    pub tag: u16,
}

/// What a record of the launch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Untouched,
    /// Halves that only `who` read, and that several read.
    Read {
        who: u32,
        one: u8,
        many: u8,
    },
    /// What `who` wrote and what it read.
    Owned {
        who: u32,
        wrote: u8,
        read: u8,
    },
    /// The place where more is known.
    Split {
        place: u32,
    },
}

impl Packing {
    fn pack(self, kind: u64, a: u8, b: u8, who: u32) -> u64 {
        u64::from(self.tag) << 50 | kind << 48 | u64::from(a) << 40 | u64::from(b) << 32 | u64::from(who)
    }

    pub fn split(self, place: u32) -> u64 {
        self.pack(SPLIT, 0, 0, place)
    }

    pub fn unpack(self, record: u64) -> Record {
        let (a, b, who) = ((record >> 40) as u8, (record >> 32) as u8, record as u32);
        let kind = if record >> 50 == u64::from(self.tag) { record >> 48 & 3 } else { 0 };
        match kind {
            READ => Record::Read { who, one: a, many: b },
            OWNED => Record::Owned { who, wrote: a, read: b },
            SPLIT => Record::Split { place: who },
            _ => Record::Untouched,
        }
    }

    /// Who wrote the line before, when `by` comes.
    pub fn own(self, record: Record, place: u16, by: By, block_of: impl Fn(u32) -> u32) -> Own {
        match record {
            Record::Owned { who, .. } if block_of(who) != by.block => Own::No,
            Record::Owned { .. } if warp_of(place) == warp_of(by.place) => Own::Mine,
            Record::Owned { .. } | Record::Split { .. } => Own::Another,
            Record::Untouched | Record::Read { .. } => Own::No,
        }
    }

    /// Whether an access that made the record `next` is the one to name where it conflicts.
    pub fn decides(self, next: u64, who: u32, access: Access) -> bool {
        match self.unpack(next) {
            Record::Owned { .. } => matches!(access, Access::Write),
            Record::Read { who: reader, .. } => reader == who,
            _ => false,
        }
    }

    /// The record after an access, or `None` when it needs (or is) a split line.
    pub fn next(self, now: u64, halves: u8, who: u32, access: Access) -> Option<u64> {
        match (self.unpack(now), access) {
            (Record::Untouched, Access::Write) => Some(self.pack(OWNED, halves, 0, who)),
            (Record::Untouched, _) => Some(self.pack(READ, halves, 0, who)),
            (Record::Read { who: reader, one, many }, Access::Write) => {
                (reader == who && many == 0).then(|| self.pack(OWNED, halves, one & !halves, who))
            }
            (Record::Read { who: reader, one, many }, _) if reader == who => {
                Some(self.pack(READ, one | halves & !many, many, who))
            }
            (Record::Read { who: reader, one, many }, _) => {
                let (theirs, many) = (one & !halves, many | one & halves);
                let mine = halves & !many;
                match (theirs, mine) {
                    (_, 0) => Some(self.pack(READ, theirs, many, reader)),
                    (0, _) => Some(self.pack(READ, mine, many, who)),
                    _ => None,
                }
            }
            (Record::Owned { who: owner, .. }, _) if owner != who => None,
            (Record::Owned { wrote, read, .. }, Access::Write) => {
                Some(self.pack(OWNED, wrote | halves, read & !halves, who))
            }
            (Record::Owned { wrote, .. }, Access::ReadNonCoherent) if wrote & halves != 0 => None,
            (Record::Owned { wrote, read, .. }, _) => Some(self.pack(OWNED, wrote, read | halves & !wrote, who)),
            (Record::Split { .. }, _) => None,
        }
    }
}

/// Whether an access of these bytes meets what a launch that left the record, and may still run, did there.
pub(super) fn meets_earlier(record: u64, tag: u16, mask: u16, store: bool) -> Option<(u32, bool)> {
    let bytes = |halves: u8| bytes_of(halves) & mask != 0;
    match (Packing { tag }).unpack(record) {
        Record::Owned { who, wrote, read } => (bytes(wrote) || (store && bytes(read))).then_some((who, bytes(wrote))),
        Record::Read { who, one, many } => (store && (bytes(one) || bytes(many))).then_some((who, false)),
        // Which bytes of it is not known any more; that several blocks touched it is.
        Record::Split { .. } if store => Some((u32::MAX, false)),
        _ => None,
    }
}

pub(super) struct Blocks {
    packing: Packing,
    /// Lines that their owner also read are split, so that the place of each access is known.
    pub exact: bool,
    split: Vec<Mutex<Vec<SplitLine>>>,
}

/// Who read and wrote each byte: 0 nobody, block + 1, or [`MANY`].
#[derive(Clone)]
struct SplitLine {
    readers: [u32; 16],
    writers: [u32; 16],
    /// The block and the place of their last accesses.
    last_read: [(u32, u16); 16],
    last_write: [u16; 16],
}

const MANY: u32 = u32::MAX;

#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    /// `ld.global.nc`
    ReadNonCoherent,
    Write,
}

impl Blocks {
    pub fn new(tag: u16) -> Blocks {
        Blocks { packing: Packing { tag }, exact: false, split: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Block `block` reads the bytes of `mask`.
    #[inline]
    pub fn read(
        &self,
        shadow: Shadow<'_>,
        line: usize,
        mask: u16,
        by: By,
        non_coherent: bool,
    ) -> Result<Own, Conflict> {
        let now = shadow.record.load(SeqCst);
        if now >> 48 == u64::from(self.packing.tag) << 2 | READ {
            let mine = if now as u32 == by.block { (now >> 40) as u8 } else { 0 };
            if mine | (now >> 32) as u8 == 0xff {
                return Ok(Own::No);
            }
        }
        self.change(shadow, line, mask, by, if non_coherent { Access::ReadNonCoherent } else { Access::Read })
    }

    /// Block `block` writes them.
    #[inline]
    pub fn write(&self, shadow: Shadow<'_>, line: usize, mask: u16, by: By) -> Result<Own, Conflict> {
        let all_mine = self.packing.pack(OWNED, 0xff, 0, by.block);
        if shadow.record.load(SeqCst) == all_mine && warp_of(shadow.place.load(Relaxed)) == warp_of(by.place) {
            shadow.place.store(by.place, Relaxed);
            return Ok(Own::Mine);
        }
        self.change(shadow, line, mask, by, Access::Write)
    }

    fn change(&self, shadow: Shadow<'_>, line: usize, mask: u16, by: By, access: Access) -> Result<Own, Conflict> {
        let Shadow { record, place } = shadow;
        let halves = halves(mask);
        let mut now = record.load(SeqCst);
        loop {
            let new = halves.and_then(|halves| self.packing.next(now, halves, by.block, access));
            let told =
                new.filter(|&new| !(self.exact && matches!(self.packing.unpack(new), Record::Owned { read: 1.., .. })));
            let Some(new) = told else { return self.split(shadow, line, mask, by, access) };
            // Sequentially consistent: of two blocks that change the record at once, the later one sees the other.
            if new == now || record.compare_exchange_weak(now, new, SeqCst, SeqCst).is_ok() {
                let own = self.packing.own(self.packing.unpack(now), place.load(Relaxed), by, |who| who);
                if self.packing.decides(new, by.block, access) {
                    place.store(by.place, Relaxed);
                }
                return Ok(own);
            }
            now = record.load(SeqCst);
        }
    }

    fn split(&self, shadow: Shadow<'_>, line: usize, mask: u16, by: By, access: Access) -> Result<Own, Conflict> {
        let Shadow { record, place: last } = shadow;
        let mut shard = self.split[line % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = record.load(SeqCst);
            if let Record::Split { place } = self.packing.unpack(now) {
                return shard[place as usize].touch(mask, by, access).map(|()| Own::Another);
            }
            let new = self.packing.split(shard.len() as u32);
            if record.compare_exchange(now, new, SeqCst, SeqCst).is_ok() {
                shard.push(SplitLine::of(self.packing.unpack(now), last.load(Relaxed)));
            }
        }
    }
}

impl SplitLine {
    /// `last`: the place that stood beside the record.
    fn of(record: Record, last: u16) -> SplitLine {
        let mut line =
            SplitLine { readers: [0; 16], writers: [0; 16], last_read: [(0, 0); 16], last_write: [last; 16] };
        if let Record::Read { who, .. } = record {
            line.last_read = [(who, last); 16];
        }
        for byte in 0..16 {
            let has = |halves: u8| halves >> (byte / 2) & 1 != 0;
            match record {
                Record::Owned { who, wrote, read } => {
                    line.writers[byte] = if has(wrote) { who + 1 } else { 0 };
                    line.readers[byte] = if has(read) { who + 1 } else { 0 };
                    line.last_read[byte] = (who, 0);
                }
                Record::Read { who, one, many } => {
                    line.readers[byte] = if has(many) {
                        MANY
                    } else if has(one) {
                        who + 1
                    } else {
                        0
                    };
                }
                _ => {}
            }
        }
        line
    }

    fn touch(&mut self, mask: u16, by: By, access: Access) -> Result<(), Conflict> {
        let me = by.block + 1;
        for byte in (0..16).filter(|byte| mask >> byte & 1 != 0) {
            let (reader, writer) = (self.readers[byte], self.writers[byte]);
            let (last_reader, read_at) = self.last_read[byte];
            let conflict = |other: u32, wrote, non_coherent| Conflict {
                block: if other == MANY { (last_reader != by.block).then_some(last_reader) } else { Some(other - 1) },
                several: other == MANY,
                place: if wrote { self.last_write[byte] } else { read_at },
                wrote,
                mask: 1 << byte,
                non_coherent,
            };
            if writer != 0 && matches!(access, Access::ReadNonCoherent) {
                return Err(conflict(writer, true, true));
            }
            if writer != 0 && writer != me {
                return Err(conflict(writer, true, false));
            }
            match access {
                Access::Write if reader != 0 && reader != me => return Err(conflict(reader, false, false)),
                Access::Write => (self.writers[byte], self.last_write[byte]) = (me, by.place),
                _ => {
                    self.readers[byte] = if reader == 0 || reader == me { me } else { MANY };
                    self.last_read[byte] = (by.block, by.place);
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a mask of halves.
pub(super) fn bytes_of(halves: u8) -> u16 {
    (0..8).fold(0, |bytes, half| bytes | ((u16::from(halves >> half & 1) * 3) << (2 * half)))
}

/// The mask in halves of two bytes; `None` when it cuts one.
pub(super) fn halves(mask: u16) -> Option<u8> {
    if mask == 0xffff {
        return Some(0xff);
    }
    let (low, high) = (mask & 0x5555, mask >> 1 & 0x5555);
    (low == high).then(|| {
        let pairs = (low | low >> 1) & 0x3333;
        let fours = (pairs | pairs >> 2) & 0x0f0f;
        (fours | fours >> 4) as u8
    })
}
