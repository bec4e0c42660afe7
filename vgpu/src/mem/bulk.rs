//! What bulk copies and barriers do to a block's shared memory: ranges of lines that are in flight, and the places of
//! `mbarrier` objects.

use super::SHARED_START;
use super::agents::{self, Clash, MAX_WARPS, agent_name, copier, peer_rank};
use super::lines::LINE;
use super::mbarriers::{self, Knowledge, Mbarrier, Mbarriers};
use super::order::Kind;
use super::pins::{Ended, LineSet};
use super::words::{part_mask, uninitialised};
use super::{BlockMemory, GlobalUse, Request, SharedMemory, atomics};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check, Earlier};
use crate::ir::{AtomOp, Order, Ty};
use std::rc::Rc;

/// Whether a block of a cluster has begun, or has come to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    #[default]
    NotBegun,
    Running,
    Ended,
}

/// Who accesses the shared memory of a block: a warp of its own, or one of another block.
#[derive(Clone, Copy, Debug)]
pub struct Accessor {
    /// The rank of its block, and whether that is the memory's own.
    pub rank: u32,
    pub own: bool,
    pub warp: usize,
}

impl Accessor {
    pub(super) fn agent(self) -> usize {
        if self.own { self.warp } else { agents::peer(self.rank as usize) }
    }
}

impl SharedMemory {
    /// The access of an agent at an instruction.
    pub(super) fn earlier(&self, agent: u32, at: u32) -> Earlier {
        let is_warp = (agent as usize) < MAX_WARPS;
        let rank = if is_warp { Some(self.rank) } else { peer_rank(agent as usize) };
        let block = rank.and_then(|rank| self.cluster.get(rank).copied());
        Earlier { pc: at, block, warp: is_warp.then_some(agent) }
    }

    /// Whose it is: its rank, and the number of each block of the cluster.
    pub fn place(&mut self, rank: usize, cluster: Vec<u64>) {
        (self.rank, self.cluster) = (rank, cluster);
    }

    /// The bytes are read from now on, as `who` asked at the instruction `pc`, until [`Self::end_read`].
    pub fn pin_bytes(&mut self, who: Accessor, address: u64, bytes: usize, pc: u32, what: &'static str) -> Ended {
        let lines = Self::lines_of(address, bytes).map(|(line, _)| line as u32).collect();
        let ended = Ended::default();
        self.pin(&Rc::new(LineSet::new(lines)), who.agent(), pc, what, &ended);
        ended
    }

    /// The bytes from `address` on lie inside.
    pub fn check_range(&self, address: u64, bytes: usize) -> Result<(), BadAccess> {
        let (end, size) = (SHARED_START + self.bytes as u64, bytes as u64);
        if address >= SHARED_START && address <= end && size <= end - address {
            return Ok(());
        }
        let own = self.bytes;
        let detail = format!(
            "{bytes} bytes at {address:#x}, outside the block's {own} bytes of shared memory at {SHARED_START:#x}"
        );
        Err(BadAccess { check: Check::OutOfBounds, lanes: 0, address: Some(address), detail, other: None })
    }

    fn lines_of(address: u64, bytes: usize) -> impl Iterator<Item = (usize, u16)> {
        let (from, to) = (address - SHARED_START, address - SHARED_START + bytes as u64);
        (from / LINE..to.div_ceil(LINE)).map(move |line| {
            let (first, last) = (from.max(line * LINE) - line * LINE, to.min((line + 1) * LINE) - line * LINE);
            (line as usize, (((1u32 << (last - first)) - 1) << first) as u16)
        })
    }

    fn bulk_clash(&self, line: usize, clash: Clash, what: &str) -> BadAccess {
        let (check, mask, agent, at, detail) = match clash {
            Clash::InFlight { agent, at, mask } => {
                (Check::AsyncInFlight, mask, agent, at, format!("{what} bytes that an unfinished copy writes"))
            }
            Clash::Race { agent, at, wrote, mask } => {
                let theirs = if wrote { "wrote" } else { "read" };
                let detail = format!("{what} what {} {theirs}, and nothing orders them", agent_name(agent));
                (Check::SharedRace, mask, agent, at, detail)
            }
        };
        let address = SHARED_START + LINE * line as u64 + u64::from(mask.trailing_zeros());
        BadAccess { check, lanes: 0, address: Some(address), detail, other: Some(self.earlier(agent, at)) }
    }

