//! Asynchronous operations that a block's threads began, and their ends: at once, or as late as their waiters allow.
//!
//! A copy into shared memory ends at a barrier, block by block when it goes to several; who waits for the barrier may see
//! its bytes. A copy out of shared memory belongs to a group of its thread: its source is read, and its target written,
//! at the latest when the thread waits for the group.

use super::block::{Cta, Env};
use super::bulk::invalid;
use super::mbarrier::{Place, peer_of};
use super::memory::fault;
use super::registers::{ALL, Done};
use super::run::LocatedFault;
use crate::fault::{BadAccess, Check, Earlier};
use crate::ir::{AtomOp, BinOp, BulkReduce, Ty};
use crate::mem::tensor_map::{TensorMap, swizzled};
use crate::mem::{BlockMemory, Ended, Piece, SharedMemory};

/// Unfinished operations of a block, at most: more are an endless loop's.
const MOST: usize = 1 << 16;

/// An asynchronous operation that a thread began.
pub(super) struct Flight {
    pub pc: u32,
    pub warp: usize,
    pub lane: usize,
    pub what: What,
}

pub(super) enum What {
    Load(Load),
    Store(Store),
    AfterCopies(AfterCopies),
}

/// Into shared memory of one or several blocks.
pub(super) struct Load {
    pub from: Source,
    /// Of the first byte, as each target block has it, and how many.
    pub to: u64,
    pub bytes: usize,
    /// Blocks that it did not reach yet, a bit each.
    pub targets: u32,
    /// Its barrier, as each target block has it, and the phases that these were in.
    pub barrier: u64,
    pub phases: Vec<(u32, u64)>,
}

pub(super) enum Source {
    Tile(Box<TensorMap>, [i32; 5]),
    Bytes(u64),
    /// A value of a register; to be computed with what is there.
    Value([u8; 16], u16, Option<(AtomOp, Ty)>),
    /// Of the issuing block's shared memory.
    Shared(u64, Ended),
}

/// Out of shared memory.
pub(super) struct Store {
    pub to: Target,
    pub from: u64,
    pub bytes: usize,
    pub reduce: Option<(BulkReduce, Ty)>,
    /// The group of its thread that it belongs to.
    pub group: u32,
    /// Until somebody sees this nobody may write its source.
    pub ended: Ended,
    /// Read, and not written yet: the bytes in the order of its pieces.
    pub read: Option<Vec<([u8; 16], u16)>>,
}

pub(super) enum Target {
    Tile(Box<TensorMap>, [i32; 5]),
    Bytes(u64),
}

/// cp.async.mbarrier.arrive: an arrival after the copies `..upto` of the lane.
#[derive(Clone, Copy)]
pub(super) struct AfterCopies {
    pub warp: usize,
    pub lane: usize,
    pub upto: u64,
    pub barrier: Place,
}

/// The operations that a block's threads began, oldest first, and the groups of stores that each closed.
#[derive(Default)]
pub(super) struct Flights {
    list: Vec<Flight>,
    pub closed: Vec<[u32; 32]>,
}

impl Flights {
    pub fn new(warps: usize) -> Flights {
        Flights { list: Vec::new(), closed: vec![[0; 32]; warps] }
    }

    pub fn reset(&mut self) {
        self.list.clear();
        self.closed.fill([0; 32]);
    }
}

impl Flight {
    pub fn after_copies(after: AfterCopies, pc: u32) -> Flight {
        Flight { pc, warp: after.warp, lane: after.lane, what: What::AfterCopies(after) }
    }
}

/// The pieces of a copy: shared address, global address (`None`: outside the tensor), bytes.
pub(super) fn pieces(
    tile: Result<(&TensorMap, &[i32; 5]), u64>,
    shared: u64,
    bytes: usize,
    mut each: impl FnMut(u64, Option<u64>, usize),
) {
    match tile {
        Ok((map, coordinates)) => map.walk(&coordinates[..map.rank], |at, global, length| {
            each(swizzled(shared + at as u64, map.swizzle), global, length);
        }),
        Err(global) => {
            for at in (0..bytes).step_by(16) {
                each(shared + at as u64, Some(global.wrapping_add(at as u64)), 16.min(bytes - at));
            }
        }
    }
}

