//! Races between blocks that can order each other, by atomics and fences. They run on one thread, so that the order of
//! events is one; what is checked is whether the kernel made that order certain.
//!
//! A block has a clock and a view: the clock of every other block up to which that block's accesses are ordered before
//! its own (vector clocks, as in FastTrack, Flanagan & Freund 2009). A fence closes what the block did before; its next
//! atomic or relaxed store leaves that view at the address; a later atomic or acquiring load of another block there
//! takes it up, a relaxed load takes it up at the next fence.
//!
//! Most lines are only read, or belong to one block: their record tells it as in [`super::blocks`], of a block at one clock.
//! Others have a history. What several blocks read before has no names there: who then writes is told of a race if it
//! knows of no other block at all, and is trusted otherwise.

use super::blocks::{Access, By, Conflict, Own, Packing, Record, Shadow, bytes_of, halves};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

/// How a block accesses. Relaxed accesses and atomics do not race with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read = 0,
    Write = 1,
    RelaxedRead = 2,
    RelaxedWrite = 3,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Read, Kind::Write, Kind::RelaxedRead, Kind::RelaxedWrite];

    pub fn writes(self) -> bool {
        matches!(self, Kind::Write | Kind::RelaxedWrite)
    }

    pub fn relaxed(self) -> bool {
        matches!(self, Kind::RelaxedRead | Kind::RelaxedWrite)
    }

    pub fn conflicts(self, other: Kind) -> bool {
        (self.writes() || other.writes()) && !(self.relaxed() && other.relaxed())
    }
}

/// A block accessed bytes of a line at its clock.
#[derive(Clone, Copy)]
struct Touch {
    block: u32,
    clock: u32,
    mask: u16,
    /// Its number in the order of all accesses.
    when: u64,
    /// Its place in the program.
    place: u16,
}

impl Touch {
    fn conflict(&self, wrote: bool, mask: u16, non_coherent: bool) -> Conflict {
        let mask = self.mask & mask;
        Conflict { block: Some(self.block), several: false, place: self.place, wrote, mask, non_coherent }
    }
}

/// What happened to a line.
#[derive(Default)]
struct History {
    /// By kind, the newest last.
    touches: [Vec<Touch>; 4],
    /// Bytes that several read before the history began, one of those, and the place of its reading.
    read_by_many: u16,
    reader: (u32, u16),
}

/// (block, its clock), by block.
type View = Vec<(u32, u32)>;

struct Block {
    clock: u32,
    view: View,
    /// What the last fence closed.
    released: Option<View>,
    /// Taken up at the next fence.
    pending: View,
}

pub(super) struct Order {
    packing: Packing,
    now: u64,
    lines: Vec<History>,
    blocks: HashMap<u32, Block>,
    /// Views left at addresses.
    left: HashMap<u64, View>,
    /// The block that came last, and its clock.
    last: (u32, u32),
}

/// Bits of a block's number in a record; its clock has the others.
const BLOCK_BITS: u32 = 22;

impl Order {
    pub fn new(tag: u16) -> Order {
        Order {
            packing: Packing { tag },
            now: 0,
            lines: Vec::new(),
            blocks: HashMap::new(),
            left: HashMap::new(),
            last: (u32::MAX, 0),
        }
    }

    fn block(blocks: &mut HashMap<u32, Block>, block: u32) -> &mut Block {
        blocks.entry(block).or_insert_with(|| Block {
            clock: 1,
            view: View::new(),
            released: None,
            pending: View::new(),
        })
    }

    /// A block accesses the bytes `mask` of the line that `shadow` stands for.
    pub fn touch(
        &mut self,
        shadow: Shadow<'_>,
        mask: u16,
        by: By,
        kind: Kind,
        non_coherent: bool,
    ) -> Result<Own, Conflict> {
        let access = match kind {
            Kind::Write => Access::Write,
            Kind::Read if non_coherent => Access::ReadNonCoherent,
            _ => Access::Read,
        };
        let now = shadow.record.load(Relaxed);
        if !kind.relaxed()
            && let Some(halves) = halves(mask)
            && let Some(who) = self.who(by.block)
            && !self.is_earlier_self(now, who)
            && let Some(next) = self.packing.next(now, halves, who, access)
        {
            let block_of = |who| who & ((1 << BLOCK_BITS) - 1);
            let own = self.packing.own(self.packing.unpack(now), shadow.place.load(Relaxed), by, block_of);
            shadow.record.store(next, Relaxed);
            if self.packing.decides(next, who, access) {
                shadow.place.store(by.place, Relaxed);
            }
            return Ok(own);
        }
        self.touch_history(shadow, mask, by, kind, non_coherent).map(|()| Own::Another)
    }

    /// The block at its clock in one number, if both are small enough.
    fn who(&mut self, block: u32) -> Option<u32> {
        if self.last.0 != block {
            self.last = (block, Self::block(&mut self.blocks, block).clock);
        }
        let clock = self.last.1;
        (block < 1 << BLOCK_BITS && clock < 1 << (32 - BLOCK_BITS)).then_some(clock << BLOCK_BITS | block)
    }

    /// The record is of the same block at another clock: the two must not be taken for two blocks.
    fn is_earlier_self(&self, now: u64, who: u32) -> bool {
        match self.packing.unpack(now) {
            Record::Read { who: other, .. } | Record::Owned { who: other, .. } => {
                other != who && other % (1 << BLOCK_BITS) == who % (1 << BLOCK_BITS)
            }
            _ => false,
        }
    }