    fn unproxied(&self, line: usize, mask: u16, agent: usize, what: &str) -> Result<(), BadAccess> {
        let Some((writer, at)) = self.races.unproxied(line, mask, agent) else { return Ok(()) };
        let writer_name = agent_name(writer);
        let detail = format!("{what} what {writer_name} wrote, and no fence.proxy.async lies between");
        let address = Some(SHARED_START + LINE * line as u64);
        Err(BadAccess { check: Check::ProxyFence, lanes: 0, address, detail, other: Some(self.earlier(writer, at)) })
    }

    /// Nobody reads the bytes asynchronously.
    fn check_written(&self, agent: usize, address: u64, bytes: usize) -> Result<(), BadAccess> {
        self.check_range(address, bytes)?;
        let (low, high) = ((address - SHARED_START) / LINE, (address - SHARED_START + bytes as u64 - 1) / LINE);
        self.check_pins(agent, || (low as u32, high as u32), |_| true)
    }

    /// A bulk copy that `who` asks for begins to write these bytes; nobody may touch them until it ends.
    pub fn begin_bulk_write(&mut self, who: Accessor, address: u64, bytes: usize) -> Result<(), BadAccess> {
        self.check_written(who.agent(), address, bytes)?;
        let agent = who.agent();
        self.changes += 1;
        for (line, mask) in Self::lines_of(address, bytes) {
            self.races
                .begin_copy(line, mask, agent)
                .map_err(|clash| self.bulk_clash(line, clash, "a bulk copy writes"))?;
        }
        Ok(())
    }

    /// Asks before that: the order of what the generic proxy wrote.
    pub fn check_proxy(&self, who: Accessor, address: u64, bytes: usize, what: &str) -> Result<(), BadAccess> {
        self.check_range(address, bytes)?;
        Self::lines_of(address, bytes).try_for_each(|(line, mask)| self.unproxied(line, mask, who.agent(), what))
    }

    /// `red.async` is asked for: what comes is ordered behind what `who` knows.
    pub fn begin_reduction(
        &mut self,
        who: Accessor,
        barrier: u64,
        address: u64,
        bytes: usize,
    ) -> Result<(), BadAccess> {
        self.check_range(address, bytes)?;
        let number = self.barrier_at(Some(who), barrier)?.number;
        let Knowledge { view, proxied } = self.release(who);
        self.races.acquire_view(copier(number), &view, &proxied);
        Ok(())
    }

    /// `red.async` comes: one value, counted at the barrier number `barrier`, as an atomic of the copies that end there.
    pub fn reduce_value(
        &mut self,
        barrier: usize,
        address: u64,
        (op, ty): (AtomOp, Ty),
        value: u64,
    ) -> Result<(), BadAccess> {
        let bytes = ty.bytes();
        self.check_written(copier(barrier), address, bytes)?;
        for (line, mask) in Self::lines_of(address, bytes) {
            let touched = self.races.touch(line, mask, copier(barrier), Kind::RelaxedWrite);
            touched.map_err(|clash| self.bulk_clash(line, clash, "red.async computes with"))?;
        }
        let (found, defined) = self.piece(address, bytes);
        if defined & part_mask(bytes) != part_mask(bytes) {
            return Err(uninitialised(0, address));
        }
        let mut before = [0; 8];
        before[..bytes].copy_from_slice(&found[..bytes]);
        let after = atomics::apply(op, ty, u64::from_le_bytes(before), value, 0, false);
        self.put_bytes(address, &after.to_le_bytes()[..bytes], u16::MAX);
        Ok(())
    }

    /// It ends: who waits for the barrier number `barrier` may see the bytes.
    pub fn end_bulk_write(&mut self, barrier: usize, address: u64, bytes: usize) {
        self.changes += 1;
        for (line, mask) in Self::lines_of(address, bytes) {
            self.races.end_copy(line, mask, copier(barrier));
        }
    }

    /// The barrier's copies up to now are part of what its phase hands on.
    pub fn copier_knowledge(&mut self, barrier: usize) -> Knowledge {
        let view = self.races.release_view(copier(barrier));
        Knowledge { view, proxied: self.races.proxied_view(copier(barrier)) }
    }

    /// An asynchronous read that `who` asks for: order and definedness of the bytes.
    pub fn bulk_read(&mut self, who: Accessor, address: u64, bytes: usize, what: &str) -> Result<(), BadAccess> {
        self.check_proxy(who, address, bytes, what)?;
        let agent = who.agent();
        for (line, mask) in Self::lines_of(address, bytes) {
            self.races.read(line, mask, agent).map_err(|clash| self.bulk_clash(line, clash, what))?;
        }
        Ok(())
    }

