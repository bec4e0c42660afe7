//! `mbarrier` operations of a warp: arrivals, announcements, and waiting, in the block's own memory or another's of the
//! cluster.

use super::block::{Cta, Env};
use super::flights::{AfterCopies, Flight};
use super::memory::{addresses, fault};
use super::registers::{ALL, Done, Registers};
use super::run::{Flow, Step};
use super::warp::{Awaits, Group, Suspended, Warp};
use crate::fault::{BadAccess, Check};
use crate::ir::{Mbarrier, MbarrierOp, Order, Pred, Slot, Space, WaitPhase};
use crate::mem::mbarriers::{Knowledge, Mbarrier as Object};
use crate::mem::{Accessor, Life, SHARED_WINDOW, SharedMemory};

/// An address in some block's shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub rank: u32,
    /// As that block has it.
    pub address: u64,
}

/// Bits of an address inside a block's window; above them stands the rank, from 1, or 0 for the block's own.
const RANK_SHIFT: u32 = 24;

/// The address that block `rank` has, for all blocks of the cluster.
pub(super) fn mapped(address: u64, rank: u32) -> u64 {
    address & ((1 << RANK_SHIFT) - 1) | u64::from(rank + 1) << RANK_SHIFT
}

/// The rank that a cluster address names; `None`: the block's own, which has none.
pub(super) fn mapped_rank(address: u64) -> Option<u32> {
    ((address >> RANK_SHIFT) as u32).checked_sub(1)
}

/// Where a shared (or cluster) address of block `own` leads.
pub(super) fn place(cta: &Cta<'_>, address: u64) -> Place {
    Place { rank: mapped_rank(address).unwrap_or(cta.rank), address: address & ((1 << RANK_SHIFT) - 1) }
}

/// The shared memory of another block of the cluster, which must be running, for an access at the instruction `at`.
pub(super) fn peer_of(
    peers: &mut [Option<SharedMemory>],
    rank: u32,
    at: u32,
) -> Result<&mut SharedMemory, Box<BadAccess>> {
    let size = peers.len();
    let Some(Some(peer)) = peers.get_mut(rank as usize) else {
        return Err(fault(Check::Cluster, ALL, None, format!("block {rank} of a cluster of {}", size.max(1))));
    };
    match peer.life {
        Life::Running => {
            peer.at(at);
            Ok(peer)
        }
        Life::NotBegun => Err(fault(
            Check::Cluster,
            ALL,
            None,
            format!(
                "shared memory of block {rank} of the cluster, which may not have begun: a barrier.cluster must lie before"
            ),
        )),
        Life::Ended => Err(fault(
            Check::Cluster,
            ALL,
            None,
            format!(
                "shared memory of block {rank} of the cluster, which has ended: a barrier.cluster must lie before its end"
            ),
        )),
    }
}

impl<'a> Cta<'a> {
    /// Who a warp of this block is to the memory of block `rank`.
    pub fn accessor(&self, warp: usize, rank: u32) -> Accessor {
        Accessor { rank: self.rank, own: rank == self.rank, warp }
    }

    /// The shared memory of a block of the cluster, which must be running.
    pub fn shared_of(&mut self, rank: u32) -> Result<&mut SharedMemory, Box<BadAccess>> {
        if rank == self.rank { Ok(&mut self.shared) } else { peer_of(&mut self.peers, rank, self.shared.instruction()) }
    }

    /// Every running block's memory, with its rank.
    pub fn each_shared(&mut self) -> impl Iterator<Item = (u32, &mut SharedMemory)> {
        let rank = self.rank;
        let own = std::iter::once((rank, &mut self.shared));
        let peers = self.peers.iter_mut().enumerate().filter_map(|(i, peer)| Some((i as u32, peer.as_mut()?)));
        own.chain(peers)
    }

