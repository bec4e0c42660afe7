//! A launch: its blocks on the host's threads, or, if they communicate, in turn on one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::approx::mix;
use super::block::{Env, Progress};
use super::block_communication::may_communicate;
use super::cluster::Cluster;
use super::registers::Constants;
use super::{Launch, Options, Ran, classify};
use crate::counts::Counts;
use crate::fault::{Check, Fault};
use crate::mem::GlobalMemory;
use crate::profile::Profile;

/// Warp instructions between two looks at whether another block failed or the launch's limit is reached.
const SLICE: u64 = 100_000;
/// Warp instructions of a block before the next resident one gets its turn, if it waits for others; and how many such turns
/// it has at once if it does not.
const TURN: u64 = 2_000;
const TURNS: usize = 25;
/// A turn in which one of so many instructions looks at what others may have written is one of waiting.
const LOOKS: u64 = 64;

/// What the threads that run blocks share.
struct Progressing<'a> {
    env: &'a Env<'a>,
    order: Order,
    next: AtomicU64,
    /// Blocks from this place in the order on need not run: one before them failed.
    stop: AtomicU64,
    issued: AtomicU64,
    fault: Mutex<Option<(u64, Box<Fault>)>>,
    total: Mutex<(Counts, Vec<u64>)>,
    /// Some block did not wait for earlier launches, or let dependent ones begin before.
    hurried: AtomicBool,
}

// The report of a failed launch is made once.
#[allow(clippy::result_large_err)]
pub(super) fn run(
    launch: &Launch<'_>,
    global: &GlobalMemory,
    profile: &Profile,
    options: &Options,
) -> Result<Ran, Fault> {
    let blocks = clusters(launch);
    let threads = (options.threads.max(1) as u64).min(blocks);
    let communicates = may_communicate(launch.kernel, launch.params);
    match run_on(launch, global, profile, options, threads, communicates, false) {
        // Which block meets the other's access depends on who came first. On one thread it is always the same one, and where
        // both were is kept; what the failed launch left in memory is nobody's any more.
        Err(found) if !communicates && is_between_blocks(found.check) => {
            match run_on(launch, global, profile, options, 1, communicates, true) {
                Err(again) if is_between_blocks(again.check) => Err(again),
                // It went another way on what the first run wrote.
                _ => Err(found),
            }
        }
        result => result,
    }
}

fn is_between_blocks(check: Check) -> bool {
    matches!(check, Check::GlobalRace | Check::NonCoherentRead)
}

#[allow(clippy::result_large_err)]
fn run_on(
    launch: &Launch<'_>,
    global: &GlobalMemory,
    profile: &Profile,
    options: &Options,
    threads: u64,
    communicates: bool,
    exact: bool,
) -> Result<Ran, Fault> {
    let kernel = launch.kernel;
    let blocks = clusters(launch);
    let mut memory = global.begin_launch(communicates);
    memory.set_unfinished(launch.unfinished);
    memory.describe(&kernel.code, launch.block.iter().map(|&n| n as usize).product::<usize>().div_ceil(32), exact);
    let constants = Constants::new(launch.constants);
    let dynamic_start = kernel.shared_bytes.next_multiple_of(kernel.dynamic_align.max(1));
    let shared_bytes =
        if launch.dynamic_shared == 0 { kernel.shared_bytes } else { dynamic_start + launch.dynamic_shared };
    let env = Env { launch, constants: &constants, memory: &memory, profile, options, communicates, shared_bytes };
    let shared = Progressing {
        env: &env,
        order: Order::new(blocks, options.schedule),
        next: AtomicU64::new(0),
        stop: AtomicU64::new(blocks),
        issued: AtomicU64::new(0),
        fault: Mutex::new(None),
        total: Mutex::new((Counts::default(), vec![0; kernel.code.len()])),
        hurried: AtomicBool::new(false),
    };
    if communicates {
        shared.interleave(resident(launch, profile, shared_bytes).min(blocks));
    } else {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| shared.work());
            }
            shared.work();
        });
    }
    if let Some((_, fault)) = shared.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(*fault);
    }
    let hurried = shared.hurried.into_inner();
    let (mut counts, hits) = shared.total.into_inner().unwrap_or_else(PoisonError::into_inner);
    classify::add(&mut counts, &kernel.code, &hits);
    let mut unfinished = vec![memory.tag()];
    if hurried {
        unfinished.extend(launch.unfinished);
    }
    Ok(Ran { counts, unfinished })
}

