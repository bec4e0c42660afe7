//! A block's shared memory: bytes, which of them are defined, and every access checked.
//! One file: each access is bytes, shadow and clash at once.

use super::agents::{Clash, agent_name};
use super::banks::{matrix_wavefronts, wavefronts};
use super::bulk::Life;
use super::copies::{Copies, Copy, Parts};
use super::inside::Now;
use super::lanes::{LaneClash, Lanes};
use super::lines::{LINE, Lines, lanes};
use super::mbarriers::Mbarriers;
use super::order::Kind;
use super::pins::Pins;
use super::warps::Warps;
use super::words::{
    has_undefined, mark_undefined, misaligned, part_mask, set_value, undefined_bytes, uninitialised, value,
};
use super::{BlockMemory, Request, SHARED_START, Words, atomics};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check, Earlier};
use crate::ir::{AtomOp, Order, Ty};

/// What an access to global memory does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalUse {
    Load,
    Store,
    Atomic,
}

#[derive(Default)]
pub struct SharedMemory {
    pub(super) bytes: usize,
    /// cp.async copies when issued.
    early: bool,
    pub(super) lines: Vec<[u32; 4]>,
    /// A bit for every byte of a line: written by this block.
    pub(super) defined: Vec<u16>,
    pub(super) races: Warps,
    pub(super) pins: Pins,
    lanes: Lanes,
    copies: Vec<Copies>,
    pub(super) mbarriers: Mbarriers,
    /// Grows whenever bytes change, or who wrote them.
    pub(super) changes: u64,
    /// How far the block has come.
    pub life: Life,
    /// Its rank in the cluster, and the numbers of the cluster's blocks.
    pub(super) rank: usize,
    pub(super) cluster: Vec<u64>,
}

impl SharedMemory {
    /// `bytes` of static and dynamic shared memory for a block of `warps` (at most 32); uninitialised. `early`: cp.async
    /// copies when issued, else when waited for.
    pub fn new(bytes: usize, warps: usize, early: bool) -> SharedMemory {
        let lines = bytes.div_ceil(LINE as usize);
        SharedMemory {
            bytes,
            early,
            lines: vec![[0; 4]; lines],
            defined: vec![0; lines],
            races: Warps::new(lines, warps),
            pins: Pins::default(),
            lanes: Lanes::new(lines, warps),
            copies: (0..warps).map(|_| Copies::default()).collect(),
            mbarriers: Mbarriers::default(),
            changes: 1,
            life: Life::NotBegun,
            rank: 0,
            cluster: Vec::new(),
        }
    }

    /// As new, for the next block, keeping its allocations.
    pub fn reset(&mut self) {
        self.defined.fill(0);
        let unfinished = self.copies.iter_mut().fold(false, |any, copies| copies.reset() | any);
        self.races.reset(unfinished);
        self.pins.reset();
        self.lanes.reset();
        self.mbarriers.reset();
        self.changes += 1;
        self.life = Life::NotBegun;
    }

    /// Bytes of it.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// The instruction that is executed next, for reports of what its accesses meet later.
    pub fn at(&mut self, pc: u32) {
        self.races.at = pc;
    }

    /// The instruction that accesses memory now.
    pub fn instruction(&self) -> u32 {
        self.races.at
    }

    /// The moment at which the warp accesses memory now.
    #[inline]
    pub(super) fn now(&self, warp: usize) -> Now {
        Now { warp: warp as u8, at: self.races.at, time: self.races.time() }
    }

    /// The warp accessed global memory, as [`BlockMemory`] has noted: what that orders among the warps of the block, and
    /// whether it races with one of them.
    #[inline]
    pub fn after_global(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        order: Order,
        kind: GlobalUse,
        global: &BlockMemory<'_>,
    ) -> Result<(), BadAccess> {
        if global.is_due() {
            global.settle(r, warp, &self.races)?;
        }
        if is_relaxed(order) && self.copies.len() > 1 {
            self.hand_over(warp, r, order, kind);
        }
        Ok(())
    }

    fn hand_over(&mut self, warp: usize, r: &Request<'_>, order: Order, kind: GlobalUse) {
        if kind == GlobalUse::Store && order.releases() {
            self.fence(warp);
        }
        for lane in lanes(r.mask) {
            if kind != GlobalUse::Load {
                self.races.release(warp, r.addresses[lane]);
            }
            if kind != GlobalUse::Store {
                self.races.acquire(warp, r.addresses[lane]);
            }
        }
    }

