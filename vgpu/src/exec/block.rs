//! A block: its warps, what they share, and how far they are. Resumable, and reused for block after block.

use super::approx::mix;
use super::barrier::{BARRIERS, Barrier};
use super::registers::Constants;
use super::run::{self, LocatedFault};
use super::warp::Warp;
use super::{Launch, Options};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check, Fault};
use crate::ir::Op;
use crate::mem::{BlockMemory, LaunchMemory, SharedMemory, Words};
use crate::profile::Profile;

/// What all blocks of a launch see.
pub(super) struct Env<'a> {
    pub launch: &'a Launch<'a>,
    pub constants: &'a Constants,
    pub memory: &'a LaunchMemory,
    pub profile: &'a Profile,
    pub options: &'a Options,
    /// Bytes of static and dynamic shared memory.
    pub shared_bytes: usize,
}

/// What the warps of a block share.
pub(super) struct Cta<'a> {
    pub block: [u32; 3],
    pub linear: u64,
    pub shared: SharedMemory,
    pub global: BlockMemory<'a>,
    pub barriers: Vec<Barrier>,
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
    warps: Vec<Warp<'a>>,
    cta: Cta<'a>,
    passes: u64,
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
            shared: SharedMemory::new(env.shared_bytes, count, env.options.schedule != 0),
            global: env.memory.block(0),
            barriers: (0..BARRIERS).map(|_| Barrier::new(count)).collect(),
            touched: 0,
            counts: Counts::default(),
            hits: vec![0; launch.kernel.code.len()],
            issued: 0,
            seed: 0,
            addresses: [0; 32],
            words: Words::ZERO,
            old: Words::ZERO,
        };
        Block { env, warps, cta, passes: 0 }
    }

    /// Begins block number `linear` of the grid.
    pub fn reset(&mut self, linear: u64) {
        let [x, y, _] = self.env.launch.grid.map(|n| n.max(1) as u64);
        let cta = &mut self.cta;
        cta.block = [(linear % x) as u32, (linear / x % y) as u32, (linear / (x * y)) as u32];
        cta.linear = linear;
        cta.shared.reset();
        cta.global = self.env.memory.block(linear as u32);
        cta.barriers.iter_mut().for_each(Barrier::reset);
        cta.touched = 0;
        cta.issued = 0;
        let schedule = self.env.options.schedule;
        cta.seed = if schedule == 0 { 0 } else { mix(schedule ^ mix(linear)) | 1 };
        self.warps.iter_mut().for_each(Warp::reset);
        self.passes = 0;
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

    /// Its counts and how often each instruction was issued, over all blocks it has been.
    pub fn into_counts(self) -> (Counts, Vec<u64>) {
        (self.cta.counts, self.cta.hits)
    }

    /// Runs about `budget` warp instructions, or to the end.
    pub fn step(&mut self, budget: u64) -> Result<Progress, Box<Fault>> {
        let end = self.cta.issued.saturating_add(budget);
        loop {
            let mut moved = false;
            for i in 0..self.warps.len() {
                let i = self.warp_at(i);
                if self.warps[i].ready.is_empty() {
                    continue;
                }
                moved = true;
                let turn = TURN.min(end.saturating_sub(self.cta.issued).max(1));
                run::run(self.env, &mut self.cta, &mut self.warps[i], turn).map_err(|t| self.report(i, t))?;
                self.after(i)?;
                if self.cta.issued >= end {
                    break;
                }
            }
            self.passes += 1;
            if self.warps.iter().all(Warp::is_done) {
                return Ok(Progress::Done);
            }
            if !moved {
                return Err(self.deadlock());
            }
            if self.cta.issued >= end {
                return Ok(Progress::Running);
            }
        }
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
        let stuck = warp.ready.is_empty() && warp.at_barrier.is_empty() && !warp.waiting.is_empty();
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
                let mut group = warp.at_barrier.swap_remove(i).group;
                run::finish_reduction(self.env, warp, group, holds, threads);
                group.pc += 1;
                warp.join(group);
            }
        }
    }

    fn report(&self, warp: usize, located: LocatedFault) -> Box<Fault> {
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
        let bad = Box::new(BadAccess { check, lanes: group.lanes, address: None, detail });
        self.report(i, LocatedFault { pc: group.pc, bad })
    }

    /// No warp can go on.
    fn deadlock(&self) -> Box<Fault> {
        if let Some(i) = self.warps.iter().position(|w| !w.waiting.is_empty()) {
            return self.missing_members(i);
        }
        let stuck = self.warps.iter().enumerate().find_map(|(i, w)| w.at_barrier.first().map(|at| (i, *at)));
        let Some((i, at)) = stuck else {
            let detail = "no warp can go on".to_string();
            let bad = Box::new(BadAccess { check: Check::Barrier, lanes: 0, address: None, detail });
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
        let bad = Box::new(BadAccess { check: Check::Barrier, lanes: at.group.lanes, address: None, detail });
        self.report(i, LocatedFault { pc: at.group.pc, bad })
    }
}

/// The report of what went wrong where.
pub(super) fn fault(env: &Env<'_>, cta: &Cta<'_>, warp: usize, located: LocatedFault) -> Box<Fault> {
    let inst = env.launch.kernel.code.get(located.pc as usize);
    let source = inst
        .and_then(|inst| inst.source)
        .and_then(|(file, line)| env.launch.program.files.get(file as usize).map(|file| (file.clone(), line)));
    let bad = *located.bad;
    Box::new(Fault {
        check: bad.check,
        kernel: env.launch.kernel.name.clone(),
        line: inst.map_or(0, |inst| inst.line),
        source,
        block: cta.block,
        warp: warp as u32,
        lanes: bad.lanes,
        address: bad.address,
        detail: bad.detail,
    })
}
