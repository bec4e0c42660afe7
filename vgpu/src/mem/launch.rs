//! Device memory from a kernel's side: each access checked, counted, and done.

use super::allocation::Allocation;
use super::atomics;
use super::blocks::{Blocks, Conflict};
use super::copies::Parts;
use super::global::Table;
use super::lines::{Lines, lanes};
use super::order::{Kind, Order};
use super::{Request, Words};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check};
use crate::ir::{AtomOp, Order as Ordering, Ty};
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Device memory as one launch sees it; shared by the threads that run blocks.
pub struct LaunchMemory {
    table: Arc<Table>,
    tag: u16,
    races: Races,
}

enum Races {
    Apart(Blocks),
    Communicating(Mutex<Order>),
}

impl LaunchMemory {
    pub(super) fn new(table: Arc<Table>, tag: u16, communicates: bool) -> LaunchMemory {
        let races = if communicates {
            Races::Communicating(Mutex::new(Order::new(tag)))
        } else {
            Races::Apart(Blocks::new(tag))
        };
        LaunchMemory { table, tag, races }
    }

    /// What block `block` (its linear number in the grid) accesses memory through.
    pub fn block(&self, block: u32) -> BlockMemory<'_> {
        BlockMemory { launch: self, block, recent: Default::default(), turn: Cell::new(0), looks: Cell::new(0) }
    }
}

/// Allocations that a block finds without a search.
const RECENT: usize = 4;

/// Device memory as one block sees it; stays on the thread that runs the block.
pub struct BlockMemory<'a> {
    launch: &'a LaunchMemory,
    block: u32,
    /// Places in the table of the allocations found last.
    recent: [Cell<usize>; RECENT],
    turn: Cell<usize>,
    looks: Cell<u64>,
}

/// An access, as far as races are concerned.
#[derive(Clone, Copy)]
struct Use {
    kind: Kind,
    non_coherent: bool,
}

/// What an access touched: different sectors, those of them that the launch had not touched before, and bytes.
#[derive(Default)]
struct Seen {
    sectors: u64,
    fresh: u64,
    bytes: u64,
    /// The last sector, counted from 1.
    last: usize,
}

impl Seen {
    #[inline(always)]
    fn line(&mut self, allocation: &Allocation, line: usize, mask: u16, tag: u16, store: bool) {
        let sector = line / 2 + 1;
        if sector != self.last {
            self.last = sector;
            self.sectors += 1;
            self.fresh += u64::from(allocation.first_touch(line, tag, store));
        }
        self.bytes += u64::from(mask.count_ones());
    }
}

impl<'a> BlockMemory<'a> {
    pub fn load(
        &self,
        r: &Request<'_>,
        order: Ordering,
        into: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        self.visit(r, order, counts, |allocation, mask, lines| {
            allocation.load(r, mask, into);
            let defined = lines.iter().all(|(line, bytes)| allocation.is_defined(line, bytes));
            mark_undefined(r, mask, defined, into, |lane| {
                let offset = (r.addresses[lane] - allocation.start) as usize;
                allocation.undefined(offset / 16) >> (offset % 16)
            });
        })
    }

    /// All of a load but the data: bounds, races, counts.
    pub(super) fn check_load(&self, r: &Request<'_>, order: Ordering, counts: &mut Counts) -> Result<(), BadAccess> {
        self.visit(r, order, counts, |_, _, _| ())
    }