    fn touch_history(
        &mut self,
        shadow: Shadow<'_>,
        mask: u16,
        by: By,
        kind: Kind,
        non_coherent: bool,
    ) -> Result<(), Conflict> {
        let block = by.block;
        let place = self.place(shadow);
        let history = &mut self.lines[place];
        let me = Self::block(&mut self.blocks, block);
        self.now += 1;
        if non_coherent && let Some(t) = newest_write(history, mask) {
            return Err(t.conflict(true, mask, true));
        }
        let coherent = last_relaxed(history, block, mask);
        for other in Kind::ALL.into_iter().filter(|&other| kind.conflicts(other)) {
            let ordered = |t: &Touch| {
                t.block == block
                    || t.mask & mask == 0
                    || knows(&me.view, t.block) >= t.clock
                    || (other.relaxed() && t.when < coherent)
            };
            if let Some(t) = history.touches[other as usize].iter().find(|t| !ordered(t)) {
                return Err(t.conflict(other.writes(), mask, false));
            }
        }
        let shared = history.read_by_many & mask;
        if kind.writes() && shared != 0 {
            if me.view.is_empty() {
                let (reader, place) = history.reader;
                let other = (reader != block).then_some(reader);
                return Err(Conflict {
                    block: other,
                    several: true,
                    place,
                    wrote: false,
                    mask: shared,
                    non_coherent: false,
                });
            }
            history.read_by_many &= !mask;
        }
        if kind == Kind::Write {
            // Whoever is ordered after this write is ordered after what came before it.
            history.touches.iter_mut().for_each(|touches| touches.retain(|t| t.mask & !mask != 0));
        }
        remember(
            &mut history.touches[kind as usize],
            Touch { block, clock: me.clock, mask, when: self.now, place: by.place },
        );
        Ok(())
    }

    /// The line's history, made of its record if it has none.
    fn place(&mut self, shadow: Shadow<'_>) -> usize {
        let Shadow { record, place } = shadow;
        let last = place.load(Relaxed);
        let mut history = History::default();
        let mut add = |kind: Kind, who: u32, halves: u8, place: u16| {
            if halves != 0 {
                let (block, clock) = (who & ((1 << BLOCK_BITS) - 1), who >> BLOCK_BITS);
                history.touches[kind as usize].push(Touch { block, clock, mask: bytes_of(halves), when: 0, place });
            }
        };
        match self.packing.unpack(record.load(Relaxed)) {
            Record::Split { place } => return place as usize,
            Record::Untouched => {}
            Record::Owned { who, wrote, read } => {
                add(Kind::Write, who, wrote, last);
                add(Kind::Read, who, read, 0);
            }
            Record::Read { who, one, many } => {
                add(Kind::Read, who, one, last);
                history.reader = (who & ((1 << BLOCK_BITS) - 1), last);
                history.read_by_many = bytes_of(many);
            }
        }
        record.store(self.packing.split(self.lines.len() as u32), Relaxed);
        self.lines.push(history);
        self.lines.len() - 1
    }

    pub fn fence(&mut self, block: u32) {
        let me = Self::block(&mut self.blocks, block);
        let pending = std::mem::take(&mut me.pending);
        join(&mut me.view, &pending);
        let mut released = me.view.clone();
        join(&mut released, &[(block, me.clock)]);
        me.released = Some(released);
        me.clock += 1;
        self.last = (block, me.clock);
    }

    /// An atomic or a relaxed store at `address`: leaves what the last fence closed.
    pub fn release(&mut self, block: u32, address: u64) {
        if let Some(released) = self.blocks.get(&block).and_then(|me| me.released.as_ref()) {
            join(self.left.entry(address).or_default(), released);
        }
    }

    /// An atomic or an acquiring load (`now`), or a relaxed load, at `address`.
    pub fn acquire(&mut self, block: u32, address: u64, now: bool) {
        if let Some(left) = self.left.get(&address) {
            let me = Self::block(&mut self.blocks, block);
            join(if now { &mut me.view } else { &mut me.pending }, left);
        }
    }
}

fn newest_write(history: &History, mask: u16) -> Option<Touch> {
    let writes = [Kind::Write, Kind::RelaxedWrite].into_iter().flat_map(|kind| &history.touches[kind as usize]);
    writes.filter(|t| t.mask & mask != 0).max_by_key(|t| t.when).copied()
}

/// When `block` last accessed these bytes in a relaxed way: relaxed accesses of others before that are ordered, for all
/// accesses of one address by atomics and the like have one order.
fn last_relaxed(history: &History, block: u32, mask: u16) -> u64 {
    let relaxed = [Kind::RelaxedRead, Kind::RelaxedWrite].into_iter().flat_map(|kind| &history.touches[kind as usize]);
    relaxed.filter(|t| t.block == block && t.mask & mask == mask).map(|t| t.when).max().unwrap_or(0)
}

/// A newer access of a block stands for its older ones of the same bytes.
fn remember(touches: &mut Vec<Touch>, new: Touch) {
    if let Some(t) = touches.iter_mut().rev().find(|t| t.block == new.block) {
        if t.clock == new.clock && t.mask == new.mask {
            (t.when, t.place) = (new.when, new.place);
            return;
        }
        touches.retain(|t| t.block != new.block || t.mask & !new.mask != 0);
    }
    touches.push(new);
}

fn knows(view: &View, block: u32) -> u32 {
    view.binary_search_by_key(&block, |&(b, _)| b).map_or(0, |i| view[i].1)
}

/// The later clock of each block.
fn join(view: &mut View, other: &[(u32, u32)]) {
    for &(block, clock) in other {
        match view.binary_search_by_key(&block, |&(b, _)| b) {
            Ok(i) => view[i].1 = view[i].1.max(clock),
            Err(i) => view.insert(i, (block, clock)),
        }
    }
}
