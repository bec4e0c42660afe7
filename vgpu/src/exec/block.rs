//! A block: its warps, what they share, and how far they are. Resumable, and reused for block after block.

use super::approx::mix;
use super::barrier::{BARRIERS, Barrier};
use super::block_barrier;
use super::cluster::{self, Meeting, Moved};
use super::dependency::Dependency;
use super::flights::Flights;
use super::mbarrier;
use super::registers::Constants;
use super::run::{self, LocatedFault};
use super::warp::{Awaits, Group, Suspended, Warp};
use super::wgmma::{self, Warpgroups};
use super::{Launch, Options};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check, Fault, Place};
use crate::ir::Op;
use crate::mem::{BlockMemory, LaunchMemory, Life, SharedMemory, Words};
use crate::profile::Profile;

/// What all blocks of a launch see.
pub(super) struct Env<'a> {
    pub launch: &'a Launch<'a>,
    pub constants: &'a Constants,
    pub memory: &'a LaunchMemory,
    pub profile: &'a Profile,
    pub options: &'a Options,
    /// Blocks may wait for each other in global memory.
    pub communicates: bool,
    /// Bytes of static and dynamic shared memory.
    pub shared_bytes: usize,
}

/// What the warps of a block share.
pub(super) struct Cta<'a> {
    pub block: [u32; 3],
    pub linear: u64,
    /// Its place among the blocks of its cluster.
    pub rank: u32,
    pub shared: SharedMemory,
    /// The memory of the other blocks of the cluster, by rank, while it is this block's turn. Empty where there are none.
    pub peers: Vec<Option<SharedMemory>>,
    /// The cluster's barrier, while it is this block's turn.
    pub meeting: Option<Box<Meeting>>,
    pub flights: Flights,
    /// Counts what others may wait for: arrivals, copies, their ends.
    pub events: u64,
    pub dependency: Dependency,
    pub global: BlockMemory<'a>,
    pub barriers: Vec<Barrier>,
    pub wgmma: Warpgroups,
    /// Barriers that something arrived at since they were last looked at: a bit each.
    pub touched: u32,
    pub counts: Counts,
    /// How often each instruction was issued.
    pub hits: Vec<u64>,
    /// Warp instructions of this block.
    pub issued: u64,
    pub seed: u64,
    pub addresses: [u64; 32],
    pub words: Words,
    pub old: Words,
}

pub(super) struct Block<'a> {
    env: &'a Env<'a>,
    pub(super) warps: Vec<Warp<'a>>,
    cta: Cta<'a>,
    passes: u64,
    /// Registers of a lane of each warp, summed: what `setmaxnreg` moves between them.
    pub(super) registers: u32,
    /// Where a pass in order goes on that ran out of budget.
    first: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    Running,
}

/// Instructions that a warp runs before the block's other warps get their turn: only warps that spin reach it.
const TURN: u64 = 20_000;

