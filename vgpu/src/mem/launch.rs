//! Device memory from a kernel's side: each access checked, counted, and done.

use super::allocation::Allocation;
use super::atomics;
use super::blocks::{Blocks, By, Conflict, Own, meets_earlier};
use super::copies::Parts;
use super::global::Table;
use super::inside::{Inside, Meeting, Now};
use super::lines::{LINE, Lines, lanes};
use super::order::{Kind, Order};
use super::race_report::{race, touching};
use super::sites::Sites;
use super::warps::Warps;
use super::words::{
    has_undefined, mark_undefined, misaligned, part_mask, set_value, undefined_bytes, uninitialised, value,
};
use super::{Request, SharedMemory, Words};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check};
use crate::ir::{AtomOp, Inst, Order as Ordering, Ty};
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Device memory as one launch sees it; shared by the threads that run blocks.
pub struct LaunchMemory {
    table: Arc<Table>,
    tag: u16,
    races: Races,
    /// Earlier launches that may still run.
    unfinished: Vec<u16>,
    sites: Sites,
    /// Warps of a block.
    warps: usize,
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
        LaunchMemory { table, tag, races, sites: Sites::default(), warps: 1, unfinished: Vec::new() }
    }

    /// What runs: the code, for the places that reports name, in blocks of `warps` warps, between which races are looked
    /// for if they are several. `exact`: the launch is run again to tell of a race between blocks.
    pub fn describe(&mut self, code: &[Inst], warps: usize, exact: bool) {
        (self.sites, self.warps) = (Sites::of(code), warps);
        if let Races::Apart(blocks) = &mut self.races {
            blocks.exact = exact;
        }
    }

    /// Its number among the device's launches.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Launches that may still run: a block that does not wait for them must not meet them.
    pub fn set_unfinished(&mut self, launches: &[u16]) {
        self.unfinished = launches.to_vec();
    }

    /// What block `block` (its linear number in the grid) accesses memory through.
    pub fn block(&self, block: u32) -> BlockMemory<'_> {
        BlockMemory {
            launch: self,
            block,
            recent: Default::default(),
            turn: Cell::new(0),
            looks: Cell::new(0),
            early: Cell::new(false),
            place: Cell::new(0),
            now: Cell::default(),
            is_due: Cell::new(false),
            inside: RefCell::default(),
        }
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
    /// The accesses of now are made before earlier launches are waited for.
    early: Cell<bool>,
    /// The place ([`super::sites`]) of the accesses that are made now.
    place: Cell<u16>,
    now: Cell<Now>,
    /// [`Inside`] has notes to put in order.
    is_due: Cell<bool>,
    inside: RefCell<Inside>,
}