    pub fn load(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        order: Order,
        into: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let kind = if is_relaxed(order) { Kind::RelaxedRead } else { Kind::Read };
        let lines = self.enter(warp, r, kind, counts)?;
        self.get(r, lines.contiguous, into);
        let defined = lines.iter().all(|(line, bytes)| self.defined[line] & bytes == bytes);
        mark_undefined(r, r.mask, defined, into, |lane| {
            let offset = (r.addresses[lane] - SHARED_START) as usize;
            !self.defined[offset / 16] >> (offset % 16)
        });
        if kind.relaxed() {
            lanes(r.mask).for_each(|lane| self.races.acquire(warp, r.addresses[lane]));
        }
        Ok(())
    }

    pub fn store(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        order: Order,
        from: &Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        if order.releases() {
            self.fence(warp);
        }
        let kind = if is_relaxed(order) { Kind::RelaxedWrite } else { Kind::Write };
        let lines = self.enter(warp, r, kind, counts)?;
        self.put(r, lines.contiguous, from);
        for (line, bytes) in lines.iter() {
            self.defined[line] |= bytes;
        }
        if has_undefined(r, from) {
            for lane in lanes(r.mask) {
                let offset = (r.addresses[lane] - SHARED_START) as usize;
                self.defined[offset / 16] &= !(undefined_bytes(r.bytes, lane, from) << (offset % 16));
            }
        }
        if lines.overlap {
            self.one_value(r, from)?;
        }
        if kind.relaxed() {
            lanes(r.mask).for_each(|lane| self.races.release(warp, r.addresses[lane]));
        }
        Ok(())
    }

    /// Loads the lanes' values; `contiguous` as in [`Lines`].
    fn get(&self, r: &Request<'_>, contiguous: bool, into: &mut Words) {
        let words = self.lines.as_flattened();
        let word = |lane: usize| (r.addresses[lane] - SHARED_START) as usize / 4;
        match r.bytes {
            4 if contiguous => into.bits[0].copy_from_slice(&words[word(0)..][..32]),
            4 => {
                for lane in lanes(r.mask) {
                    into.bits[0][lane] = words[word(lane)];
                }
            }
            8 => {
                for lane in lanes(r.mask) {
                    let pair = words.as_chunks::<2>().0[word(lane) / 2];
                    [into.bits[0][lane], into.bits[1][lane]] = pair;
                }
            }
            16 if contiguous => {
                for (lane, line) in self.lines[word(0) / 4..][..32].iter().enumerate() {
                    for (bits, value) in into.bits.iter_mut().zip(line) {
                        bits[lane] = *value;
                    }
                }
            }
            16 => {
                for lane in lanes(r.mask) {
                    for (bits, value) in into.bits.iter_mut().zip(self.lines[word(lane) / 4]) {
                        bits[lane] = value;
                    }
                }
            }
            bytes => {
                let keep = u32::MAX >> (32 - 8 * bytes);
                for lane in lanes(r.mask) {
                    into.bits[0][lane] = words[word(lane)] >> (8 * (r.addresses[lane] % 4)) & keep;
                }
            }
        }
    }

    /// Stores the lanes' values, lowest lane first.
    fn put(&mut self, r: &Request<'_>, contiguous: bool, from: &Words) {
        let word = |lane: usize| (r.addresses[lane] - SHARED_START) as usize / 4;
        match r.bytes {
            4 if contiguous => self.lines.as_flattened_mut()[word(0)..][..32].copy_from_slice(&from.bits[0]),
            4 => {
                let words = self.lines.as_flattened_mut();
                for lane in lanes(r.mask) {
                    words[word(lane)] = from.bits[0][lane];
                }
            }
            8 => {
                let pairs = self.lines.as_flattened_mut().as_chunks_mut::<2>().0;
                for lane in lanes(r.mask) {
                    pairs[word(lane) / 2] = [from.bits[0][lane], from.bits[1][lane]];
                }
            }
            16 => {
                for lane in lanes(r.mask) {
                    self.lines[word(lane) / 4] = [0, 1, 2, 3].map(|i| from.bits[i][lane]);
                }
            }
            bytes => {
                let words = self.lines.as_flattened_mut();
                for lane in lanes(r.mask) {
                    let (shift, keep) = (8 * (r.addresses[lane] % 4), u32::MAX >> (32 - 8 * bytes));
                    let word = &mut words[word(lane)];
                    *word = *word & !(keep << shift) | (from.bits[0][lane] & keep) << shift;
                }
            }
        }
    }