impl<'a> Block<'a> {
    pub fn new(env: &'a Env<'a>) -> Block<'a> {
        let launch = env.launch;
        let threads = launch.block.iter().map(|&n| n as usize).product::<usize>();
        let count = threads.div_ceil(32);
        let warps = (0..count).map(|i| Warp::new(env.constants, launch.kernel, i, launch.block)).collect();
        let cta = Cta {
            block: [0; 3],
            linear: 0,
            rank: 0,
            shared: SharedMemory::new(env.shared_bytes, count, env.options.schedule != 0),
            peers: Vec::new(),
            meeting: None,
            flights: Flights::new(count),
            events: 0,
            dependency: Dependency::new(env),
            global: env.memory.block(0),
            barriers: (0..BARRIERS).map(|_| Barrier::new(count)).collect(),
            wgmma: Warpgroups::new(launch.kernel, count),
            touched: 0,
            counts: Counts::default(),
            hits: vec![0; launch.kernel.code.len()],
            issued: 0,
            seed: 0,
            addresses: [0; 32],
            words: Words::ZERO,
            old: Words::ZERO,
        };
        let ranks = env.launch.cluster.iter().map(|&n| n as usize).product::<usize>().max(1);
        let mut block = Block { env, warps, cta, passes: 0, registers: 0, first: 0 };
        block.cta.meeting = Some(Box::new(Meeting::new(ranks, count)));
        block
    }

    /// Begins block number `linear` of the grid, of rank `rank` in its cluster of blocks `cluster`.
    pub fn reset(&mut self, linear: u64, rank: u32, cluster: &[u64]) {
        let env = self.env;
        let cta = &mut self.cta;
        cta.block = coordinates(env, linear);
        (cta.linear, cta.rank) = (linear, rank);
        cta.shared.reset();
        cta.shared.place(rank as usize, cluster.to_vec());
        // Blocks of a cluster order each other in ways that launches do not know of: to others they are one.
        cta.global = env.memory.block(cluster.first().copied().unwrap_or(linear) as u32);
        cta.barriers.iter_mut().for_each(Barrier::reset);
        cta.wgmma.reset();
        cta.touched = 0;
        cta.issued = 0;
        cta.flights.reset();
        cta.events = 0;
        cta.dependency.reset(env);
        let schedule = env.options.schedule;
        cta.seed = if schedule == 0 { 0 } else { mix(schedule ^ mix(linear)) | 1 };
        let registers = cluster::first_registers(env.launch.kernel, env.launch.block.iter().product());
        for warp in &mut self.warps {
            warp.reset();
            warp.max_registers = registers;
        }
        self.registers = registers * self.warps.len() as u32;
        (self.passes, self.first) = (0, 0);
    }

    pub fn issued(&self) -> u64 {
        self.cta.issued
    }

    /// Accesses to global memory by which it may learn what other blocks did.
    pub fn looks(&self) -> u64 {
        self.cta.global.looks()
    }

    /// Where one of its warps is: instruction, warp, lanes, and which block it is.
    pub fn somewhere(&self) -> (u32, u32, u32, [u32; 3]) {
        let ready = self.warps.iter().find_map(|w| w.ready.first().map(|g| (g.pc, w.index as u32, g.lanes)));
        let (pc, warp, lanes) = ready.unwrap_or((0, 0, 0));
        (pc, warp, lanes, self.cta.block)
    }

    /// Its counts and how often each instruction was issued, over all blocks it has been; whether all of these waited for
    /// earlier launches before they let dependent ones begin.
    pub fn into_counts(self) -> (Counts, Vec<u64>, bool) {
        (self.cta.counts, self.cta.hits, self.cta.dependency.always_waited)
    }

    pub fn is_done(&self) -> bool {
        self.cta.shared.life == Life::Ended
    }

    pub fn events(&self) -> u64 {
        let cta = &self.cta;
        cta.events + cta.counts.global_store_requests + cta.counts.atomics + cta.shared.written()
    }

    /// One pass over the warps, each to where it waits, until about `end` instructions are issued.
    pub fn pass(&mut self, end: u64) -> Result<Moved, Box<Fault>> {
        self.cta.shared.life = Life::Running;
        let mut moved = Moved::Not;
        let (first, count) = (std::mem::take(&mut self.first), self.warps.len());
        for k in first..first + count {
            let i = self.warp_at(k % count);
            if !self.warps[i].suspended.is_empty() {
                self.wake(i)?;
            }
            if self.warps[i].ready.is_empty() {
                continue;
            }
            let turn = TURN.min(end.saturating_sub(self.cta.issued).max(1));
            let how = run::run(self.env, &mut self.cta, &mut self.warps[i], turn).map_err(|t| self.report(i, t))?;
            moved = moved.max(how);
            self.after(i)?;
            if self.cta.issued >= end {
                self.first = if self.cta.seed == 0 { (k + 1) % count } else { 0 };
                break;
            }
        }
        self.passes += 1;
        if self.warps.iter().all(Warp::is_done) {
            self.end()?;
        }
        Ok(moved)
    }

    /// All threads have ended. Copies to other blocks of the cluster may go on.
    fn end(&mut self) -> Result<(), Box<Fault>> {
        self.check_registers()?;
        if self.cta.is_needed() {
            return Err(self.unfinished());
        }
        self.cta.dependency.end();
        self.cta.shared.life = Life::Ended;
        Ok(())
    }

    /// Operations that nobody waited for, when all blocks of the cluster have ended.
    pub fn check_finished(&self) -> Result<(), Box<Fault>> {
        if self.cta.outstanding() == 0 { Ok(()) } else { Err(self.unfinished()) }
    }

    fn unfinished(&self) -> Box<Fault> {
        let (pc, warp) = self.cta.oldest().unwrap_or((0, 0));
        let detail = "a copy that its block asked for, and nobody waited for, when all threads of the block have ended";
        let (check, detail) = (Check::AsyncPending, detail.to_string());
        let bad = BadAccess { check, lanes: 0, address: None, detail, other: None };
        self.report(warp, LocatedFault { pc, bad: Box::new(bad) })
    }

    /// Suspended lanes whose time has come go on.
    fn wake(&mut self, i: usize) -> Result<(), Box<Fault>> {
        let mut k = 0;
        while k < self.warps[i].suspended.len() {
            let Suspended { mut group, awaits } = self.warps[i].suspended[k];
            let (cta, warp) = (&mut self.cta, &mut self.warps[i]);
            let over = match awaits {
                Awaits::Products { number, entry } => {
                    let over = cta.wgmma.is_reached(i, entry);
                    if over {
                        self.finish_products(i, number);
                    }
                    over
                }
                Awaits::Barrier { at, phase, acquires, p } => {
                    cta.shared.at(group.pc);
                    let over = mbarrier::is_over(cta, i, at, phase, acquires);
                    let over = over.map_err(|bad| self.report(i, LocatedFault { pc: group.pc, bad }))?;
                    if over {
                        self.warps[i].registers.put_pred(p, group.lanes, u32::MAX);
                        if !acquires {
                            self.warps[i].saw_end(at);
                        }
                    }
                    over
                }
                Awaits::Cluster { phase, acquires } => cluster::is_over(cta, warp, group.lanes, phase, acquires),
                Awaits::Registers { count } => {
                    let over = self.has_registers(i, count);
                    if over {
                        self.warps[i].max_registers = count;
                    }
                    over
                }
            };
            if over {
                self.warps[i].suspended.swap_remove(k);
                group.pc += 1;
                self.warps[i].join(group);
            } else {
                k += 1;
            }
        }
        Ok(())
    }

    /// The products of a warpgroup up to a group, of which the warp `i` sees the end.
    fn finish_products(&mut self, i: usize, number: u64) {
        let (env, cta) = (self.env, &mut self.cta);
        for warp in self.warps[i & !3..].iter_mut().take(4) {
            wgmma::compute_groups(env, cta, warp, number);
        }
        wgmma::retire(env, cta, &mut self.warps[i], number);
    }

    /// Suspended waits that may end without success do. Whether there were any.
    pub fn give_up(&mut self) -> bool {
        let mut any = false;
        for warp in &mut self.warps {
            let given_up = |s: &Suspended| matches!(s.awaits, Awaits::Barrier { .. });
            for Suspended { mut group, awaits } in warp.suspended.extract_if(.., |s| given_up(s)).collect::<Vec<_>>() {
                if let Awaits::Barrier { p, .. } = awaits {
                    warp.registers.put_pred(p, group.lanes, 0);
                }
                group.pc += 1;
                warp.join(group);
                any = true;
            }
        }
        any
    }

    pub fn is_suspended(&self) -> bool {
        self.warps.iter().any(|w| w.waits().next().is_some())
    }

    /// One outstanding operation goes on a step.
    pub fn complete_one(&mut self, pick: u64) -> Result<bool, Box<Fault>> {
        self.cta.complete_one(pick).map_err(|(warp, located)| self.report(warp, located))
    }

    /// The cluster's barrier, if it is here.
    pub fn meeting(&mut self) -> Option<&mut Meeting> {
        self.cta.meeting.as_deref_mut()
    }

    pub fn take_meeting(&mut self) -> Option<Box<Meeting>> {
        self.cta.meeting.take()
    }

    /// Its memory, for another block's turn.
    pub fn lend(&mut self) -> Option<SharedMemory> {
        Some(std::mem::take(&mut self.cta.shared))
    }

    pub fn restore(&mut self, memory: Option<SharedMemory>) {
        if let Some(memory) = memory {
            self.cta.shared = memory;
        }
    }

    /// For its turn.
    pub fn borrow(
        &mut self,
        own: Option<SharedMemory>,
        peers: Vec<Option<SharedMemory>>,
        meeting: Option<Box<Meeting>>,
    ) {
        self.restore(own);
        self.cta.peers = peers;
        self.cta.meeting = meeting;
    }

    pub fn give_back(&mut self) -> Vec<Option<SharedMemory>> {
        let none = self.cta.peers.iter().map(|_| None).collect();
        std::mem::replace(&mut self.cta.peers, none)
    }

    /// The lanes of each warp that are not done.
    pub fn live(&self) -> Vec<u32> {
        self.warps.iter().map(|w| w.live).collect()
    }

    /// The cluster's barrier is complete: it orders a warp's lanes, too.
    pub fn lanes_meet(&mut self) {
        (0..self.warps.len()).for_each(|warp| self.cta.shared.warp_barrier(warp, u32::MAX, true));
    }

    /// What its suspended warps wait for, in words.
    pub fn suspended(&self, blocks: &[Block<'_>]) -> Vec<String> {
        let block = if blocks.len() > 1 { format!("block {} of the cluster, ", self.cta.rank) } else { String::new() };
        let one = |warp: &Warp<'_>, s: &Suspended| {
            let line = self.line(s.group.pc);
            let who = format!("{block}warp {} waits at PTX line {line}", warp.index);
            match s.awaits {
                Awaits::Barrier { at, phase, .. } => {
                    let memory = blocks.get(at.rank as usize).map(|b| &b.cta.shared);
                    let barrier = memory.and_then(|m| m.mbarrier(at.address));
                    let state = barrier.map_or("ended".to_string(), |b| b.describe());
                    let seen = barrier.and_then(|b| b.seen.get(&(warp.index as u32)));
                    let seen =
                        seen.map_or(String::new(), |n| format!("; it saw the end of phase {}", n.saturating_sub(1)));
                    format!("{who} for {phase} of the barrier at {:#x}, which is {state}{seen}", at.address)
                }
                Awaits::Cluster { .. } => format!("{who} for all threads of the cluster"),
                Awaits::Registers { count } => format!("{who} for {count} registers a thread"),
                Awaits::Products { .. } => format!("{who} for products that its warpgroup did not all ask for"),
            }
        };
        self.warps.iter().flat_map(|warp| warp.waits().map(move |s| one(warp, &s))).collect()
    }

    /// What it waits for never comes.
    pub fn never(&self, waiting: String) -> Box<Fault> {
        let all = || self.warps.iter().enumerate().flat_map(|(i, w)| w.waits().map(move |s| (i, s)));
        // Others wait for a warp that lacks registers.
        let cause = all().find(|(_, s)| matches!(s.awaits, Awaits::Registers { .. }));
        let first = cause.or_else(|| all().next());
        let (i, pc, lanes, check) = first.map_or((0, 0, 0, Check::Mbarrier), |(i, s)| {
            let check = match s.awaits {
                Awaits::Barrier { .. } => Check::Mbarrier,
                Awaits::Cluster { .. } => Check::Cluster,
                Awaits::Registers { .. } => Check::MaxRegisters,
                Awaits::Products { .. } => Check::Wgmma,
            };
            (i, s.group.pc, s.group.lanes, check)
        });
        let detail = format!("it waits for ever, with no copy outstanding: {waiting}");
        let bad = BadAccess { check, lanes, address: None, detail, other: None };
        self.report(i, LocatedFault { pc, bad: Box::new(bad) })
    }

    /// The warp that comes i-th in this pass: in order, or by the seed from somewhere with some stride.
    fn warp_at(&self, i: usize) -> usize {
        let count = self.warps.len();
        if self.cta.seed == 0 || count < 2 {
            return i;
        }
        let hash = mix(self.cta.seed ^ self.passes);
        let start = (hash >> 32) as usize % count;
        let step = if hash & 1 == 0 { 1 } else { count - 1 };
        (start + i * step) % count
    }

    /// A warp stopped: barriers may be complete now, or it may never go on.
    fn after(&mut self, i: usize) -> Result<(), Box<Fault>> {
        let warp = &self.warps[i];
        let none = warp.ready.is_empty() && warp.at_barrier.is_empty() && warp.suspended.is_empty();
        let stuck = none && !warp.waiting.is_empty();
        if stuck {
            return Err(self.missing_members(i));
        }
        if warp.is_done() {
            // One thread fewer to wait for.
            self.cta.touched = (0..BARRIERS).filter(|&b| !self.cta.barriers[b].is_idle()).fold(0, |t, b| t | 1 << b);
        }
        while self.cta.touched != 0 {
            let id = self.cta.touched.trailing_zeros();
            self.cta.touched &= self.cta.touched - 1;
            if self.cta.barriers[id as usize].is_complete(self.warps.iter().map(|w| w.live)) {
                self.complete(id);
            }
        }
        Ok(())
    }

    fn complete(&mut self, id: u32) {
        let barrier = &mut self.cta.barriers[id as usize];
        let (arrived, waited) = barrier.participants();
        let (holds, threads) = (barrier.holds, barrier.threads);
        barrier.reset();
        self.cta.shared.barrier(arrived, waited);
        self.cta.counts.barriers += 1;
        for warp in &mut self.warps {
            let mut i = 0;
            while i < warp.at_barrier.len() {
                if warp.at_barrier[i].id != id {
                    i += 1;
                    continue;
                }
                let group = warp.at_barrier.swap_remove(i).group;
                block_barrier::finish_reduction(self.env, warp, group, holds, threads);
                warp.join(Group { pc: group.pc + 1, ..group });
            }
        }
    }

    pub(super) fn report(&self, warp: usize, located: LocatedFault) -> Box<Fault> {
        fault(self.env, &self.cta, warp, located)
    }

    fn line(&self, pc: u32) -> u32 {
        self.env.launch.kernel.code.get(pc as usize).map_or(0, |inst| inst.line)
    }

    /// Lanes of a warp wait for others of it that will never come.
    fn missing_members(&self, i: usize) -> Box<Fault> {
        let warp = &self.warps[i];
        let group = warp.waiting[0];
        let inst = &self.env.launch.kernel.code[group.pc as usize];
        let is_barrier = matches!(inst.op, Op::Barrier { .. });
        let others: Vec<String> = warp.waiting[1..]
            .iter()
            .map(|g| format!("lanes {:#010x} wait at PTX line {}", g.lanes, self.line(g.pc)))
            .chain((warp.exist & !warp.live != 0).then(|| format!("lanes {:#010x} ended", warp.exist & !warp.live)))
            .collect();
        let what = if is_barrier {
            "part of a warp waits at a barrier that the whole warp must reach together"
        } else {
            "lanes wait for members that never arrive"
        };
        let detail = format!("{what}; {}", others.join(", "));
        let check = if is_barrier { Check::Barrier } else { Check::Membership };
        let bad = Box::new(BadAccess { check, lanes: group.lanes, address: None, detail, other: None });
        self.report(i, LocatedFault { pc: group.pc, bad })
    }

    /// No warp can go on.
    pub fn deadlock(&self) -> Box<Fault> {
        if let Some(i) = self.warps.iter().position(|w| !w.waiting.is_empty()) {
            return self.missing_members(i);
        }
        let stuck = self.warps.iter().enumerate().find_map(|(i, w)| w.at_barrier.first().map(|at| (i, *at)));
        let Some((i, at)) = stuck else {
            let detail = "no warp can go on".to_string();
            let bad = Box::new(BadAccess { check: Check::Barrier, lanes: 0, address: None, detail, other: None });
            return self.report(0, LocatedFault { pc: 0, bad });
        };
        let barrier = &self.cta.barriers[at.id as usize];
        let missing: Vec<String> = self
            .warps
            .iter()
            .filter(|w| w.live & !barrier.arrived(w.index) != 0 || w.is_done() && barrier.expected().is_some())
            .take(8)
            .map(|w| match w.at_barrier.first() {
                Some(other) => {
                    let line = self.line(other.group.pc);
                    format!("warp {} waits at barrier {} (PTX line {line})", w.index, other.id)
                }
                None => format!("warp {} ended", w.index),
            })
            .collect();
        let waits = match barrier.expected() {
            Some(expected) => format!("{} of the {expected} threads it is for arrived", barrier.count()),
            None => "not every thread of the block arrives".to_string(),
        };
        let detail = format!("barrier {} never completes: {waits}; {}", at.id, missing.join(", "));
        let bad =
            Box::new(BadAccess { check: Check::Barrier, lanes: at.group.lanes, address: None, detail, other: None });
        self.report(i, LocatedFault { pc: at.group.pc, bad })
    }
}