    /// A fence of the cluster: what it closes for peers' next atomics and relaxed stores.
    pub fn fence_peers(&mut self, warp: usize) {
        let rank = self.rank;
        self.peers.iter_mut().flatten().for_each(|peer| peer.close(Accessor { rank, own: false, warp }));
    }

    /// An arrival hands on what is known, in the order of each block of the cluster.
    fn hand_on(&mut self, knowledge: &[(u32, Knowledge)], to: Place) -> Done {
        let barrier = self.shared_of(to.rank)?.barrier_at(None, to.address)?;
        knowledge.iter().for_each(|(rank, knowledge)| barrier.leave(*rank as usize, knowledge));
        Ok(())
    }

    /// That of a warp: all it knows.
    pub fn arrive_for(&mut self, warp: usize, to: Place) -> Done {
        let knowledge = self.knowledge(warp);
        self.hand_on(&knowledge, to)
    }

    /// A warp that saw a phase end knows what that handed on.
    pub fn take_up(&mut self, warp: usize, from: Place) -> Done {
        let handed_on = self.shared_of(from.rank)?.barrier_at(None, from.address)?.handed_on().to_vec();
        self.learn(warp, &handed_on);
        Ok(())
    }

    /// Bytes of a copy came to a barrier.
    pub fn complete_bytes(&mut self, to: Place, bytes: u32) -> Done {
        let number = self.shared_of(to.rank)?.barrier_at(None, to.address)?.number;
        // What the copy wrote, it wrote in the memory of the barrier's own block.
        let rank = to.rank;
        let knowledge = self.shared_of(rank)?.copier_knowledge(number);
        let barrier = self.shared_of(rank)?.barrier_at(None, to.address)?;
        barrier.leave(rank as usize, &knowledge);
        barrier.complete_bytes(bytes).map_err(|detail| failed(to, detail))?;
        self.events += 1;
        Ok(())
    }
}

fn failed(at: Place, detail: String) -> Box<BadAccess> {
    Box::new(crate::mem::mbarriers::bad(ALL, at.address, detail, None))
}

/// The lanes of `active` by the barrier that each names (and `other` value), lowest lane first.
fn cohorts(active: u32, addresses: &[u64; 32], other: &[u64; 32]) -> Vec<(u64, u64, u32)> {
    let mut found: Vec<(u64, u64, u32)> = Vec::new();
    for l in (0..32).filter(|l| active >> l & 1 == 1) {
        match found.iter_mut().find(|c| (c.0, c.1) == (addresses[l], other[l])) {
            Some(cohort) => cohort.2 |= 1 << l,
            None => found.push((addresses[l], other[l], 1 << l)),
        }
    }
    found
}

fn lanes_of(r: &Registers<'_>, active: u32, slot: Option<Slot>, otherwise: u32) -> Result<[u32; 32], Box<BadAccess>> {
    let Some(slot) = slot else { return Ok([otherwise; 32]) };
    r.check(slot, active)?;
    Ok(*r.narrow(slot))
}

/// The address of a barrier in windows of the cluster.
pub(super) fn window_address(space: Space, address: u64) -> Result<u64, Box<BadAccess>> {
    if space != Space::Generic {
        return Ok(address);
    }
    if (SHARED_WINDOW..SHARED_WINDOW + crate::mem::SHARED_WINDOW_BYTES).contains(&address) {
        return Ok(address - SHARED_WINDOW);
    }
    let detail =
        "an mbarrier object, or the shared side of a copy, at a generic address that is not shared".to_string();
    Err(Box::new(BadAccess { check: Check::AddressSpace, lanes: ALL, address: Some(address), detail, other: None }))
}

