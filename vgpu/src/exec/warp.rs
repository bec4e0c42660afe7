//! Where the lanes of a warp are: groups that stand at the same instruction, lanes that wait, lanes that are done.

use super::approx::mix;
use super::registers::{Constants, Registers};
use crate::ir::Kernel;
use crate::mem::LocalMemory;
use crate::mem::mbarriers::Knowledge;

/// Lanes at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub pc: u32,
    pub lanes: u32,
    /// Whether it did anything of its own since it parted from others of the warp.
    pub busy: bool,
}

/// Lanes that arrived at a barrier of the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtBarrier {
    pub id: u32,
    pub group: Group,
}

pub(super) struct Warp<'a> {
    pub index: usize,
    pub registers: Registers<'a>,
    pub local: LocalMemory,
    /// Thread index of each lane in x, y, z.
    pub thread: [[u32; 32]; 3],
    /// Lanes that the block has, and of those the ones not done.
    pub exist: u32,
    pub live: u32,
    /// Lanes that went a way of their own and ended there. Others that ended did so at once where they parted: an early
    /// `return`, which no barrier and no member mask waits for.
    pub exited_early: u32,
    /// Groups that can go on, lowest program counter first.
    pub ready: Vec<Group>,
    /// Lanes at a `.sync` instruction whose other members are not there yet.
    pub waiting: Vec<Group>,
    pub at_barrier: Vec<AtBarrier>,
    /// Lanes that wait for something asynchronous.
    pub suspended: Vec<Suspended>,
    /// Lanes that arrived at the cluster's barrier and did not wait there yet, and which barrier that is.
    pub at_meeting: u32,
    pub meeting: u64,
    /// What fence.mbarrier_init or a fence beyond the block closed, for a relaxed arrival there, in the order of each block of the cluster.
    pub initialised: Vec<(u32, Knowledge)>,
    /// Barriers of which a relaxed wait saw a phase end, until a fence.
    pub unfenced: Vec<super::mbarrier::Place>,
    /// Registers a thread, and the changes that setmaxnreg made: instruction, registers.
    pub max_registers: u32,
    pub register_changes: Vec<(u32, u32)>,
    /// What it looked for and did not find: others have their turn.
    pub asked: Option<Suspended>,
    pub yields: bool,
    /// Picks of a group so far: mixed with the seed into the next pick.
    pub picks: u64,
}

impl<'a> Warp<'a> {
    pub fn new(constants: &'a Constants, kernel: &Kernel, index: usize, block: [u32; 3]) -> Warp<'a> {
        let threads = block.iter().map(|&n| n as u64).product::<u64>();
        let first = index as u64 * 32;
        let count = threads.saturating_sub(first).min(32) as u32;
        let exist = if count == 32 { u32::MAX } else { (1 << count) - 1 };
        let [width, height, _] = block.map(|n| n.max(1) as u64);
        let place = |l: usize| first + l as u64;
        let thread = [
            std::array::from_fn(|l| (place(l) % width) as u32),
            std::array::from_fn(|l| (place(l) / width % height) as u32),
            std::array::from_fn(|l| (place(l) / (width * height)) as u32),
        ];
        let registers = Registers::new(constants, kernel.slots, kernel.preds);
        Warp {
            index,
            registers,
            local: LocalMemory::new(kernel.local_bytes),
            thread,
            exist,
            live: exist,
            exited_early: 0,
            ready: Vec::with_capacity(32),
            waiting: Vec::with_capacity(32),
            at_barrier: Vec::with_capacity(32),
            suspended: Vec::new(),
            at_meeting: 0,
            meeting: 0,
            initialised: Vec::new(),
            unfenced: Vec::new(),
            max_registers: 0,
            register_changes: Vec::new(),
            asked: None,
            yields: false,
            picks: 0,
        }
    }

    pub fn reset(&mut self) {
        self.registers.reset();
        self.local.reset();
        self.live = self.exist;
        self.exited_early = 0;
        self.ready.clear();
        self.waiting.clear();
        self.at_barrier.clear();
        self.suspended.clear();
        (self.at_meeting, self.meeting) = (0, 0);
        self.initialised.clear();
        self.unfenced.clear();
        self.register_changes.clear();
        self.ready.push(Group { pc: 0, lanes: self.exist, busy: false });
        self.asked = None;
        self.yields = false;
        self.picks = 0;
    }

    /// Lanes join those already at the same instruction.
    pub fn join(&mut self, group: Group) {
        if group.lanes == 0 {
            return;
        }
        match self.ready.binary_search_by_key(&group.pc, |g| g.pc) {
            Ok(i) => {
                self.ready[i].lanes |= group.lanes;
                self.ready[i].busy |= group.busy;
            }
            Err(i) => self.ready.insert(i, group),
        }
    }

    /// The group to run next: the lowest, or one picked by the seed. `others`: the lowest ran long enough, perhaps spinning
    /// for the others, of which each gets its turn.
    pub fn take(&mut self, seed: u64, others: bool) -> Option<Group> {
        let count = self.ready.len();
        if count <= 1 {
            return self.ready.pop();
        }
        self.picks += 1;
        let pick = if others {
            1 + self.picks as usize % (count - 1)
        } else if seed == 0 {
            0
        } else {
            mix(seed ^ self.picks ^ (self.index as u64) << 32) as usize % count
        };
        Some(self.ready.remove(pick))
    }

    /// A relaxed wait saw a phase of this barrier end.
    pub fn saw_end(&mut self, barrier: super::mbarrier::Place) {
        if !self.unfenced.contains(&barrier) {
            self.unfenced.push(barrier);
        }
    }

    /// What its lanes wait for, or ask for again and again.
    pub fn waits(&self) -> impl Iterator<Item = Suspended> + '_ {
        self.suspended.iter().copied().chain(self.asked.filter(|_| !self.ready.is_empty()))
    }

    /// Lanes that wait at `pc` for others.
    pub fn waiting_at(&self, pc: u32) -> u32 {
        self.waiting.iter().filter(|g| g.pc == pc).fold(0, |lanes, g| lanes | g.lanes)
    }

    pub fn wait(&mut self, group: Group) {
        match self.waiting.iter_mut().find(|g| g.pc == group.pc) {
            Some(there) => there.lanes |= group.lanes,
            None => self.waiting.push(group),
        }
    }

    pub fn stop_waiting(&mut self, pc: u32, lanes: u32) {
        self.waiting.iter_mut().filter(|g| g.pc == pc).for_each(|g| g.lanes &= !lanes);
        self.waiting.retain(|g| g.lanes != 0);
    }

    /// Lanes ended: those that wait look again whether anyone is missing.
    pub fn retry_waiting(&mut self) {
        while let Some(group) = self.waiting.pop() {
            self.join(group);
        }
    }

    pub fn is_done(&self) -> bool {
        self.live == 0
    }
}

/// What suspended lanes wait for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaits {
    /// The end of a barrier's phase; `p` says whether it came, or the wait was given up.
    Barrier { at: super::mbarrier::Place, phase: super::mbarrier::Phase, acquires: bool, p: crate::ir::Pred },
    /// The cluster's barrier after this phase.
    Cluster { phase: u64, acquires: bool },
    /// Registers that other warps give up.
    Registers { count: u32 },
    /// Products of its warpgroup, up to the group of this number, whose end is that entry of the warpgroup's log.
    Products { number: u64, entry: u64 },
}

/// Lanes that wait for something asynchronous.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspended {
    pub group: Group,
    pub awaits: Awaits,
}
