//! A cluster of blocks (mostly of one): each block in its turn, what is asynchronous when nobody can go on, and the
//! barrier of all its threads.
//!
//! Time: a warp that waits for a barrier's phase (`try_wait`) is suspended. When no warp can go on, one outstanding
//! operation completes: the oldest, or one that the seed picks. When none is left, waits are given up, as hardware does after
//! some time; when that changes nothing, nothing ever will.

use super::approx::mix;
use super::block::{Block, Cta, Env, Progress};
use super::memory::fault;
use super::registers::{ALL, Done};
use super::run::{Flow, LocatedFault, Step};
use super::warp::{Awaits, Group, Suspended, Warp};
use crate::counts::Counts;
use crate::fault::{Check, Fault};
use crate::ir;
use crate::mem::Accessor;
use crate::mem::mbarriers::Knowledge;

/// Passes in which all warps that ran only looked for something, after which an operation completes for them.
const PATIENCE: u32 = 2;
/// Passes after which an operation completes in any case: warps may meet at barriers while they look for it.
const LATEST: u32 = 1000;
/// Rounds in which nothing happened but that waits were given up, after which nothing ever will: programs may count them.
const GIVEN_UP: u32 = 100;

/// Passes in which all warps that ran asked for something (`test_wait`), and nothing else happened, after which it never will: where
/// no other cluster can help.
const QUESTIONS: u32 = 10_000;

/// How a pass over a block's warps went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moved {
    /// None could go on.
    Not,
    /// Those that did asked for something that is not there.
    Asked,
    /// Those that did were still at it when their turn was over, or asked for something that is not there.
    Spun,
    Yes,
}

/// The cluster's barrier.
pub(super) struct Meeting {
    /// Lanes that arrived, by rank and warp.
    arrived: Vec<Vec<u32>>,
    /// Barriers that are complete.
    pub phase: u64,
    touched: bool,
    gathered: Vec<Knowledge>,
    handed_on: Vec<Knowledge>,
}

impl Meeting {
    pub fn new(ranks: usize, warps: usize) -> Meeting {
        Meeting {
            arrived: vec![vec![0; warps]; ranks],
            phase: 0,
            touched: false,
            gathered: vec![Knowledge::NOTHING; ranks],
            handed_on: vec![Knowledge::NOTHING; ranks],
        }
    }

    fn reset(&mut self) {
        self.arrived.iter_mut().for_each(|warps| warps.fill(0));
        self.gathered.fill(Knowledge::NOTHING);
        (self.phase, self.touched) = (0, false);
    }
}

pub(super) struct Cluster<'a> {
    env: &'a Env<'a>,
    blocks: Vec<Block<'a>>,
    passes: u64,
    /// Where a pass in order goes on that ran out of budget.
    first: usize,
    spun: u32,
    /// Passes since an operation completed because nobody went on.
    late: u32,
    /// What had happened when waits were given up last, and how often since something did.
    given_up: (u64, u32),
    seed: u64,
}