impl Source {
    pub fn tile(&self) -> Result<(&TensorMap, &[i32; 5]), u64> {
        match self {
            Source::Tile(map, coordinates) => Ok((map, coordinates)),
            Source::Bytes(global) => Err(*global),
            Source::Shared(..) | Source::Value(..) => Err(0),
        }
    }
}

impl Target {
    /// What a reduction computes with.
    pub fn element(&self) -> Ty {
        match self {
            Target::Tile(map, _) => map.element.ty(),
            Target::Bytes(_) => Ty::U32,
        }
    }

    pub fn tile(&self) -> Result<(&TensorMap, &[i32; 5]), u64> {
        match self {
            Target::Tile(map, coordinates) => Ok((map, coordinates)),
            Target::Bytes(global) => Err(*global),
        }
    }
}

impl Store {
    /// Takes the bytes out of shared memory, which is free then.
    fn read(&mut self, shared: &mut SharedMemory) {
        if self.read.is_some() {
            return;
        }
        let mut taken = Vec::with_capacity(self.bytes / 16);
        pieces(self.to.tile(), self.from, self.bytes, |at, address, length| {
            if address.is_some() {
                taken.push(shared.piece(at, length));
            }
        });
        self.read = Some(taken);
    }

    fn write(&mut self, shared: &mut SharedMemory, global: &BlockMemory<'_>) {
        self.read(shared);
        let mut taken = self.read.take().unwrap_or_default().into_iter();
        pieces(self.to.tile(), self.from, self.bytes, |_, address, length| {
            let Some(address) = address else { return };
            let Some((bytes, defined)) = taken.next() else { return };
            match self.reduce {
                None => global.bulk_put(address, &Piece { bytes, defined, length }),
                Some((op, ty)) => reduce(global, address, &bytes[..length], op, ty),
            }
        });
        self.read = Some(Vec::new());
    }
}

/// Element by element, as an atomic would.
fn reduce(global: &BlockMemory<'_>, address: u64, bytes: &[u8], op: BulkReduce, ty: Ty) {
    let op = match op {
        BulkReduce::Inc => AtomOp::Inc,
        BulkReduce::Dec => AtomOp::Dec,
        BulkReduce::Op(BinOp::Min) => AtomOp::Min,
        BulkReduce::Op(BinOp::Max) => AtomOp::Max,
        BulkReduce::Op(BinOp::And) => AtomOp::And,
        BulkReduce::Op(BinOp::Or) => AtomOp::Or,
        BulkReduce::Op(BinOp::Xor) => AtomOp::Xor,
        BulkReduce::Op(_) => AtomOp::Add,
    };
    let size = ty.bytes().max(1);
    for (i, element) in bytes.chunks_exact(size).enumerate() {
        let mut value = [0; 8];
        value[..size].copy_from_slice(element);
        global.bulk_reduce(address + (i * size) as u64, op, ty, u64::from_le_bytes(value));
    }
}

impl<'a> Cta<'a> {
    /// Begins an operation: done at once, or as late as it may.
    pub fn start(&mut self, env: &Env<'_>, flight: Flight) -> Done {
        self.events += 1;
        if self.flights.list.len() >= MOST {
            return invalid(None, format!("more than {MOST} unfinished copies of one block"));
        }
        self.flights.list.push(flight);
        if env.options.schedule & 1 == 1 {
            let last = self.flights.list.len() - 1;
            while last < self.flights.list.len() && !self.advance(last, 0)? {}
        }
        Ok(())
    }