    /// The same, leaving no mark: of a read whose end others than `who` see.
    pub fn check_bulk_read(&mut self, who: Accessor, address: u64, bytes: usize, what: &str) -> Result<(), BadAccess> {
        self.check_proxy(who, address, bytes, what)?;
        let agent = who.agent();
        for (line, _) in Self::lines_of(address, bytes) {
            self.races.check_read(line, agent).map_err(|clash| self.bulk_clash(line, clash, what))?;
        }
        Ok(())
    }

    /// Such a read ends: who waits for the barrier number `barrier` sees it.
    pub fn end_bulk_read(&mut self, barrier: usize, ended: &Ended) -> Knowledge {
        self.end_reads(ended, copier(barrier));
        self.copier_knowledge(barrier)
    }

    /// The bytes of a line and which of them are defined.
    pub fn line(&self, address: u64) -> ([u32; 4], u16) {
        let line = ((address - SHARED_START) / LINE) as usize;
        (self.lines[line], self.defined[line])
    }

    /// `bytes` bytes (at most to the end of a line) of `from`, of which `defined` are.
    pub fn put_bytes(&mut self, address: u64, from: &[u8], defined: u16) {
        self.changes += 1;
        let offset = (address - SHARED_START) as usize;
        let (line, first) = (offset / 16, offset % 16);
        let target: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines[line]);
        target[first..first + from.len()].copy_from_slice(from);
        let mask = ((1u32 << from.len()) - 1) as u16;
        self.defined[line] = self.defined[line] & !(mask << first) | (defined & mask) << first;
    }

    /// A generic load of another block: its order, line by line. The bytes are moved by [`Self::put_bytes`] and [`Self::piece`].
    pub fn remote_load(&mut self, who: Accessor, address: u64, bytes: usize, order: Order) -> Result<(), BadAccess> {
        if order.scope().is_none() {
            return self.remote(who, address, bytes, "reads", Kind::Read);
        }
        self.remote(who, address, bytes, "reads", Kind::RelaxedRead)?;
        self.races.acquire(who.agent(), address);
        Ok(())
    }

    /// The same for a store.
    pub fn remote_store(&mut self, who: Accessor, address: u64, bytes: usize, order: Order) -> Result<(), BadAccess> {
        if order.releases() {
            self.close(who);
        }
        if order.scope().is_none() {
            return self.remote(who, address, bytes, "writes", Kind::Write);
        }
        self.remote(who, address, bytes, "writes", Kind::RelaxedWrite)?;
        self.races.release(who.agent(), address);
        Ok(())
    }

    /// The same for an atomic.
    pub fn remote_atomic(&mut self, who: Accessor, address: u64, bytes: usize, order: Order) -> Result<(), BadAccess> {
        if order.releases() {
            self.close(who);
        }
        self.remote(who, address, bytes, "writes", Kind::RelaxedWrite)?;
        self.races.release(who.agent(), address);
        self.races.acquire(who.agent(), address);
        Ok(())
    }

    /// A fence by another block: what it did here before is ordered before its next atomic or relaxed store here.
    pub fn close(&mut self, who: Accessor) {
        self.races.fence(who.agent());
    }

    fn remote(&mut self, who: Accessor, address: u64, bytes: usize, what: &str, kind: Kind) -> Result<(), BadAccess> {
        self.check_range(address, bytes)?;
        if kind.writes() {
            self.check_written(who.agent(), address, bytes)?;
            self.changes += 1;
        }
        let agent = who.agent();
        for (line, mask) in Self::lines_of(address, bytes) {
            self.races.touch(line, mask, agent, kind).map_err(|clash| self.bulk_clash(line, clash, what))?;
        }
        Ok(())
    }

    /// The clock, and whether what a warp did at a time is ordered before what `warp` does now.
    pub fn clock(&self) -> u32 {
        self.races.now()
    }

    pub fn knows_warp(&self, warp: usize, other: usize, time: u32) -> bool {
        self.races.knows(warp, other as u32, time)
    }

    /// How often it was written, about.
    pub fn written(&self) -> u64 {
        self.changes()
    }

    /// The barrier at an address, for reports.
    pub fn mbarrier(&self, address: u64) -> Option<&Mbarrier> {
        self.mbarriers.peek((address - SHARED_START) as u32)
    }

    // Barriers.

    /// Whether any lives here.
    pub fn has_barriers(&self) -> bool {
        !self.mbarriers.is_empty()
    }

    /// What `who` knows, to hand it on; its clock goes on.
    pub fn release(&mut self, who: Accessor) -> Knowledge {
        let view = self.races.release_view(who.agent());
        Knowledge { view, proxied: self.races.proxied_view(who.agent()) }
    }

    pub fn acquire(&mut self, who: Accessor, knowledge: &Knowledge) {
        self.races.acquire_view(who.agent(), &knowledge.view, &knowledge.proxied);
    }

    fn barrier_place(&self, address: u64) -> Result<u32, BadAccess> {
        if !address.is_multiple_of(8) {
            let detail = "an mbarrier object lies at a multiple of 8".to_string();
            let check = Check::Misaligned;
            return Err(BadAccess { check, lanes: 0, address: Some(address), detail, other: None });
        }
        self.check_range(address, 8)?;
        Ok((address - SHARED_START) as u32)
    }

    /// mbarrier.init by a warp of the block.
    pub fn make_barrier(&mut self, warp: usize, address: u64, count: u32, ranks: usize) -> Result<(), BadAccess> {
        let offset = self.barrier_place(address)?;
        if count == 0 || count > mbarriers::MOST {
            let detail = format!("a barrier of {count} arrivals: it has 1 to {}", mbarriers::MOST);
            return Err(mbarriers::bad(0, address, detail, None));
        }
        if let Some(barrier) = self.mbarriers.peek(offset) {
            let (at, maker, _) = barrier.made;
            let other = Some(self.earlier(maker as u32, at));
            let detail = "an mbarrier object lives here already: it ends by mbarrier.inval".to_string();
            return Err(mbarriers::bad(0, address, detail, other));
        }
        self.touch_barrier(warp, address)?;
        let made = (self.races.at, warp, self.races.now());
        self.mbarriers.insert(offset, count, made, ranks);
        let mark = Mbarriers::mark();
        self.put_bytes(address, bytemuck::cast_slice(&mark), 0xff);
        Ok(())
    }

    /// mbarrier.inval
    pub fn end_barrier(&mut self, warp: usize, address: u64) -> Result<(), BadAccess> {
        let offset = self.barrier_place(address)?;
        self.touch_barrier(warp, address)?;
        if !self.mbarriers.remove(offset) {
            return Err(mbarriers::bad(0, address, "no mbarrier object lives here".to_string(), None));
        }
        self.put_bytes(address, &[0; 8], 0);
        Ok(())
    }

    fn touch_barrier(&mut self, warp: usize, address: u64) -> Result<(), BadAccess> {
        self.check_written(warp, address, 8)?;
        self.changes += 1;
        let (line, mask) = Self::lines_of(address, 8).next().unwrap_or((0, 0));
        self.races
            .touch(line, mask, warp, Kind::Write)
            .map_err(|clash| self.bulk_clash(line, clash, "a barrier is made or ended on"))
    }

    /// The barrier that lives at an address, for `who` (`None`: a copy).
    pub fn barrier_at(&mut self, who: Option<Accessor>, address: u64) -> Result<&mut Mbarrier, BadAccess> {
        let offset = self.barrier_place(address)?;
        let place = (offset as usize / 16, offset as usize % 16 / 4);
        let found = [self.lines[place.0][place.1], self.lines[place.0][place.1 + 1]];
        let Some(barrier) = self.mbarriers.get(offset) else {
            let detail = "no mbarrier object lives here: it was not initialised, or ended".to_string();
            return Err(mbarriers::bad(0, address, detail, None));
        };
        let (at, maker, time) = barrier.made;
        let (rank, cluster) = (self.rank, &self.cluster);
        let block = cluster.get(rank).copied();
        let other = Some(Earlier { pc: at, block, warp: Some(maker as u32) });
        if found != Mbarriers::mark() {
            let detail = "the mbarrier object was overwritten by other accesses".to_string();
            return Err(mbarriers::bad(0, address, detail, other));
        }
        if let Some(who) = who
            && !self.races.knows(who.agent(), maker as u32, time)
        {
            let detail = format!("a barrier that warp {maker} initialised, and nothing orders them");
            return Err(BadAccess { check: Check::SharedRace, lanes: 0, address: Some(address), detail, other });
        }
        Ok(barrier)
    }
}