/// The report of what went wrong where.
pub(super) fn fault(env: &Env<'_>, cta: &Cta<'_>, warp: usize, located: LocatedFault) -> Box<Fault> {
    let bad = *located.bad;
    let here = place(env, located.pc, cta.block, Some(warp as u32));
    let other = bad.other.map(|other| {
        let block = other.block.map_or(cta.block, |linear| coordinates(env, linear));
        place(env, other.pc, block, other.warp)
    });
    Box::new(Fault {
        check: bad.check,
        kernel: env.launch.kernel.name.clone(),
        line: here.line,
        source: here.source,
        block: cta.block,
        warp: warp as u32,
        lanes: bad.lanes,
        address: bad.address,
        detail: bad.detail,
        other,
    })
}

fn place(env: &Env<'_>, pc: u32, block: [u32; 3], warp: Option<u32>) -> Place {
    let inst = env.launch.kernel.code.get(pc as usize);
    let source = inst
        .and_then(|inst| inst.source)
        .and_then(|(file, line)| env.launch.program.files.get(file as usize).map(|file| (file.clone(), line)));
    Place { line: inst.map_or(0, |inst| inst.line), source, block, warp }
}

/// Where block number `linear` lies in the grid.
pub(super) fn coordinates(env: &Env<'_>, linear: u64) -> [u32; 3] {
    let [x, y, _] = env.launch.grid.map(|n| n.max(1) as u64);
    [(linear % x) as u32, (linear / x % y) as u32, (linear / (x * y)) as u32]
}