impl<'a> Progressing<'a> {
    /// One thread: block after block.
    fn work(&self) {
        let mut block = Cluster::new(self.env);
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            if place >= self.stop.load(Ordering::Relaxed) {
                break;
            }
            block.reset(self.order.at(place));
            while self.advance(&mut block, place, SLICE) == Some(Progress::Running) {
                if place > self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        self.finish(block);
    }

    /// Runs a block on; `None`: it failed.
    fn advance(&self, block: &mut Cluster<'_>, place: u64, budget: u64) -> Option<Progress> {
        let before = block.issued();
        let result = block.step(budget);
        let issued = block.issued() - before;
        let total = self.issued.fetch_add(issued, Ordering::Relaxed) + issued;
        match result {
            Ok(Progress::Running) if total > self.env.options.limit => {
                self.fail(place, self.endless(block));
                None
            }
            Ok(progress) => Some(progress),
            Err(fault) => {
                self.fail(place, fault);
                None
            }
        }
    }

    fn endless(&self, block: &Cluster<'_>) -> Box<Fault> {
        let limit = self.env.options.limit;
        let (pc, warp, lanes, place) = block.somewhere();
        let inst = self.env.launch.kernel.code.get(pc as usize);
        Box::new(Fault {
            check: Check::Trap,
            kernel: self.env.launch.kernel.name.clone(),
            line: inst.map_or(0, |inst| inst.line),
            source: None,
            block: place,
            warp,
            lanes,
            address: None,
            detail: format!("the launch goes on beyond its limit of {limit} warp instructions"),
            other: None,
        })
    }

    fn fail(&self, place: u64, fault: Box<Fault>) {
        self.stop.fetch_min(place, Ordering::Relaxed);
        let mut first = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(at, _)| place < *at) {
            *first = Some((place, fault));
        }
    }

    fn finish(&self, block: Cluster<'_>) {
        for (counts, hits, waited) in block.into_counts() {
            let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
            classify::merge(&mut total.0, &counts);
            total.1.iter_mut().zip(&hits).for_each(|(sum, hits)| *sum += hits);
            self.hurried.fetch_or(!waited, Ordering::Relaxed);
        }
    }

    /// Runs a block on until it waits for others, or its turns are over; `None`: it failed.
    fn turns(&self, block: &mut Cluster<'_>, place: u64) -> Option<Progress> {
        for _ in 0..TURNS {
            let (issued, looks) = (block.issued(), block.looks());
            let progress = self.advance(block, place, TURN)?;
            let waits = (block.looks() - looks) * LOOKS > block.issued() - issued;
            if progress == Progress::Done || waits {
                return Some(progress);
            }
        }
        Some(Progress::Running)
    }

    /// Blocks that may wait for each other: as many at once as the device would hold, each in its turn.
    fn interleave(&self, resident: u64) {
        let total = self.order.count;
        let mut running: Vec<(u64, Cluster<'a>)> = Vec::new();
        let mut idle: Vec<Cluster<'a>> = Vec::new();
        let mut next = 0;
        while next < total || !running.is_empty() {
            let mut i = 0;
            // A new block begins when those before have had their turn: where none waits, one is enough for all.
            while i < running.len() || (next < total && (running.len() as u64) < resident) {
                if i == running.len() {
                    let mut block = idle.pop().unwrap_or_else(|| Cluster::new(self.env));
                    block.reset(self.order.at(next));
                    running.push((next, block));
                    next += 1;
                }
                let (place, block) = &mut running[i];
                match self.turns(block, *place) {
                    Some(Progress::Running) => i += 1,
                    Some(Progress::Done) => idle.push(running.remove(i).1),
                    // One thread and a fixed order: the first to fail is always the same one.
                    None => return,
                }
            }
        }
        idle.into_iter().for_each(|block| self.finish(block));
    }
}

/// Clusters of the grid; blocks, where it has none.
fn clusters(launch: &Launch<'_>) -> u64 {
    launch.grid.iter().zip(launch.cluster).map(|(&n, size)| (n / size.max(1)) as u64).product()
}

/// Clusters that the device holds at once.
fn resident(launch: &Launch<'_>, profile: &Profile, shared_bytes: usize) -> u64 {
    let threads = launch.block.iter().map(|&n| n as u64).product::<u64>().max(1);
    let warps = threads.div_ceil(32);
    let by_threads = profile.max_threads_per_multiprocessor as u64 / (warps * 32);
    let by_shared = (profile.shared_per_multiprocessor / (shared_bytes + Profile::SHARED_RESERVED)) as u64;
    let registers = (launch.kernel.registers as u64).next_multiple_of(8).clamp(16, 255) * warps * 32;
    let by_registers = profile.registers_per_block as u64 / registers;
    let each = by_threads.min(by_shared).min(by_registers).min(profile.max_blocks_per_multiprocessor as u64).max(1);
    let size = launch.cluster.iter().map(|&n| n as u64).product::<u64>().max(1);
    (each * profile.multiprocessors as u64 / size).max(1)
}

/// The order of blocks: as they are, or by the seed from some block with some stride.
struct Order {
    count: u64,
    start: u64,
    stride: u64,
}

impl Order {
    fn new(count: u64, seed: u64) -> Order {
        if seed == 0 || count < 2 {
            return Order { count, start: 0, stride: 1 };
        }
        let mut stride = (mix(seed) % count) | 1;
        while gcd(stride, count) != 1 {
            stride += 1;
        }
        Order { count, start: mix(seed ^ 1) % count, stride }
    }

    fn at(&self, place: u64) -> u64 {
        ((self.start as u128 + place as u128 * self.stride as u128) % self.count as u128) as u64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_once() {
        for count in 1..50 {
            for seed in 0..20 {
                let order = Order::new(count, seed);
                let mut seen: Vec<u64> = (0..count).map(|place| order.at(place)).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