    /// One step of the operation in this place: the next block of a copy to several (`pick` chooses), or all of it. Whether
    /// that was the last one.
    fn advance(&mut self, at: usize, pick: u64) -> Result<bool, Box<BadAccess>> {
        let mut flight = self.flights.list.remove(at);
        self.shared.at(flight.pc);
        self.events += 1;
        let done = match &mut flight.what {
            What::Load(load) => {
                let count = u64::from(load.targets.count_ones());
                let rank = (0..16).filter(|rank| load.targets >> rank & 1 == 1).nth((pick % count.max(1)) as usize);
                let rank = rank.unwrap_or(0);
                load.targets &= !(1 << rank);
                self.deliver(load, rank)?;
                load.targets == 0
            }
            What::Store(store) => {
                store.write(&mut self.shared, &self.global);
                // Its group is waited for still.
                self.flights.list.insert(at, flight);
                return Ok(true);
            }
            What::AfterCopies(after) => {
                self.shared.finish_copies(after.warp, after.lane, after.upto, &self.global);
                self.arrive_for(after.warp, after.barrier)?;
                let barrier = self.shared_of(after.barrier.rank)?.barrier_at(None, after.barrier.address)?;
                let arrived = barrier.arrive(1, false);
                arrived.map_err(|detail| fault(Check::Mbarrier, ALL, Some(after.barrier.address), detail))?;
                true
            }
        };
        if !done {
            self.flights.list.insert(at, flight);
        }
        Ok(done)
    }