    /// A load that gets its data by `take`, allocation by allocation.
    #[inline(always)]
    fn visit(
        &self,
        r: &Request<'_>,
        order: Ordering,
        counts: &mut Counts,
        mut take: impl FnMut(&Allocation, u32, &Lines),
    ) -> Result<(), BadAccess> {
        let relaxed = order.reaches_blocks();
        let kind = if relaxed { Kind::RelaxedRead } else { Kind::Read };
        let usage = Use { kind, non_coherent: order == Ordering::NonCoherent };
        misaligned(r)?;
        let mut seen = Seen::default();
        self.each_allocation(r, |allocation, mask| {
            let lines = Lines::of(r, mask, allocation.start);
            self.touch(r, allocation, &lines, usage, &mut seen)?;
            take(allocation, mask, &lines);
            Ok(())
        })?;
        if r.mask != 0 {
            counts.unique_load_sectors += seen.fresh;
            counts.global_load_requests += 1;
            counts.global_load_sectors += seen.sectors;
            counts.global_load_least_sectors += seen.bytes.div_ceil(32);
            counts.global_load_bytes += u64::from(r.mask.count_ones()) * r.bytes as u64;
        }
        if relaxed {
            self.acquire(r, order.acquires());
        }
        Ok(())
    }

    /// The source of a cp.async: the first `sizes[lane]` of `to.bytes` bytes from each lane's address.
    pub(super) fn check_copy(
        &self,
        to: &Request<'_>,
        from: &[u64; 32],
        sizes: &[u32; 32],
        parts: Parts,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let (whole, some) = (parts.whole, parts.whole | parts.some);
        misaligned(&Request { addresses: from, mask: some, bytes: to.bytes })?;
        counts.cp_async_bytes += to.bytes as u64 * u64::from(to.mask.count_ones());
        let whole = Request { addresses: from, mask: whole, bytes: to.bytes };
        self.check_load(&whole, Ordering::Weak, counts)?;
        for lane in lanes(parts.some) {
            self.check_part(from[lane], sizes[lane] as usize, lane, counts)?;
        }
        counts.global_load_requests += u64::from(whole.mask == 0 && some != 0);
        Ok(())
    }

    /// A part of a lane's copy, in pieces that a load could have; it lies in one sector.
    fn check_part(&self, from: u64, size: usize, lane: usize, counts: &mut Counts) -> Result<(), BadAccess> {
        let mut pieces = Counts::default();
        let mut done = 0;
        while done < size {
            let bytes = 1 << (size - done).ilog2();
            let mut addresses = [0; 32];
            addresses[lane] = from + done as u64;
            self.check_load(&Request { addresses: &addresses, mask: 1 << lane, bytes }, Ordering::Weak, &mut pieces)?;
            done += bytes;
        }
        counts.unique_load_sectors += pieces.unique_load_sectors;
        counts.global_load_sectors += 1;
        counts.global_load_least_sectors += 1;
        counts.global_load_bytes += size as u64;
        Ok(())
    }

    pub fn store(&self, r: &Request<'_>, order: Ordering, from: &Words, counts: &mut Counts) -> Result<(), BadAccess> {
        let relaxed = order.reaches_blocks();
        if relaxed && order.releases() {
            self.fence();
        }
        let kind = if relaxed { Kind::RelaxedWrite } else { Kind::Write };
        self.check_store(r, kind, counts)?;
        let undefined = has_undefined(r, from);
        self.each_allocation(r, |allocation, mask| {
            allocation.store(r, mask, from);
            for (line, bytes) in Lines::of(r, mask, allocation.start).iter() {
                allocation.define(line, bytes);
            }
            if undefined {
                for lane in lanes(mask) {
                    let offset = (r.addresses[lane] - allocation.start) as usize;
                    allocation.undefine(offset / 16, undefined_bytes(r.bytes, lane, from) << (offset % 16));
                }
            }
            Ok(())
        })?;
        if relaxed {
            self.release(r);
        }
        Ok(())
    }

    fn check_store(&self, r: &Request<'_>, kind: Kind, counts: &mut Counts) -> Result<(), BadAccess> {
        misaligned(r)?;
        let (usage, mut seen) = (Use { kind, non_coherent: false }, Seen::default());
        self.each_allocation(r, |allocation, mask| {
            self.touch(r, allocation, &Lines::of(r, mask, allocation.start), usage, &mut seen)
        })?;
        if r.mask != 0 {
            counts.unique_store_sectors += seen.fresh;
            counts.global_store_requests += 1;
            counts.global_store_sectors += seen.sectors;
            counts.global_store_least_sectors += seen.bytes.div_ceil(32);
            counts.global_store_bytes += u64::from(r.mask.count_ones()) * r.bytes as u64;
        }
        Ok(())
    }

