//! Races between the blocks of a launch whose blocks cannot order each other: two blocks touch one byte and one of them
//! writes. Exact to the byte, whatever the threads that run the blocks do.
//!
//! A line's record is one 64-bit word: the launch's tag (14 bits), a kind (2), two masks of 2-byte halves (8 each) and a
//! block (32). It tells all as long as at most one block has bytes of its own in the line: `Read` has the halves that
//! only `block` read and those that several read; `Owned`, what `block` wrote and what it read. Everything else is
//! `Split`: the word is the place of a [`SplitLine`], which knows each byte.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};

/// Tags are 1 to this, then begin anew.
pub(super) const TAGS: u32 = (1 << 14) - 1;

const READ: u64 = 1;
const OWNED: u64 = 2;
const SPLIT: u64 = 3;

/// Locks that threads share when they meet split lines.
const SHARDS: usize = 64;

/// What an access met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The other block; `None`: several.
    pub block: Option<u32>,
    pub wrote: bool,
    /// Bytes of the line that both touched.
    pub mask: u16,
    /// It is no race, but a read through the non-coherent path of what was written.
    pub non_coherent: bool,
}

pub(super) struct Blocks {
    tag: u16,
    split: Vec<Mutex<Vec<SplitLine>>>,
}

/// Who read and wrote each byte: 0 nobody, block + 1, or [`MANY`].
#[derive(Clone)]
struct SplitLine {
    readers: [u32; 16],
    writers: [u32; 16],
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
        Blocks { tag, split: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Block `block` reads the bytes of `mask`.
    #[inline]
    pub fn read(
        &self,
        record: &AtomicU64,
        line: usize,
        mask: u16,
        block: u32,
        non_coherent: bool,
    ) -> Result<(), Conflict> {
        let now = record.load(SeqCst);
        if now >> 48 == u64::from(self.tag) << 2 | READ {
            let mine = if now as u32 == block { (now >> 40) as u8 } else { 0 };
            if mine | (now >> 32) as u8 == 0xff {
                return Ok(());
            }
        }
        self.change(record, line, mask, block, if non_coherent { Access::ReadNonCoherent } else { Access::Read })
    }

    /// Block `block` writes them.
    #[inline]
    pub fn write(&self, record: &AtomicU64, line: usize, mask: u16, block: u32) -> Result<(), Conflict> {
        let all_mine = self.pack(OWNED, 0xff, 0, block);
        if record.load(SeqCst) == all_mine {
            return Ok(());
        }
        self.change(record, line, mask, block, Access::Write)
    }

    fn change(&self, record: &AtomicU64, line: usize, mask: u16, block: u32, access: Access) -> Result<(), Conflict> {
        let halves = halves(mask);
        let mut now = record.load(SeqCst);
        loop {
            let new = halves.and_then(|halves| self.next(now, halves, block, access));
            let Some(new) = new else { return self.split(record, line, mask, block, access) };
            if new == now {
                return Ok(());
            }
            // Sequentially consistent: of two blocks that change the record at once, the later one sees the other.
            match record.compare_exchange_weak(now, new, SeqCst, SeqCst) {
                Ok(_) => return Ok(()),
                Err(other) => now = other,
            }
        }
    }

    fn pack(&self, kind: u64, a: u8, b: u8, block: u32) -> u64 {
        u64::from(self.tag) << 50 | kind << 48 | u64::from(a) << 40 | u64::from(b) << 32 | u64::from(block)
    }

    /// The record after an access, or `None` when it needs (or is) a split line.
    fn next(&self, now: u64, halves: u8, block: u32, access: Access) -> Option<u64> {
        let kind = if now >> 50 == u64::from(self.tag) { now >> 48 & 3 } else { 0 };
        let (a, b, owner) = ((now >> 40) as u8, (now >> 32) as u8, now as u32);
        match (kind, access) {
            (0, Access::Write) => Some(self.pack(OWNED, halves, 0, block)),
            (0, _) => Some(self.pack(READ, halves, 0, block)),
            (READ, Access::Write) => (owner == block && b == 0).then(|| self.pack(OWNED, halves, a & !halves, block)),
            (READ, _) if owner == block => Some(self.pack(READ, a | halves & !b, b, block)),
            (READ, _) => {
                let (theirs, many) = (a & !halves, b | a & halves);
                let mine = halves & !many;
                match (theirs, mine) {
                    (_, 0) => Some(self.pack(READ, theirs, many, owner)),
                    (0, _) => Some(self.pack(READ, mine, many, block)),
                    _ => None,
                }
            }
            (OWNED, _) if owner != block => None,
            (OWNED, Access::Write) => Some(self.pack(OWNED, a | halves, b & !halves, block)),
            (OWNED, Access::ReadNonCoherent) if a & halves != 0 => None,
            (OWNED, _) => Some(self.pack(OWNED, a, b | halves & !a, block)),
            _ => None,
        }
    }

    fn split(&self, record: &AtomicU64, line: usize, mask: u16, block: u32, access: Access) -> Result<(), Conflict> {
        let mut shard = self.split[line % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = record.load(SeqCst);
            if now >> 48 == u64::from(self.tag) << 2 | SPLIT {
                let place = (now as u32) as usize;
                return shard[place].touch(mask, block, access);
            }
            let new = u64::from(self.tag) << 50 | SPLIT << 48 | shard.len() as u64;
            if record.compare_exchange(now, new, SeqCst, SeqCst).is_ok() {
                shard.push(self.unpacked(now));
            }
        }
    }

    fn unpacked(&self, now: u64) -> SplitLine {
        let mut line = SplitLine { readers: [0; 16], writers: [0; 16] };
        if now >> 50 != u64::from(self.tag) {
            return line;
        }
        let owned = now >> 48 & 3 == OWNED;
        let (a, b, owner) = ((now >> 40) as u8, (now >> 32) as u8, now as u32 + 1);
        for byte in 0..16 {
            let (a, b) = (a >> (byte / 2) & 1 != 0, b >> (byte / 2) & 1 != 0);
            if owned {
                line.writers[byte] = if a { owner } else { 0 };
                line.readers[byte] = if b { owner } else { 0 };
            } else {
                line.readers[byte] = match (a, b) {
                    (_, true) => MANY,
                    (true, false) => owner,
                    (false, false) => 0,
                };
            }
        }
        line
    }
}

impl SplitLine {
    fn touch(&mut self, mask: u16, block: u32, access: Access) -> Result<(), Conflict> {
        let me = block + 1;
        for byte in (0..16).filter(|byte| mask >> byte & 1 != 0) {
            let (reader, writer) = (self.readers[byte], self.writers[byte]);
            let conflict = |other: u32, wrote, non_coherent| Conflict {
                block: (other != MANY).then(|| other - 1),
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
                Access::Write => self.writers[byte] = me,
                _ if reader == 0 => self.readers[byte] = me,
                _ if reader != me => self.readers[byte] = MANY,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The mask in halves of two bytes; `None` when it cuts one.
fn halves(mask: u16) -> Option<u8> {
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