    /// After a store in which lanes share bytes: every lane must find the value it stored.
    fn one_value(&self, r: &Request<'_>, from: &Words) -> Result<(), BadAccess> {
        let words = self.lines.as_flattened();
        let keep = u32::MAX >> (32 - 8 * r.bytes.min(4));
        let is_lost = |lane: &usize| {
            let offset = (r.addresses[*lane] - SHARED_START) as usize;
            (0..r.bytes.div_ceil(4)).any(|i| {
                let found = words[offset / 4 + i] >> (8 * (offset % 4));
                (found ^ from.bits[i][*lane]) & keep != 0
            })
        };
        let Some(lost) = lanes(r.mask).find(is_lost) else { return Ok(()) };
        let address = r.addresses[lost];
        let sharing = lanes(r.mask).filter(|&lane| r.addresses[lane].abs_diff(address) < r.bytes as u64);
        let sharing = sharing.fold(0, |mask, lane| mask | 1 << lane);
        let detail = format!("lanes of one store write different values to {address:#x}: which one stays is open");
        Err(BadAccess { check: Check::SharedRace, lanes: sharing, address: Some(address), detail, other: None })
    }

    /// One lane after the other, lowest first (highest first when `reverse`); `old` gets the values before.
    #[allow(clippy::too_many_arguments)]
    pub fn atomic(
        &mut self,
        warp: usize,
        r: &Request<'_>,
        op: AtomOp,
        ty: Ty,
        b: &Words,
        c: Option<&Words>,
        reverse: bool,
        old: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        self.enter(warp, r, Kind::RelaxedWrite, counts)?;
        counts.atomics += u64::from(r.mask != 0);
        for step in 0..32 {
            let lane = if reverse { 31 - step } else { step };
            if r.mask >> lane & 1 == 0 {
                continue;
            }
            let address = r.addresses[lane];
            let offset = (address - SHARED_START) as usize;
            let bytes = part_mask(r.bytes) << (offset % 16);
            let defined = self.defined[offset / 16] & bytes == bytes;
            if !defined && op != AtomOp::Exch {
                return Err(uninitialised(lane, address));
            }
            let before = self.value(offset, r.bytes);
            let c = c.map_or(0, |c| value(c, lane, r.bytes));
            let after = atomics::apply(op, ty, before, value(b, lane, r.bytes), c, false);
            self.set(offset, r.bytes, after);
            self.defined[offset / 16] |= bytes;
            set_value(old, lane, r.bytes, before, !defined);
        }
        for lane in lanes(r.mask) {
            self.races.release(warp, r.addresses[lane]);
            self.races.acquire(warp, r.addresses[lane]);
        }
        Ok(())
    }

    fn value(&self, offset: usize, bytes: usize) -> u64 {
        let words = &self.lines.as_flattened()[offset / 4..];
        let low = u64::from(words[0]);
        match bytes {
            8 => low | u64::from(words[1]) << 32,
            4 => low,
            _ => low >> (8 * (offset % 4)) & ((1 << (8 * bytes)) - 1),
        }
    }

    fn set(&mut self, offset: usize, bytes: usize, value: u64) {
        let words = &mut self.lines.as_flattened_mut()[offset / 4..];
        if bytes < 4 {
            let (shift, keep) = (8 * (offset % 4), u32::MAX >> (32 - 8 * bytes));
            words[0] = words[0] & !(keep << shift) | (value as u32 & keep) << shift;
            return;
        }
        words[0] = value as u32;
        if bytes == 8 {
            words[1] = (value >> 32) as u32;
        }
    }