pub(super) fn execute(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    m: &Mbarrier,
    group: Group,
    active: u32,
) -> Step {
    if let MbarrierOp::PendingCount { d, state } = m.op {
        warp.registers.check_wide(state, active)?;
        let counts = warp.registers.wide(state).map(|state| Object::of_state(state).1);
        warp.registers.put(d, active, &counts);
        return Ok(Flow::Next);
    }
    let mut at = [0; 32];
    addresses(&warp.registers, active, m.a, &mut at)?;
    for l in (0..32).filter(|l| active >> l & 1 == 1) {
        at[l] = window_address(m.space, at[l])?;
        if m.space == Space::Shared && mapped_rank(at[l]).is_some_and(|rank| rank != cta.rank) {
            let detail = "an address of another block of the cluster in an instruction of .shared::cta".to_string();
            let (check, address) = (Check::AddressSpace, Some(at[l]));
            return Err(Box::new(BadAccess { check, lanes: 1 << l, address, detail, other: None }));
        }
    }
    if let MbarrierOp::Test { p, phase, may_wait } = m.op {
        return test(cta, warp, &at, m.order, (p, phase, may_wait), group, active);
    }
    for l in (0..32).filter(|l| active >> l & 1 == 1) {
        one_lane(env, cta, warp, m, place(cta, at[l]), l, group.pc).map_err(|mut bad| {
            bad.lanes = 1 << l;
            bad
        })?;
    }
    Ok(Flow::Next)
}

/// Everything but waiting, lane after lane.
fn one_lane(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    m: &Mbarrier,
    at: Place,
    lane: usize,
    pc: u32,
) -> Done {
    let is_own = at.rank == cta.rank;
    let own_only = |what: &str| match is_own {
        true => Ok(()),
        false => Err(fault(Check::Mbarrier, ALL, None, format!("{what} of another block's barrier"))),
    };
    let (r, active) = (&warp.registers, 1 << lane);
    let who = cta.accessor(warp.index, at.rank);
    cta.events += 1;
    match &m.op {
        MbarrierOp::Init { count } => {
            own_only("mbarrier.init")?;
            let count = lanes_of(r, active, Some(*count), 0)?[lane];
            let ranks = cta.peers.len().max(1);
            Ok(cta.shared.make_barrier(warp.index, at.address, count, ranks)?)
        }
        MbarrierOp::Inval => {
            own_only("mbarrier.inval")?;
            Ok(cta.shared.end_barrier(warp.index, at.address)?)
        }
        MbarrierOp::ExpectTx { bytes } => {
            let bytes = lanes_of(r, active, Some(*bytes), 0)?[lane];
            let barrier = cta.shared_of(at.rank)?.barrier_at(Some(who), at.address)?;
            barrier.expect(bytes).map_err(|detail| failed(at, detail))
        }
        MbarrierOp::CompleteTx { bytes } => {
            let bytes = lanes_of(r, active, Some(*bytes), 0)?[lane];
            cta.shared_of(at.rank)?.barrier_at(Some(who), at.address)?;
            cta.complete_bytes(at, bytes)
        }
        MbarrierOp::Arrive { state, count, expect, drop, no_complete } => {
            let (state, count, drop, no_complete) = (*state, *count, *drop, *no_complete);
            let count = lanes_of(r, active, count, 1)?[lane];
            let bytes = lanes_of(r, active, *expect, 0)?[lane];
            cta.counts.barrier_arrivals += 1;
            let barrier = cta.shared_of(at.rank)?.barrier_at(Some(who), at.address)?;
            let before = barrier.state();
            if bytes != 0 {
                barrier.expect(bytes).map_err(|detail| failed(at, detail))?;
            }
            if m.order.releases() {
                cta.arrive_for(warp.index, at)?;
            } else {
                // Of what the warp's last fence closed.
                cta.hand_on(&warp.initialised, at)?;
            }
            let barrier = cta.shared_of(at.rank)?.barrier_at(None, at.address)?;
            let ended = barrier.arrive(count, drop).map_err(|detail| failed(at, detail))?;
            if ended && no_complete {
                return Err(failed(at, "mbarrier.arrive.noComplete ends the phase".to_string()));
            }
            if let Some(state) = state {
                own_only("an arrival with a state")?;
                warp.registers.put_wide(state, active, &[before; 32]);
            }
            Ok(())
        }
        MbarrierOp::AfterCopies { no_increment } => {
            let barrier = cta.shared_of(at.rank)?.barrier_at(Some(who), at.address)?;
            if !no_increment {
                barrier.one_more();
            }
            let upto = cta.shared.copies_issued(warp.index);
            let flight = Flight::after_copies(AfterCopies { warp: warp.index, lane, upto, barrier: at }, pc);
            cta.start(env, flight)
        }
        MbarrierOp::Test { .. } | MbarrierOp::PendingCount { .. } => Ok(()),
    }
}