    /// One lane after the other, lowest first (highest first when `reverse`); `old` gets the values before. Its traffic
    /// counts as a store. One whose scope is the block is to other blocks like any access.
    #[allow(clippy::too_many_arguments)]
    pub fn atomic(
        &self,
        r: &Request<'_>,
        order: Ordering,
        op: AtomOp,
        ty: Ty,
        b: &Words,
        c: Option<&Words>,
        reverse: bool,
        old: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let kind = if order.reaches_blocks() { Kind::RelaxedWrite } else { Kind::Write };
        self.check_store(r, kind, counts)?;
        counts.atomics += u64::from(r.mask != 0);
        // One at a time, whatever the threads that run the blocks do.
        let alone = self.order();
        let mut turns: Vec<usize> = lanes(r.mask).collect();
        if reverse {
            turns.reverse();
        }
        for lane in turns {
            let address = r.addresses[lane];
            let allocation = self.allocation(address).ok_or_else(|| self.outside(r))?;
            let offset = (address - allocation.start) as usize;
            let bytes = part_mask(r.bytes) << (offset % 16);
            let defined = allocation.is_defined(offset / 16, bytes);
            if !defined && op != AtomOp::Exch {
                return Err(uninitialised(lane, address));
            }
            let before = allocation.value(address, r.bytes);
            let c = c.map_or(0, |c| value(c, lane, r.bytes));
            let after = atomics::apply(op, ty, before, value(b, lane, r.bytes), c, true);
            allocation.set_value(address, r.bytes, after);
            allocation.define(offset / 16, bytes);
            set_value(old, lane, r.bytes, before, !defined);
        }
        drop(alone);
        if kind.relaxed() {
            self.release(r);
            self.acquire(r, true);
        }
        Ok(())
    }

    /// The block executed a fence of GPU scope: what it wrote before is ordered before its next atomic.
    pub fn fence(&self) {
        if let Some(mut order) = self.order() {
            order.fence(self.block);
        }
    }