/// An access, as far as races are concerned.
#[derive(Clone, Copy)]
struct Use {
    kind: Kind,
    /// To other warps of the block.
    inside: Kind,
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
        let inside = if order.scope().is_some() { Kind::RelaxedRead } else { Kind::Read };
        let usage = Use { kind, inside, non_coherent: order == Ordering::NonCoherent };
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
        let inside = if order.scope().is_some() { Kind::RelaxedWrite } else { Kind::Write };
        let undefined = has_undefined(r, from);
        let put = |allocation: &Allocation, mask: u32, lines: &Lines| {
            allocation.store(r, mask, from);
            for (line, bytes) in lines.iter() {
                allocation.define(line, bytes);
            }
            if undefined {
                for lane in lanes(mask) {
                    let offset = (r.addresses[lane] - allocation.start) as usize;
                    allocation.undefine(offset / 16, undefined_bytes(r.bytes, lane, from) << (offset % 16));
                }
            }
        };
        // Into several allocations only when all lanes are checked.
        let mut is_done = r.mask == 0;
        self.visit_store(r, Use { kind, inside, non_coherent: false }, counts, |allocation, mask, lines| {
            if mask == r.mask {
                put(allocation, mask, lines);
                is_done = true;
            }
        })?;
        if !is_done {
            self.each_allocation(r, |allocation, mask| {
                put(allocation, mask, &Lines::of(r, mask, allocation.start));
                Ok(())
            })?;
        }
        if relaxed {
            self.release(r);
        }
        Ok(())
    }

    pub(super) fn check_store(
        &self,
        r: &Request<'_>,
        kind: Kind,
        inside: Kind,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        self.visit_store(r, Use { kind, inside, non_coherent: false }, counts, |_, _, _| ())
    }

    /// A store whose data `put` takes to allocation after allocation.
    #[inline(always)]
    fn visit_store(
        &self,
        r: &Request<'_>,
        usage: Use,
        counts: &mut Counts,
        mut put: impl FnMut(&Allocation, u32, &Lines),
    ) -> Result<(), BadAccess> {
        misaligned(r)?;
        let mut seen = Seen::default();
        self.each_allocation(r, |allocation, mask| {
            let lines = Lines::of(r, mask, allocation.start);
            self.touch(r, allocation, &lines, usage, &mut seen)?;
            put(allocation, mask, &lines);
            Ok(())
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
        self.check_store(r, kind, Kind::RelaxedWrite, counts)?;
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

    /// Whether what comes now lies before `griddepcontrol.wait`.
    pub fn set_early(&self, early: bool) {
        self.early.set(early);
    }

    /// What an access before `griddepcontrol.wait` meets of an earlier launch.
    #[cold]
    fn meet_earlier(&self, r: &Request<'_>, at: u64, record: u64, mask: u16, store: bool) -> Result<(), BadAccess> {
        let met = self.launch.unfinished.iter().find_map(|&tag| meets_earlier(record, tag, mask, store));
        let Some((block, wrote)) = met else { return Ok(()) };
        let (mine, theirs) = (if store { "writes" } else { "reads" }, if wrote { "wrote" } else { "read" });
        let who = if block == u32::MAX { "several blocks".to_string() } else { format!("block {block}") };
        let detail = format!(
            "{mine} what {who} of an earlier launch {theirs}, which may still run: no griddepcontrol.wait lies before"
        );
        let touching = lanes(r.mask).filter(|&lane| (r.addresses[lane] & !15) == at);
        let lanes = touching.fold(0, |mask, lane| mask | 1 << lane);
        let address = Some(at + u64::from(mask.trailing_zeros()));
        Err(BadAccess { check: Check::GridDependency, lanes, address, detail, other: None })
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
        let bad = |line, conflict| self.race(r, allocation.start + LINE * line as u64, usage.kind, conflict);
        let store = usage.kind.writes();
        let by = By { block: self.block, place: self.place.get() };
        let mut own = Own::No;
        seen.last = 0;
        if self.early.get() {
            for (line, mask) in lines.iter() {
                let record = allocation.shadow(line).record.load(std::sync::atomic::Ordering::Relaxed);
                self.meet_earlier(r, allocation.start + 16 * line as u64, record, mask, store)?;
            }
        }
        match &self.launch.races {
            Races::Apart(blocks) => {
                for (line, mask) in lines.iter() {
                    seen.line(allocation, line, mask, self.launch.tag, store);
                    let shadow = allocation.shadow(line);
                    let found = if store {
                        blocks.write(shadow, line, mask, by)
                    } else {
                        blocks.read(shadow, line, mask, by, usage.non_coherent)
                    };
                    own = own.max(found.map_err(|conflict| bad(line, conflict))?);
                }
            }
            Races::Communicating(order) => {
                let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
                for (line, mask) in lines.iter() {
                    seen.line(allocation, line, mask, self.launch.tag, store);
                    let found = order.touch(allocation.shadow(line), mask, by, usage.kind, usage.non_coherent);
                    own = own.max(found.map_err(|conflict| bad(line, conflict))?);
                }
            }
        }
        if self.launch.warps > 1 && (store || own != Own::No) {
            self.note(r, allocation, lines, usage.inside, own);
        }
        Ok(())
    }

    /// The report of a race with another block, or of its like.
    #[cold]
    fn race(&self, r: &Request<'_>, line: u64, kind: Kind, conflict: Conflict) -> BadAccess {
        let other = conflict.block.and_then(|block| self.launch.sites.access(conflict.place, block.into()));
        race(r, line, self.block, kind, conflict, other)
    }

    /// For races with other warps of the block.
    fn note(&self, r: &Request<'_>, allocation: &Allocation, lines: &Lines, kind: Kind, own: Own) {
        let (mut inside, now) = (self.inside.borrow_mut(), self.now.get());
        let mut note = |first: u64, count: u32, mask: u16| {
            if inside.note(first, count, mask, kind, own, now) {
                self.is_due.set(true);
            }
        };
        let (first, bytes) = (allocation.start / LINE, 32 * r.bytes as u64);
        if lines.contiguous && r.addresses[0].is_multiple_of(LINE) && bytes.is_multiple_of(LINE) {
            return note(r.addresses[0] / LINE, (bytes / LINE) as u32, u16::MAX);
        }
        lines.iter().for_each(|(line, mask)| note(first + line as u64, 1, mask));
    }

    /// Accesses from now on are made by the warp, at the instruction that `shared` knows.
    #[inline]
    pub fn at(&self, warp: usize, shared: &SharedMemory) {
        let now = shared.now(warp);
        self.place.set(self.launch.sites.place(now.at, warp));
        self.now.set(now);
    }

    /// Whether [`SharedMemory::after_global`] has something to do.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.is_due.get()
    }

    /// The race with another warp of the block that the request showed.
    pub(super) fn settle(&self, r: &Request<'_>, warp: usize, warps: &Warps) -> Result<(), BadAccess> {
        self.is_due.set(false);
        self.inside.borrow_mut().settle(warps).map_err(|Meeting { address, wrote, writes, other }| {
            let (mine, theirs) = (if writes { "writes" } else { "reads" }, if wrote { "wrote" } else { "read" });
            let their_warp = other.warp.unwrap_or_default();
            let detail = format!("warp {warp} {mine} what warp {their_warp} {theirs}, and no barrier lies between");
            let lanes = touching(r, address);
            BadAccess { check: Check::GlobalRace, lanes, address: Some(address), detail, other: Some(other) }
        })
    }

    /// The report for lanes that lie in no allocation.
    fn outside(&self, r: &Request<'_>) -> BadAccess {
        let table = &self.launch.table;
        let is_inside = |address| table.place(address).is_some_and(|place| table.live[place].holds(address, r.bytes));
        let outside =
            lanes(r.mask).filter(|&lane| !is_inside(r.addresses[lane])).fold(0, |mask, lane| mask | 1 << lane);
        let address = r.addresses[u32::trailing_zeros(outside) as usize % 32];
        if let Some(why) = table.withheld(address) {
            let detail = format!("{} bytes at {address:#x}: this memory is {why}", r.bytes);
            return BadAccess {
                check: Check::StreamOrder,
                lanes: outside,
                address: Some(address),
                detail,
                other: None,
            };
        }
        if let Some((start, bytes)) = table.freed(address) {
            let detail = format!("{} bytes at {address:#x}, in the freed allocation {start:#x}..+{bytes}", r.bytes);
            return BadAccess {
                check: Check::UseAfterFree,
                lanes: outside,
                address: Some(address),
                detail,
                other: None,
            };
        }
        let near = table.live.partition_point(|a| a.start <= address).checked_sub(1).map(|place| &table.live[place]);
        let detail = match (near, table.live.first()) {
            (Some(a), _) => {
                let beyond = address.saturating_add(r.bytes as u64) - a.end();
                format!("{} bytes at {address:#x}, {beyond} beyond the end of {:#x}..+{}", r.bytes, a.start, a.bytes)
            }
            (None, _) => format!("{} bytes at {address:#x}, before every allocation", r.bytes),
        };
        BadAccess { check: Check::OutOfBounds, lanes: outside, address: Some(address), detail, other: None }
    }
}