/// The phase that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Parity(u32),
    Number(u64),
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Phase::Parity(parity) => write!(f, "the end of a phase of parity {parity}"),
            Phase::Number(number) => write!(f, "the end of phase {number}"),
        }
    }
}

impl Phase {
    fn is_over(self, barrier: &Object) -> bool {
        match self {
            Phase::Parity(parity) => barrier.is_past_parity(parity),
            Phase::Number(number) => barrier.phase() > number,
        }
    }
}

/// Whether the phase is over; if so the warp takes up what it handed on.
pub(super) fn is_over(
    cta: &mut Cta<'_>,
    warp: usize,
    at: Place,
    phase: Phase,
    acquires: bool,
) -> Result<bool, Box<BadAccess>> {
    let who = cta.accessor(warp, at.rank);
    let barrier = cta.shared_of(at.rank)?.barrier_at(Some(who), at.address)?;
    if !phase.is_over(barrier) {
        return Ok(false);
    }
    let complete = barrier.phase();
    barrier.seen.insert(warp as u32, complete);
    if acquires && complete != 0 {
        cta.take_up(warp, at)?;
    }
    Ok(true)
}

fn test(
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    at: &[u64; 32],
    order: Order,
    (p, phase, may_wait): (Pred, WaitPhase, bool),
    group: Group,
    active: u32,
) -> Step {
    let asked: [u64; 32] = match phase {
        WaitPhase::State(slot) => {
            warp.registers.check_wide(slot, active)?;
            warp.registers.wide(slot).map(|state| Object::of_state(state).0)
        }
        WaitPhase::Parity(slot) => {
            warp.registers.check(slot, active)?;
            warp.registers.narrow(slot).map(|parity| u64::from(parity & 1))
        }
    };
    let as_phase = |value: u64| match phase {
        WaitPhase::State(_) => Phase::Number(value),
        WaitPhase::Parity(_) => Phase::Parity(value as u32),
    };
    let cohorts = cohorts(active, at, &asked);
    let mut over = 0;
    for &(address, value, lanes) in &cohorts {
        let there = place(cta, address);
        if is_over(cta, warp.index, there, as_phase(value), order.acquires())? {
            over |= lanes;
            if !order.acquires() {
                warp.saw_end(there);
            }
        }
    }
    if let [(address, value, _)] = cohorts[..]
        && may_wait
        && over == 0
    {
        cta.counts.barrier_waits += 1;
        let awaits = Awaits::Barrier { at: place(cta, address), phase: as_phase(value), acquires: order.acquires(), p };
        warp.suspended.push(Suspended { group: Group { lanes: active, ..group }, awaits });
        return Ok(Flow::Only(group.lanes & !active));
    }
    warp.registers.put_pred(p, active, over);
    let missing = cohorts.iter().find(|(_, _, lanes)| lanes & !over != 0);
    warp.asked = missing.map(|&(address, value, lanes)| {
        let (at, phase) = (place(cta, address), as_phase(value));
        let awaits = Awaits::Barrier { at, phase, acquires: order.acquires(), p };
        Suspended { group: Group { lanes, ..group }, awaits }
    });
    Ok(if missing.is_some() { Flow::Yield } else { Flow::Next })
}