impl<'a> Cluster<'a> {
    pub fn new(env: &'a Env<'a>) -> Cluster<'a> {
        let size = env.launch.cluster.iter().map(|&n| n as usize).product::<usize>().max(1);
        let mut blocks: Vec<_> = (0..size).map(|_| Block::new(env)).collect();
        // They share the first one's.
        blocks[1..].iter_mut().for_each(|block| drop(block.take_meeting()));
        Cluster { env, blocks, passes: 0, first: 0, spun: 0, late: 0, given_up: (0, 0), seed: 0 }
    }

    /// Begins cluster number `number` of the grid.
    pub fn reset(&mut self, number: u64) {
        let launch = self.env.launch;
        let size = launch.cluster.map(|n| u64::from(n.max(1)));
        let grid = launch.grid.map(|n| u64::from(n.max(1)));
        let clusters = [grid[0] / size[0], grid[1] / size[1]].map(|n| n.max(1));
        let corner = [
            number % clusters[0] * size[0],
            number / clusters[0] % clusters[1] * size[1],
            number / (clusters[0] * clusters[1]) * size[2],
        ];
        let linear = |rank: u64| {
            let [x, y, z] = [rank % size[0], rank / size[0] % size[1], rank / (size[0] * size[1])];
            (corner[0] + x) + grid[0] * ((corner[1] + y) + grid[1] * (corner[2] + z))
        };
        let numbers: Vec<u64> = (0..self.blocks.len() as u64).map(linear).collect();
        for (rank, block) in self.blocks.iter_mut().enumerate() {
            block.reset(numbers[rank], rank as u32, &numbers);
        }
        self.blocks.iter_mut().filter_map(Block::meeting).for_each(Meeting::reset);
        (self.passes, self.first, self.spun, self.late, self.given_up) = (0, 0, 0, 0, (0, 0));
        let schedule = self.env.options.schedule;
        self.seed = if schedule == 0 { 0 } else { mix(schedule ^ mix(number ^ 0x5eed)) | 1 };
    }

    pub fn issued(&self) -> u64 {
        self.blocks.iter().map(Block::issued).sum()
    }

    /// Accesses by which it may learn what other clusters did.
    pub fn looks(&self) -> u64 {
        self.blocks.iter().map(Block::looks).sum()
    }

    /// Where one of its warps is: instruction, warp, lanes, and which block it is.
    pub fn somewhere(&self) -> (u32, u32, u32, [u32; 3]) {
        let open = self.blocks.iter().find(|block| !block.is_done());
        open.unwrap_or(&self.blocks[0]).somewhere()
    }

    /// The counts, how often each instruction was issued, and whether each block waited for earlier launches.
    pub fn into_counts(self) -> impl Iterator<Item = (Counts, Vec<u64>, bool)> {
        self.blocks.into_iter().map(Block::into_counts)
    }

    /// Runs about `budget` warp instructions, or to the end.
    pub fn step(&mut self, budget: u64) -> Result<Progress, Box<Fault>> {
        let end = self.issued().saturating_add(budget);
        loop {
            let mut moved = Moved::Not;
            let (first, count) = (std::mem::take(&mut self.first), self.blocks.len());
            for k in first..first + count {
                let i = self.block_at(k % count);
                if !self.blocks[i].is_done() {
                    moved = moved.max(self.pass(i, end)?);
                }
                if self.issued() >= end {
                    self.first = if self.seed == 0 { (k + 1) % count } else { 0 };
                    break;
                }
            }
            self.passes += 1;
            if self.blocks.iter().all(Block::is_done) {
                self.blocks.iter().try_for_each(Block::check_finished)?;
                return Ok(Progress::Done);
            }
            self.spun = if matches!(moved, Moved::Asked | Moved::Spun) { self.spun + 1 } else { 0 };
            self.late += 1;
            if moved == Moved::Not || self.spun > PATIENCE || self.late > LATEST {
                self.late = 0;
                self.wait_no_longer(moved)?;
            }
            if self.issued() >= end {
                return Ok(Progress::Running);
            }
        }
    }

    /// The block that comes k-th in this pass.
    fn block_at(&self, k: usize) -> usize {
        let count = self.blocks.len();
        if self.seed == 0 || count < 2 {
            return k;
        }
        let hash = mix(self.seed ^ self.passes);
        let step = if hash & 1 == 0 { 1 } else { count - 1 };
        ((hash >> 32) as usize + k * step) % count
    }

    fn pass(&mut self, i: usize, end: u64) -> Result<Moved, Box<Fault>> {
        if let [block] = &mut self.blocks[..] {
            let result = block.pass(end);
            self.meet();
            return result;
        }
        let others = self.issued() - self.blocks[i].issued();
        self.enter(i);
        let result = self.blocks[i].pass(end.saturating_sub(others));
        self.leave(i);
        self.meet();
        result
    }

    /// Gives a block the memory of its peers, and the cluster's barrier, for its turn.
    fn enter(&mut self, i: usize) {
        if self.blocks.len() > 1 {
            let mut peers: Vec<_> = self.blocks.iter_mut().map(Block::lend).collect();
            let meeting = self.blocks.iter_mut().find_map(Block::take_meeting);
            let own = peers[i].take();
            self.blocks[i].borrow(own, peers, meeting);
        }
    }

    fn leave(&mut self, i: usize) {
        if self.blocks.len() > 1 {
            let peers = self.blocks[i].give_back();
            for (j, memory) in peers.into_iter().enumerate().filter(|(j, _)| *j != i) {
                self.blocks[j].restore(memory);
            }
        }
    }

    /// The barrier of all threads, if they are all there.
    fn meet(&mut self) {
        let live: Vec<Vec<u32>> = match self.blocks.iter_mut().find_map(Block::meeting) {
            Some(meeting) if meeting.touched => self.blocks.iter().map(Block::live).collect(),
            _ => return,
        };
        let Some(meeting) = self.blocks.iter_mut().find_map(Block::meeting) else { return };
        let missing = |rank: usize, warp: usize| live[rank][warp] & !meeting.arrived[rank][warp];
        if (0..live.len()).any(|rank| (0..live[rank].len()).any(|warp| missing(rank, warp) != 0)) {
            return;
        }
        meeting.touched = false;
        meeting.phase += 1;
        meeting.arrived.iter_mut().for_each(|warps| warps.fill(0));
        std::mem::swap(&mut meeting.gathered, &mut meeting.handed_on);
        meeting.gathered.fill(Knowledge::NOTHING);
        self.blocks.iter_mut().for_each(Block::lanes_meet);
    }

    /// Nobody goes on, or all look for something that is not there.
    fn wait_no_longer(&mut self, moved: Moved) -> Result<(), Box<Fault>> {
        self.meet();
        for k in 0..self.blocks.len() {
            let i = self.block_at(k);
            self.enter(i);
            let result = self.complete_one(i);
            self.leave(i);
            if result? {
                return Ok(());
            }
        }
        let happened = self.blocks.iter().map(Block::events).sum::<u64>();
        let again = if happened == self.given_up.0 { self.given_up.1 + 1 } else { 0 };
        self.given_up = (happened, again);
        let stuck = moved == Moved::Not;
        let in_vain = moved == Moved::Asked && again > QUESTIONS && !self.env.communicates;
        if in_vain || (stuck && again > GIVEN_UP) {
            return Err(self.deadlock());
        }
        let any = self.blocks.iter_mut().fold(false, |any, block| block.give_up() | any);
        if stuck && !any {
            return Err(self.deadlock());
        }
        Ok(())
    }

    /// One outstanding operation of a block.
    fn complete_one(&mut self, i: usize) -> Result<bool, Box<Fault>> {
        let pick = if self.seed == 0 { 0 } else { mix(self.seed ^ self.passes << 8) >> 16 };
        self.blocks[i].complete_one(pick)
    }

    fn deadlock(&self) -> Box<Fault> {
        let waiting: Vec<String> = self.blocks.iter().flat_map(|block| block.suspended(&self.blocks)).take(8).collect();
        let first = self.blocks.iter().find(|block| block.is_suspended());
        match first {
            Some(block) => block.never(waiting.join("; ")),
            None => self.blocks.iter().find(|block| !block.is_done()).unwrap_or(&self.blocks[0]).deadlock(),
        }
    }
}