/// Up to 16 bytes on their way, and which of them are defined.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub bytes: [u8; 16],
    pub defined: u16,
    pub length: usize,
}

impl SharedMemory {
    /// Bytes of one line, and which of them are defined.
    pub fn piece(&self, address: u64, length: usize) -> ([u8; 16], u16) {
        let ((line, defined), first) = (self.line(address), address as usize % 16);
        let all: [u8; 16] = bytemuck::cast(line);
        let mut bytes = [0; 16];
        bytes[..length].copy_from_slice(&all[first..first + length]);
        (bytes, defined >> first)
    }
}

/// The global side of a bulk copy: bounds and races piece by piece, 32 of one size at once.
pub struct BulkCheck<'b, 'a> {
    global: &'b BlockMemory<'a>,
    kind: GlobalUse,
    addresses: [u64; 32],
    count: usize,
    size: usize,
    scratch: Counts,
    bytes: u64,
}

impl BulkCheck<'_, '_> {
    /// `length` bytes from `address` on (at most 16).
    pub fn piece(&mut self, address: u64, length: usize) -> Result<(), BadAccess> {
        self.bytes += length as u64;
        if length == 16 && address.is_multiple_of(16) {
            return self.part(address, 16);
        }
        let (mut at, end) = (address, address.saturating_add(length as u64));
        while at < end {
            let most = 1u64 << at.trailing_zeros().min(4);
            let size = most.min(1 << (end - at).ilog2());
            self.part(at, size as usize)?;
            at += size;
        }
        Ok(())
    }