    /// `count` (1, 2, 4) 8×8 matrices of 16-bit values; lane 8m + r holds the address of row r of matrix m. Word m of
    /// `into` is matrix m's fragment.
    pub fn ldmatrix(
        &mut self,
        warp: usize,
        addresses: &[u64; 32],
        count: usize,
        transpose: bool,
        into: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let places = self.rows(addresses, count, counts)?;
        let all = &places[..8 * count];
        let row_of = |line: usize| {
            let row = all.iter().position(|&place| place as usize == line);
            row_request(addresses, row.unwrap_or(0))
        };
        self.races
            .read_lines(all.iter().map(|&line| (line as usize, 0xffff)), warp)
            .map_err(|(line, clash)| self.clash(&row_of(line), line, clash, Kind::Read))?;
        self.lanes.read_rows(warp, all).map_err(|(line, clash)| lane_clash(warp, &row_of(line), clash, Kind::Read))?;
        for m in 0..count {
            let mut rows = [[0u32; 4]; 8];
            let mut defined = u16::MAX;
            for (r, row) in rows.iter_mut().enumerate() {
                let line = places[8 * m + r] as usize;
                *row = self.lines[line];
                defined &= self.defined[line];
            }
            into.bits[m] = fragment(&rows, transpose);
            into.undef[m] = if defined == u16::MAX {
                0
            } else {
                let row = |r: usize| spread(!self.defined[places[8 * m + r] as usize]);
                let marks = fragment(&[0, 1, 2, 3, 4, 5, 6, 7].map(row), transpose);
                undefined_halves(&marks)
            };
        }
        Ok(())
    }

    pub fn stmatrix(
        &mut self,
        warp: usize,
        addresses: &[u64; 32],
        count: usize,
        transpose: bool,
        from: &Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let places = self.rows(addresses, count, counts)?;
        let rows = &places[..8 * count];
        self.check_pins(warp, || span(rows.iter().copied()), |line| rows.contains(&line))?;
        self.lanes.at = self.races.at;
        self.changes += 1;
        for (i, &line) in places.iter().enumerate().take(8 * count) {
            self.lanes
                .check_row(warp, line as usize, &row_lanes(i % 8, transpose))
                .map_err(|clash| lane_clash(warp, &row_request(addresses, i), clash, Kind::Write))?;
        }
        for m in 0..count {
            let rows = matrix_rows(&from.bits[m], transpose);
            let marks = matrix_rows(&marked_halves(from.undef[m]), transpose);
            for r in 0..8 {
                let line = places[8 * m + r] as usize;
                self.races
                    .write(line, 0xffff, warp)
                    .map_err(|clash| self.clash(&row_request(addresses, 8 * m + r), line, clash, Kind::Write))?;
                self.lanes.write_row(warp, line, &row_lanes(r, transpose));
                self.lines[line] = rows[r];
                self.defined[line] = !gathered(&marks[r]);
            }
        }
        let lost = (0..count * 8).find(|&i| {
            let rows = matrix_rows(&from.bits[i / 8], transpose);
            self.lines[places[i] as usize] != rows[i % 8]
        });
        let Some(lost) = lost else { return Ok(()) };
        let address = Some(addresses[lost]);
        let detail = "rows of one stmatrix write different values to the same address".to_string();
        Err(BadAccess { check: Check::SharedRace, lanes: 1 << lost, address, detail, other: None })
    }

    /// The lines of a matrix operation's rows.
    fn rows(&self, addresses: &[u64; 32], count: usize, counts: &mut Counts) -> Result<[u32; 32], BadAccess> {
        let mask = u32::MAX >> (32 - 8 * count);
        let r = Request { addresses, mask, bytes: 16 };
        misaligned(&r)?;
        self.inside(&r)?;
        let mut places = [0; 32];
        for (place, address) in places.iter_mut().zip(addresses).take(8 * count) {
            *place = ((address - SHARED_START) / LINE) as u32;
        }
        let passes: u64 = places[..8 * count].chunks_exact(8).map(matrix_wavefronts).sum();
        counts.shared_requests += 1;
        counts.shared_wavefronts += passes;
        counts.shared_conflicts += passes - count as u64;
        Ok(places)
    }