/// `barrier.cluster`
pub(super) fn barrier(
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    what: ir::ClusterBarrier,
    group: Group,
    active: u32,
) -> Step {
    let mut cohort = active;
    let mut flow = Flow::Next;
    if what.aligned {
        cohort |= warp.waiting_at(group.pc);
        if cohort != warp.live {
            warp.wait(Group { lanes: active, busy: true, ..group });
            return Ok(Flow::Only(group.lanes & !active));
        }
        if cohort != active {
            warp.stop_waiting(group.pc, cohort);
            flow = Flow::Only(cohort | group.lanes);
        }
    }
    let index = warp.index;
    if what.arrive {
        let again = cohort & warp.at_meeting;
        if again != 0 {
            let detail = "barrier.cluster.arrive a second time, with no barrier.cluster.wait between".to_string();
            return Err(fault(Check::Cluster, again, None, detail));
        }
        warp.at_meeting |= cohort;
        cta.counts.cluster_barriers += 1;
        cta.events += 1;
        let knowledge = if what.relaxed { std::mem::take(&mut warp.initialised) } else { cta.knowledge(index) };
        let rank = cta.rank as usize;
        if let Some(meeting) = &mut cta.meeting {
            warp.meeting = meeting.phase;
            meeting.arrived[rank][index] |= cohort;
            meeting.touched = true;
            for (rank, knowledge) in &knowledge {
                meeting.gathered[*rank as usize].join(knowledge);
            }
        }
        return Ok(flow);
    }
    let absent = cohort & !warp.at_meeting;
    if absent != 0 {
        let detail = "barrier.cluster.wait without barrier.cluster.arrive before".to_string();
        return Err(fault(Check::Cluster, absent, None, detail));
    }
    let awaits = Awaits::Cluster { phase: warp.meeting, acquires: !what.relaxed };
    warp.suspended.push(Suspended { group: Group { lanes: cohort, busy: true, ..group }, awaits });
    Ok(Flow::Only(group.lanes & !active))
}