    fn part(&mut self, address: u64, size: usize) -> Result<(), BadAccess> {
        if self.count == 32 || self.size != size {
            self.flush()?;
            self.size = size;
        }
        self.addresses[self.count] = address;
        self.count += 1;
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), BadAccess> {
        let mask = ((1u64 << self.count) - 1) as u32;
        self.count = 0;
        let r = Request { addresses: &self.addresses, mask, bytes: self.size.max(1) };
        match self.kind {
            GlobalUse::Load => self.global.check_load(&r, Order::Weak, &mut self.scratch),
            GlobalUse::Store => self.global.check_store(&r, Kind::Write, Kind::Write, &mut self.scratch),
            GlobalUse::Atomic => self.global.check_store(&r, Kind::RelaxedWrite, Kind::RelaxedWrite, &mut self.scratch),
        }
    }

    /// Counts what the launch had not touched before; the bytes.
    pub fn finish(mut self, counts: &mut Counts) -> Result<u64, BadAccess> {
        self.flush()?;
        counts.unique_load_sectors += self.scratch.unique_load_sectors;
        counts.unique_store_sectors += self.scratch.unique_store_sectors;
        Ok(self.bytes)
    }
}

impl<'a> BlockMemory<'a> {
    pub fn bulk_check(&self, kind: GlobalUse) -> BulkCheck<'_, 'a> {
        let (addresses, scratch) = ([0; 32], Counts::default());
        BulkCheck { global: self, kind, addresses, count: 0, size: 0, scratch, bytes: 0 }
    }

    /// Bytes that were checked when the copy was asked for, and which are defined. They may cross a line.
    pub fn bulk_get(&self, address: u64, length: usize) -> ([u8; 16], u16) {
        let (mut bytes, mut defined, mut done) = ([0u8; 16], 0u16, 0);
        while done < length {
            let at = address + done as u64;
            let first = at as usize % 16;
            let part = (16 - first).min(length - done);
            // Memory that went meanwhile (freed by the host) reads as undefined.
            if let Some(allocation) = self.allocation(at) {
                let place = ((at - allocation.start) / 16) as usize;
                let line: [u8; 16] = bytemuck::cast(allocation.line(place));
                bytes[done..done + part].copy_from_slice(&line[first..first + part]);
                let marks = (!allocation.undefined(place) >> first) & (0xffff >> (16 - part));
                defined |= marks << done;
            }
            done += part;
        }
        (bytes, defined)
    }

    pub fn bulk_put(&self, address: u64, piece: &Piece) {
        if let Some(allocation) = self.allocation(address) {
            allocation.put((address - allocation.start) as usize, &piece.bytes[..piece.length], piece.defined);
        }
    }

    /// One element of a reducing store.
    pub fn bulk_reduce(&self, address: u64, op: AtomOp, ty: Ty, value: u64) {
        let Some(allocation) = self.allocation(address) else { return };
        let before = allocation.value(address, ty.bytes());
        allocation.set_value(address, ty.bytes(), atomics::apply(op, ty, before, value, 0, true));
    }
}