    /// The bytes of a copy into one block, and the news of them at its barrier.
    fn deliver(&mut self, load: &Load, rank: u32) -> Done {
        let expected = load.phases.iter().find(|(r, _)| *r == rank).map_or(0, |(_, phase)| *phase);
        let to = Place { rank, address: load.barrier };
        self.bring(load, rank)?;
        let shared = self.shared_of(rank)?;
        let barrier = shared.barrier_at(None, load.barrier)?;
        let (number, phase) = (barrier.number, barrier.phase());
        if phase != expected {
            let detail = format!(
                "{} bytes of a copy begun in phase {expected} of its barrier come in phase {phase}: fewer bytes were announced",
                load.bytes
            );
            return Err(fault(Check::Mbarrier, ALL, Some(load.barrier), detail));
        }
        match &load.from {
            Source::Value(bytes, _, Some(how)) => {
                let value = u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]));
                shared.reduce_value(number, load.to, *how, value)?;
            }
            _ => shared.end_bulk_write(number, load.to, load.bytes),
        }
        if let Source::Shared(_, ended) = &load.from {
            // Who waits for the barrier knows that the source was read.
            let read = self.shared.end_bulk_read(number, ended);
            let mine = self.rank as usize;
            self.shared_of(rank)?.barrier_at(None, load.barrier)?.leave(mine, &read);
        }
        self.complete_bytes(to, load.bytes as u32)
    }

    /// The bytes themselves.
    fn bring(&mut self, load: &Load, rank: u32) -> Done {
        if let Source::Shared(from, _) = &load.from {
            for at in (0..load.bytes as u64).step_by(16) {
                let (bytes, defined) = self.shared.piece(from + at, 16);
                self.shared_of(rank)?.put_bytes(load.to + at, &bytes, defined);
            }
            return Ok(());
        }
        let Cta { shared, peers, global, rank: own, .. } = &mut *self;
        let target = if rank == *own { shared } else { peer_of(peers, rank, shared.instruction())? };
        match &load.from {
            Source::Value(_, _, Some(_)) => {}
            Source::Value(bytes, defined, None) => target.put_bytes(load.to, &bytes[..load.bytes], *defined),
            from => pieces(from.tile(), load.to, load.bytes, |at, address, length| {
                let (bytes, defined) = match address {
                    Some(address) => global.bulk_get(address, length),
                    None => (from.fill(), u16::MAX),
                };
                target.put_bytes(at, &bytes[..length], defined);
            }),
        }
        Ok(())
    }

    /// The oldest (or, by `pick`, another) operation that ends by itself goes on a step. Whether there was one; what was wrong, and
    /// which warp began it.
    pub fn complete_one(&mut self, pick: u64) -> Result<bool, (usize, LocatedFault)> {
        let open = self.outstanding() as u64;
        let list = self.flights.list.iter().enumerate();
        let mut open_ones = list.filter(|(_, f)| !matches!(f.what, What::Store(_))).map(|(at, _)| at);
        let Some(at) = open_ones.nth(pick.checked_rem(open).unwrap_or(0) as usize) else { return Ok(false) };
        let Flight { pc, warp, lane, .. } = self.flights.list[at];
        self.advance(at, pick / open).map_err(|mut bad| {
            bad.lanes = 1 << lane;
            (warp, LocatedFault { pc, bad })
        })?;
        Ok(true)
    }

    /// Whether an unfinished operation needs this block: it brings bytes here, takes them from here, or arrives for a thread.
    pub fn is_needed(&self) -> bool {
        self.flights.list.iter().any(|f| match &f.what {
            What::Load(load) => load.targets >> self.rank & 1 == 1 || matches!(load.from, Source::Shared(..)),
            What::AfterCopies(_) => true,
            What::Store(_) => false,
        })
    }

    /// Lanes end: their copies that a barrier waits for are complete now, at the latest.
    pub fn finish_arrivals(&mut self, warp: usize, lanes: u32) -> Done {
        let of = |f: &Flight| matches!(f.what, What::AfterCopies(_)) && f.warp == warp && lanes >> f.lane & 1 == 1;
        while let Some(at) = self.flights.list.iter().position(of) {
            self.advance(at, 0)?;
        }
        Ok(())
    }

    /// How many operations end by themselves.
    pub fn outstanding(&self) -> usize {
        self.flights.list.iter().filter(|f| !matches!(f.what, What::Store(_))).count()
    }

    /// Where the first of them was begun.
    pub fn oldest(&self) -> Option<(u32, usize)> {
        self.flights.list.first().map(|f| (f.pc, f.warp))
    }

    /// cp.async.bulk.commit_group
    pub fn commit_bulk(&mut self, warp: usize, active: u32) {
        for lane in (0..32).filter(|l| active >> l & 1 == 1) {
            self.flights.closed[warp][lane] += 1;
        }
    }

    /// cp.async.bulk.wait_group: all but the `pending` newest groups of these lanes are read (and written).
    pub fn wait_bulk(&mut self, warp: usize, active: u32, pending: u32, read_only: bool) {
        let Cta { flights, shared, global, .. } = &mut *self;
        let closed = &flights.closed[warp];
        flights.list.retain_mut(|flight| {
            let What::Store(store) = &mut flight.what else { return true };
            let waits = flight.warp == warp && active >> flight.lane & 1 == 1;
            if !waits || store.group.saturating_add(pending) >= closed[flight.lane] {
                return true;
            }
            if read_only {
                store.read(shared);
            } else {
                store.write(shared, global);
            }
            // The first wait that saw it end counts.
            if store.ended.borrow().is_empty() {
                shared.end_reads(&store.ended, warp);
            }
            read_only
        });
    }

    /// Lanes end. What they stored and waited for being read is written now, at the latest.
    pub fn end_bulk(&mut self, warp: usize, lanes: u32) -> Done {
        let of = |f: &Flight| f.warp == warp && lanes >> f.lane & 1 == 1;
        let unread = self
            .flights
            .list
            .iter()
            .find(|f| of(f) && matches!(&f.what, What::Store(s) if s.ended.borrow().is_empty()));
        if let Some(flight) = unread {
            let detail = "a bulk store whose source may still be read when its thread ends: no wait_group".to_string();
            let other = Some(Earlier { pc: flight.pc, block: None, warp: Some(warp as u32) });
            let lanes = 1 << flight.lane;
            return Err(Box::new(BadAccess { check: Check::AsyncPending, lanes, address: None, detail, other }));
        }
        let Cta { flights, shared, global, .. } = &mut *self;
        flights.list.retain_mut(|f| match &mut f.what {
            What::Store(store) if f.warp == warp && lanes >> f.lane & 1 == 1 => {
                store.write(shared, global);
                false
            }
            _ => true,
        });
        Ok(())
    }
}

impl Source {
    /// What lies outside of the tensor.
    fn fill(&self) -> [u8; 16] {
        match self {
            Source::Tile(map, _) => map.fill(),
            _ => [0; 16],
        }
    }
}