/// Whether the barrier that the lanes arrived at is complete; they know then what it handed on.
pub(super) fn is_over(cta: &mut Cta<'_>, warp: &mut Warp<'_>, lanes: u32, phase: u64, acquires: bool) -> bool {
    let Some(meeting) = cta.meeting.take() else { return true };
    let over = meeting.phase > phase;
    if over {
        warp.at_meeting &= !lanes;
        if acquires {
            cta.learn(warp.index, &meeting.handed_on);
        }
    }
    cta.meeting = Some(meeting);
    over
}

impl<'a> Cta<'a> {
    /// What a warp knows, in the order of each block of the cluster.
    pub fn knowledge(&mut self, warp: usize) -> Vec<(u32, Knowledge)> {
        let mine = self.rank;
        self.each_shared()
            .map(|(rank, shared)| (rank, shared.release(Accessor { rank: mine, own: rank == mine, warp })))
            .collect()
    }

    /// A warp takes up what was handed on, by rank.
    pub fn learn(&mut self, warp: usize, handed_on: &[Knowledge]) {
        let mine = self.rank;
        for (rank, shared) in self.each_shared() {
            if let Some(knowledge) = handed_on.get(rank as usize) {
                shared.acquire(Accessor { rank: mine, own: rank == mine, warp }, knowledge);
            }
        }
    }
}

/// `mapa`
pub(super) fn map_address(
    cta: &Cta<'_>,
    warp: &mut Warp<'_>,
    active: u32,
    wide: bool,
    [d, a, rank]: [ir::Slot; 3],
) -> Done {
    let r = &mut warp.registers;
    r.check(rank, active)?;
    let ranks = *r.narrow(rank);
    let size = cta.peers.len().max(1) as u32;
    let outside = (0..32).filter(|&l| active >> l & 1 == 1 && ranks[l] >= size).fold(0, |lanes, l| lanes | 1u32 << l);
    if outside != 0 {
        let rank = ranks[outside.trailing_zeros() as usize];
        return Err(fault(Check::Cluster, outside, None, format!("mapa to block {rank} of a cluster of {size}")));
    }
    if wide {
        r.check_wide(a, active)?;
        let from = *r.wide(a);
        let mut out = [0; 32];
        for l in (0..32).filter(|l| active >> l & 1 == 1) {
            let address = super::mbarrier::window_address(ir::Space::Generic, from[l])?;
            out[l] = crate::mem::SHARED_WINDOW + super::mbarrier::mapped(address, ranks[l]);
        }
        r.put_wide(d, active, &out);
    } else {
        r.check(a, active)?;
        let from = *r.narrow(a);
        let out = std::array::from_fn(|l| super::mbarrier::mapped(u64::from(from[l]), ranks[l] % 16) as u32);
        r.put(d, active, &out);
    }
    Ok(())
}