    /// cp.async of `to.bytes` (4, 8, 16) a lane, of which the first `sizes[lane]` come from global memory and the rest
    /// are zeros.
    #[allow(clippy::too_many_arguments)]
    pub fn cp_async(
        &mut self,
        warp: usize,
        to: &Request<'_>,
        from: &[u64; 32],
        sizes: &[u32; 32],
        global: &BlockMemory<'_>,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        misaligned(to)?;
        self.inside(to)?;
        let parts = Parts::of(to, sizes);
        global.check_copy(to, from, sizes, parts, counts)?;
        let lines = Lines::of(to, to.mask, SHARED_START);
        self.count(to, &lines, counts);
        if lines.overlap {
            let detail = "lanes of one cp.async write the same bytes".to_string();
            let address = Some(to.addresses[to.mask.trailing_zeros() as usize % 32]);
            return Err(BadAccess { check: Check::SharedRace, lanes: to.mask, address, detail, other: None });
        }
        self.check_pins(warp, || span(lines.numbers()), |line| lines.numbers().any(|own| own == line))?;
        self.changes += 1;
        for (line, mask) in lines.iter() {
            self.races.begin_copy(line, mask, warp).map_err(|clash| self.clash(to, line, clash, Kind::Write))?;
        }
        self.lanes
            .check_write(warp, to, lines.contiguous, false)
            .map_err(|clash| lane_clash(warp, to, clash, Kind::Write))?;
        let copy = Copy::new(to, from, sizes, parts, self.races.at);
        if self.early {
            copy.run(self, to.mask, global);
        }
        self.copies[warp].issue(copy);
        Ok(())
    }

    /// The lanes of `mask` close their group (it may be empty).
    pub fn commit(&mut self, warp: usize, mask: u32) {
        self.copies[warp].commit(mask);
    }

    /// The lanes of `mask` wait until at most `pending` of their newest groups are unfinished (`None`: everything, closed
    /// or not).
    pub fn wait(
        &mut self,
        warp: usize,
        mask: u32,
        pending: Option<u32>,
        global: &BlockMemory<'_>,
    ) -> Result<(), BadAccess> {
        let mut copies = std::mem::take(&mut self.copies[warp]);
        copies.finish(mask, pending, |copy, lanes| self.end_copy(warp, copy, lanes, global));
        self.copies[warp] = copies;
        Ok(())
    }

    /// How many cp.async a warp has issued.
    pub fn copies_issued(&self, warp: usize) -> u64 {
        self.copies[warp].issued()
    }

    /// Those of a lane before the number `upto` are complete.
    pub fn finish_copies(&mut self, warp: usize, lane: usize, upto: u64, global: &BlockMemory<'_>) {
        let mut copies = std::mem::take(&mut self.copies[warp]);
        copies.finish_first(lane, upto, |copy, lanes| self.end_copy(warp, copy, lanes, global));
        self.copies[warp] = copies;
    }

    /// The parts of `lanes` are complete, in the sight of the warp.
    fn end_copy(&mut self, warp: usize, copy: &Copy, lanes: u32, global: &BlockMemory<'_>) {
        if !self.early {
            copy.run(self, lanes, global);
        }
        let target = copy.target(lanes);
        self.changes += 1;
        if target.bytes == LINE as usize {
            for lane in super::lines::lanes(lanes) {
                self.races.end_copy(((target.addresses[lane] - SHARED_START) / LINE) as usize, u16::MAX, warp);
            }
        } else {
            for (line, mask) in Lines::of(&target, lanes, SHARED_START).iter() {
                self.races.end_copy(line, mask, warp);
            }
        }
        self.lanes.at = copy.at;
        self.lanes.note_write(warp, &target, false, false);
    }

    /// A barrier completed: those of `arrived` (bit per warp) only signalled, those of `waited` also waited.
    pub fn barrier(&mut self, arrived: u64, waited: u64) {
        self.races.barrier(arrived as u32, waited as u32);
        for warp in (0..self.copies.len()).filter(|warp| waited >> warp & 1 == 1) {
            self.lanes.order(warp, u32::MAX, true);
        }
    }

    /// The lanes of `mask` met at a barrier of their warp; `all`: it has no others left.
    pub fn warp_barrier(&mut self, warp: usize, mask: u32, all: bool) {
        self.lanes.order(warp, mask, all);
    }

    /// The warp executed a fence of any scope: what it did before is ordered before its next shared atomic. Its lanes
    /// count as ordered among each other, as those that hand something on by a lock are.
    pub fn fence(&mut self, warp: usize) {
        self.races.fence(warp);
        self.lanes.order(warp, u32::MAX, true);
    }

    /// The lanes of `mask` end: a cp.async of theirs must not be pending.
    pub fn exit(&mut self, warp: usize, mask: u32) -> Result<(), BadAccess> {
        let pending = self.copies[warp].pending(mask);
        if pending != 0 {
            let detail = "cp.async not waited for when the thread ends".to_string();
            return Err(BadAccess { check: Check::AsyncPending, lanes: pending, address: None, detail, other: None });
        }
        if self.copies[warp].end(mask) {
            self.races.end(warp);
        }
        Ok(())
    }