    fn order(&self) -> Option<MutexGuard<'a, Order>> {
        match &self.launch.races {
            Races::Apart(_) => None,
            Races::Communicating(order) => Some(order.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Atomics and relaxed loads so far.
    pub fn looks(&self) -> u64 {
        self.looks.get()
    }

    fn acquire(&self, r: &Request<'_>, now: bool) {
        self.looks.set(self.looks.get() + 1);
        if let Some(mut order) = self.order() {
            lanes(r.mask).for_each(|lane| order.acquire(self.block, r.addresses[lane], now));
        }
    }

    fn release(&self, r: &Request<'_>) {
        if let Some(mut order) = self.order() {
            lanes(r.mask).for_each(|lane| order.release(self.block, r.addresses[lane]));
        }
    }

    pub(super) fn allocation(&self, address: u64) -> Option<&'a Allocation> {
        let live = &self.launch.table.live;
        for place in &self.recent {
            if let Some(allocation) = live.get(place.get())
                && address.wrapping_sub(allocation.start) < allocation.bytes as u64
            {
                return Some(allocation);
            }
        }
        let place = self.launch.table.place(address)?;
        let turn = self.turn.get();
        self.recent[turn].set(place);
        self.turn.set((turn + 1) % RECENT);
        Some(&live[place])
    }

    /// The lanes by the allocation they lie in: nearly always one.
    fn each_allocation(
        &self,
        r: &Request<'_>,
        mut f: impl FnMut(&'a Allocation, u32) -> Result<(), BadAccess>,
    ) -> Result<(), BadAccess> {
        if r.mask == 0 {
            return Ok(());
        }
        let (low, high) = r.span();
        if let Some(allocation) = self.allocation(low)
            && allocation.holds(high, r.bytes)
        {
            return f(allocation, r.mask);
        }
        let mut rest = r.mask;
        while rest != 0 {
            let first = r.addresses[rest.trailing_zeros() as usize];
            let allocation =
                self.allocation(first).filter(|a| a.holds(first, r.bytes)).ok_or_else(|| self.outside(r))?;
            let inside = lanes(rest).filter(|&lane| allocation.holds(r.addresses[lane], r.bytes));
            let inside = inside.fold(0, |mask, lane| mask | 1 << lane);
            f(allocation, inside)?;
            rest &= !inside;
        }
        Ok(())
    }

    /// Races with other blocks, and the counts, line by line.
    #[inline(always)]
    fn touch(
        &self,
        r: &Request<'_>,
        allocation: &Allocation,
        lines: &Lines,
        usage: Use,
        seen: &mut Seen,
    ) -> Result<(), BadAccess> {
        let bad = |line, conflict| race(r, allocation.start + 16 * line as u64, self.block, usage.kind, conflict);
        let store = usage.kind.writes();
        seen.last = 0;
        match &self.launch.races {
            Races::Apart(blocks) => {
                for (line, mask) in lines.iter() {
                    seen.line(allocation, line, mask, self.launch.tag, store);
                    let record = allocation.record(line);
                    if store {
                        blocks.write(record, line, mask, self.block)
                    } else {
                        blocks.read(record, line, mask, self.block, usage.non_coherent)
                    }
                    .map_err(|conflict| bad(line, conflict))?;
                }
            }
            Races::Communicating(order) => {
                let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
                for (line, mask) in lines.iter() {
                    seen.line(allocation, line, mask, self.launch.tag, store);
                    order
                        .touch(allocation.record(line), mask, self.block, usage.kind, usage.non_coherent)
                        .map_err(|conflict| bad(line, conflict))?;
                }
            }
        }
        Ok(())
    }

    /// The report for lanes that lie in no allocation.
    fn outside(&self, r: &Request<'_>) -> BadAccess {
        let table = &self.launch.table;
        let is_inside = |address| table.place(address).is_some_and(|place| table.live[place].holds(address, r.bytes));
        let outside =
            lanes(r.mask).filter(|&lane| !is_inside(r.addresses[lane])).fold(0, |mask, lane| mask | 1 << lane);
        let address = r.addresses[u32::trailing_zeros(outside) as usize % 32];
        if let Some((start, bytes)) = table.freed(address) {
            let detail = format!("{} bytes at {address:#x}, in the freed allocation {start:#x}..+{bytes}", r.bytes);
            return BadAccess { check: Check::UseAfterFree, lanes: outside, address: Some(address), detail };
        }
        let near = table.live.partition_point(|a| a.start <= address).checked_sub(1).map(|place| &table.live[place]);
        let detail = match (near, table.live.first()) {
            (Some(a), _) => {
                let beyond = address.saturating_add(r.bytes as u64) - a.end();
                format!("{} bytes at {address:#x}, {beyond} beyond the end of {:#x}..+{}", r.bytes, a.start, a.bytes)
            }
            (None, _) => format!("{} bytes at {address:#x}, before every allocation", r.bytes),
        };
        BadAccess { check: Check::OutOfBounds, lanes: outside, address: Some(address), detail }
    }
}

fn race(r: &Request<'_>, line: u64, block: u32, kind: Kind, conflict: Conflict) -> BadAccess {
    let address = line + u64::from(conflict.mask.trailing_zeros());
    let touching = lanes(r.mask).filter(|&lane| address.wrapping_sub(r.addresses[lane]) < r.bytes as u64);
    let lanes = touching.fold(0, |mask, lane| mask | 1 << lane);
    let other = conflict.block.map_or("several blocks".to_string(), |block| format!("block {block}"));
    let theirs = if conflict.wrote { "wrote" } else { "read" };
    let detail = match (conflict.non_coherent, kind) {
        (true, _) => format!("ld.global.nc in block {block} of what {other} {theirs} in this launch"),
        (_, Kind::Read | Kind::RelaxedRead) => {
            format!("block {block} reads what {other} {theirs} in this launch, and nothing orders them")
        }
        _ => format!("block {block} writes what {other} {theirs} in this launch, and nothing orders them"),
    };
    let check = if conflict.non_coherent { Check::NonCoherentRead } else { Check::GlobalRace };
    BadAccess { check, lanes, address: Some(address), detail }
}

pub(super) fn misaligned(r: &Request<'_>) -> Result<(), BadAccess> {
    let lanes = r.misaligned();
    if lanes == 0 {
        return Ok(());
    }
    let address = r.addresses[lanes.trailing_zeros() as usize];
    let detail = format!("{address:#x} is no multiple of {}, as an access of {0} bytes needs", r.bytes);
    Err(BadAccess { check: Check::Misaligned, lanes, address: Some(address), detail })
}

pub(super) fn uninitialised(lane: usize, address: u64) -> BadAccess {
    let detail = "an atomic computes with bytes that nothing has written".to_string();
    BadAccess { check: Check::Uninitialised, lanes: 1 << lane, address: Some(address), detail }
}

/// The lowest `bytes` (1 to 16) of a line.
pub(super) fn part_mask(bytes: usize) -> u16 {
    0xffff >> (16 - bytes)
}

/// Lane `lane`'s value of 1 to 8 bytes.
pub(super) fn value(words: &Words, lane: usize, bytes: usize) -> u64 {
    let low = u64::from(words.bits[0][lane]);
    match bytes {
        8 => low | u64::from(words.bits[1][lane]) << 32,
        4 => low,
        _ => low & ((1 << (8 * bytes)) - 1),
    }
}

pub(super) fn set_value(words: &mut Words, lane: usize, bytes: usize, value: u64, undefined: bool) {
    let both = 1u64 << lane | 1 << (32 + lane);
    for word in 0..bytes.div_ceil(4) {
        words.bits[word][lane] = (value >> (32 * word)) as u32;
        words.undef[word] = if undefined { words.undef[word] | both } else { words.undef[word] & !both };
    }
}

/// Some lane of the request stores an undefined value.
pub(super) fn has_undefined(r: &Request<'_>, from: &Words) -> bool {
    let both = u64::from(r.mask) | u64::from(r.mask) << 32;
    from.undef[..r.bytes.div_ceil(4)].iter().any(|undef| undef & both != 0)
}

/// Which of a lane's bytes are undefined.
pub(super) fn undefined_bytes(bytes: usize, lane: usize, from: &Words) -> u16 {
    let mut undefined = 0;
    for word in 0..bytes.div_ceil(4) {
        let low = (from.undef[word] >> lane & 1) as u16 * 0b0011;
        let high = (from.undef[word] >> (32 + lane) & 1) as u16 * 0b1100;
        undefined |= (low | high) << (4 * word);
    }
    undefined & part_mask(bytes)
}

/// Sets the undefined bits of a load: none when `defined`, else as `undefined(lane)` tells, a bit a byte.
pub(super) fn mark_undefined(
    r: &Request<'_>,
    mask: u32,
    defined: bool,
    into: &mut Words,
    undefined: impl Fn(usize) -> u16,
) {
    let both = u64::from(mask) | u64::from(mask) << 32;
    into.undef[..r.bytes.div_ceil(4)].iter_mut().for_each(|undef| *undef &= !both);
    if defined {
        return;
    }
    for lane in lanes(mask) {
        let undefined = undefined(lane) & part_mask(r.bytes);
        for word in 0..r.bytes.div_ceil(4) {
            let of_word = undefined >> (4 * word);
            let (low, high) = (of_word & 0b0011 != 0, of_word & 0b1100 != 0);
            // A value narrower than a word is undefined as a whole.
            let (low, high) = if r.bytes < 4 { (low || high, low || high) } else { (low, high) };
            into.undef[word] |= u64::from(low) << lane | u64::from(high) << (32 + lane);
        }
    }
}