/// `getctarank`
pub(super) fn rank_of(cta: &Cta<'_>, warp: &mut Warp<'_>, active: u32, wide: bool, [d, a]: [ir::Slot; 2]) -> Done {
    let r = &mut warp.registers;
    let mut out = [0; 32];
    if wide {
        r.check_wide(a, active)?;
        let from = *r.wide(a);
        for l in (0..32).filter(|l| active >> l & 1 == 1) {
            let address = super::mbarrier::window_address(ir::Space::Generic, from[l])?;
            out[l] = super::mbarrier::place(cta, address).rank;
        }
    } else {
        r.check(a, active)?;
        let from = *r.narrow(a);
        out = from.map(|address| super::mbarrier::place(cta, u64::from(address)).rank);
    }
    r.put(d, active, &out);
    Ok(())
}

/// Executions of `setmaxnreg` by a warp, at most: more are an endless loop's.
const CHANGES: usize = 1 << 12;
/// Registers of a multiprocessor.
const REGISTERS: u32 = 65536;

/// Registers a thread at the launch, about: the most that the compiler may take, as it does where `setmaxnreg` is used.
pub(super) fn first_registers(kernel: &ir::Kernel, threads: u32) -> u32 {
    let each = REGISTERS / kernel.min_blocks.unwrap_or(1).max(1) / kernel.max_threads.unwrap_or(threads).max(32);
    (each & !7).clamp(24, 255)
}

/// `setmaxnreg`: by all warps of a warp group alike.
pub(super) fn max_registers(
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    count: u32,
    increase: bool,
    (group, rest): (Group, u32),
) -> Step {
    let cohort = group.lanes | warp.waiting_at(group.pc);
    if cohort != warp.live {
        warp.wait(group);
        return Ok(Flow::Only(rest));
    }
    warp.stop_waiting(group.pc, cohort);
    let group = Group { lanes: cohort, ..group };
    let now = warp.max_registers;
    if !(24..=256).contains(&count) || !count.is_multiple_of(8) {
        let detail = format!("setmaxnreg of {count}: a multiple of 8 from 24 to 256");
        return Err(fault(Check::MaxRegisters, ALL, None, detail));
    }
    if (increase && count < now) || (!increase && count > now) {
        let way = if increase { "inc" } else { "dec" };
        return Err(fault(
            Check::MaxRegisters,
            ALL,
            None,
            format!("setmaxnreg.{way} to {count} where the warp has {now}"),
        ));
    }
    if warp.register_changes.len() >= CHANGES {
        return Err(fault(Check::MaxRegisters, ALL, None, format!("setmaxnreg more than {CHANGES} times in one warp")));
    }
    warp.register_changes.push((group.pc, count));
    cta.events += 1;
    if increase {
        let awaits = Awaits::Registers { count };
        warp.suspended.push(Suspended { group, awaits });
        return Ok(Flow::Only(rest));
    }
    warp.max_registers = count;
    Ok(Flow::Only(cohort | rest))
}

impl<'a> Block<'a> {
    /// Registers are there for a warp that waits for `count` a thread.
    pub(super) fn has_registers(&self, i: usize, count: u32) -> bool {
        let others = self.warps.iter().filter(|w| w.index != i).map(|w| w.max_registers).sum::<u32>();
        others + count <= self.registers
    }

    /// Of the warps of a group, all changed their registers alike.
    pub(super) fn check_registers(&self) -> Result<(), Box<Fault>> {
        for (i, warp) in self.warps.iter().enumerate() {
            let first = &self.warps[i & !3];
            if warp.register_changes == first.register_changes {
                continue;
            }
            let at =
                |w: &Warp<'_>| w.register_changes.iter().map(|c| format!("{}", c.1)).collect::<Vec<_>>().join(", ");
            let pc = warp.register_changes.iter().chain(&first.register_changes).next().map_or(0, |c| c.0);
            let detail = format!(
                "setmaxnreg is for all four warps of a group: warp {} asked for ({}), warp {i} for ({})",
                i & !3,
                at(first),
                at(warp)
            );
            return Err(self.report(i, LocatedFault { pc, bad: fault(Check::MaxRegisters, ALL, None, detail) }));
        }
        Ok(())
    }
}