    /// Every check of an access but those of its values, and its counts.
    fn enter(&mut self, warp: usize, r: &Request<'_>, kind: Kind, counts: &mut Counts) -> Result<Lines, BadAccess> {
        misaligned(r)?;
        self.inside(r)?;
        let lines = Lines::of(r, r.mask, SHARED_START);
        self.count(r, &lines, counts);
        match kind {
            Kind::Read => self.races.read_lines(lines.iter(), warp),
            Kind::Write => self.races.write_lines(lines.iter(), warp),
            _ => self.races.touch_lines(lines.iter(), warp, kind),
        }
        .map_err(|(line, clash)| self.clash(r, line, clash, kind))?;
        self.lanes.at = self.races.at;
        if kind.writes() {
            self.changes += 1;
            self.check_pins(warp, || span(lines.numbers()), |line| lines.numbers().any(|own| own == line))?;
            let clash = self.lanes.check_write(warp, r, lines.contiguous, kind.relaxed());
            clash.map_err(|clash| lane_clash(warp, r, clash, kind))?;
            self.lanes.note_write(warp, r, lines.contiguous, kind.relaxed());
        } else {
            let clash = self.lanes.read(warp, r, lines.contiguous, kind.relaxed());
            clash.map_err(|clash| lane_clash(warp, r, clash, kind))?;
        }
        Ok(lines)
    }

    fn count(&self, r: &Request<'_>, lines: &Lines, counts: &mut Counts) {
        if r.mask == 0 {
            return;
        }
        let (passes, least) = wavefronts(r, lines);
        counts.shared_requests += 1;
        counts.shared_wavefronts += passes;
        counts.shared_conflicts += passes - least;
    }

    fn inside(&self, r: &Request<'_>) -> Result<(), BadAccess> {
        if r.mask == 0 {
            return Ok(());
        }
        let (low, high) = r.span();
        let end = SHARED_START + self.bytes as u64;
        if low >= SHARED_START && high < end && r.bytes as u64 <= end - high {
            return Ok(());
        }
        let is_inside = |address: u64| address >= SHARED_START && address < end && r.bytes as u64 <= end - address;
        let outside =
            lanes(r.mask).filter(|&lane| !is_inside(r.addresses[lane])).fold(0u32, |mask, lane| mask | 1 << lane);
        let address = r.addresses[outside.trailing_zeros() as usize % 32];
        let detail = format!(
            "{} bytes at {address:#x}, outside the block's {} bytes of shared memory at {SHARED_START:#x}",
            r.bytes, self.bytes
        );
        Err(BadAccess { check: Check::OutOfBounds, lanes: outside, address: Some(address), detail, other: None })
    }

    pub(super) fn clash(&self, r: &Request<'_>, line: usize, clash: Clash, kind: Kind) -> BadAccess {
        let (check, mask, detail) = match clash {
            Clash::InFlight { mask, .. } => {
                (Check::AsyncInFlight, mask, "bytes that an unfinished cp.async writes".to_string())
            }
            Clash::Race { agent, wrote, mask, .. } => {
                let (mine, theirs) =
                    (if kind.writes() { "writes" } else { "reads" }, if wrote { "wrote" } else { "read" });
                let detail = format!("{mine} what {} {theirs}, and no barrier lies between", agent_name(agent));
                (Check::SharedRace, mask, detail)
            }
        };
        let (Clash::InFlight { agent, at, .. } | Clash::Race { agent, at, .. }) = clash;
        let other = Some(self.earlier(agent, at));
        let address = SHARED_START + LINE * line as u64 + u64::from(mask.trailing_zeros());
        let touching = lanes(r.mask).filter(|&lane| address.wrapping_sub(r.addresses[lane]) < r.bytes as u64);
        let lanes = touching.fold(0, |mask, lane| mask | 1 << lane);
        BadAccess { check, lanes, address: Some(address), detail, other }
    }
}

fn lane_clash(warp: usize, r: &Request<'_>, clash: LaneClash, kind: Kind) -> BadAccess {
    let LaneClash { address, other, wrote, at } = clash;
    let (mine, theirs) = (if kind.writes() { "writes" } else { "reads" }, if wrote { "wrote" } else { "read" });
    let other_lane = other.map_or("other lanes".to_string(), |lane| format!("lane {lane}"));
    let detail = format!("{mine} what {other_lane} of its warp {theirs}, and no __syncwarp lies between");
    let touching = lanes(r.mask).filter(|&lane| address.wrapping_sub(r.addresses[lane]) < r.bytes as u64);
    let touching = touching.fold(0u32, |mask, lane| mask | 1 << lane);
    let others = touching & !other.map_or(0, |lane| 1 << lane);
    // Of a matrix instruction, the lane that gives a row's address may be the one that wrote it.
    let lanes = if others == 0 { touching } else { others };
    let warp = Some(warp as u32);
    let other = Some(Earlier { pc: at, block: None, warp });
    BadAccess { check: Check::SharedRace, lanes, address: Some(address), detail, other }
}

/// The lowest and the highest of some lines.
fn span(lines: impl Iterator<Item = u32>) -> (u32, u32) {
    lines.fold((u32::MAX, 0), |(low, high), line| (low.min(line), high.max(line)))
}

fn is_relaxed(order: Order) -> bool {
    order.scope().is_some()
}

/// One lane's row, for a report.
pub(super) fn row_request(addresses: &[u64; 32], lane: usize) -> Request<'_> {
    Request { addresses, mask: 1 << lane, bytes: 16 }
}

/// Lane l's word: columns 2(l % 4) and +1 of row l / 4; transposed: rows 2(l % 4) and +1 of column l / 4.
fn fragment(rows: &[[u32; 4]; 8], transpose: bool) -> [u32; 32] {
    let mut words = [0; 32];
    if !transpose {
        words.copy_from_slice(rows.as_flattened());
        return words;
    }
    for (lane, word) in words.iter_mut().enumerate() {
        let (column, row) = (lane / 4, 2 * (lane % 4));
        let of_row = |row: usize| rows[row][column / 2] >> (16 * (column % 2)) & 0xffff;
        *word = of_row(row) | of_row(row + 1) << 16;
    }
    words
}

/// The reverse of [`fragment`].
fn matrix_rows(words: &[u32; 32], transpose: bool) -> [[u32; 4]; 8] {
    let mut rows = [[0; 4]; 8];
    rows.as_flattened_mut().copy_from_slice(words);
    if transpose {
        // An 8×8 matrix transposed twice is itself.
        let words = fragment(&rows, true);
        rows.as_flattened_mut().copy_from_slice(&words);
    }
    rows
}

/// The lanes that hold the bytes of row `row` of a matrix: see [`fragment`].
fn row_lanes(row: usize, transpose: bool) -> [u8; 16] {
    std::array::from_fn(|byte| (if transpose { 4 * (byte / 2) + row / 2 } else { 4 * row + byte / 4 }) as u8)
}

/// A 16-bit value of ones for each pair of bytes of which one is marked.
fn spread(bytes: u16) -> [u32; 4] {
    [0, 1, 2, 3].map(|word| {
        let of_word = bytes >> (4 * word);
        (u32::from(of_word & 0b0011 != 0) * 0xffff) | (u32::from(of_word & 0b1100 != 0) * 0xffff_0000)
    })
}

/// The reverse: bytes of the halves that are not zero.
fn gathered(row: &[u32; 4]) -> u16 {
    let of_word = |word: u32| (u16::from(word & 0xffff != 0) * 0b0011) | (u16::from(word >> 16 != 0) * 0b1100);
    row.iter().rev().fold(0, |bytes, &word| bytes << 4 | of_word(word))
}

/// As in [`Words::undef`], of words whose halves are zero where defined.
fn undefined_halves(words: &[u32; 32]) -> u64 {
    let mut undefined = 0;
    for (lane, word) in words.iter().enumerate() {
        undefined |= u64::from(word & 0xffff != 0) << lane | u64::from(word >> 16 != 0) << (32 + lane);
    }
    undefined
}

/// The reverse.
fn marked_halves(undefined: u64) -> [u32; 32] {
    let mut words = [0; 32];
    if undefined != 0 {
        for (lane, word) in words.iter_mut().enumerate() {
            let (low, high) = ((undefined >> lane & 1) as u32, (undefined >> (32 + lane) & 1) as u32);
            *word = (low * 0xffff) | (high * 0xffff_0000);
        }
    }
    words
}
