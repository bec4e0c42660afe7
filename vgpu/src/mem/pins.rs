//! Asynchronous reads of shared memory: which bytes nobody may write until they end, and when they ended.
//!
//! A read is *pinned* from the instruction that asks for it to its end. Then it is remembered with its time, in place of what
//! the same agent read there before: a write that is not ordered after it races with it. Neither costs anything as long as
//! nothing was read so.

use std::cell::RefCell;
use std::rc::Rc;

use super::SHARED_START;
use super::agents::{MAX_WARPS, agent_name};
use super::lines::LINE;
use super::warps::Warps;
use crate::fault::{BadAccess, Check, Earlier};

/// Lines of shared memory, and the lowest and highest of them.
pub struct LineSet {
    lines: Box<[u32]>,
    low: u32,
    high: u32,
    pub(super) seen: RefCell<Seen>,
}

/// What was found in the lines, after so many changes of the memory: those whose records may differ from the one before, and
/// the first that is not wholly defined.
#[derive(Default)]
pub(super) struct Seen {
    pub changes: u64,
    pub heads: Vec<u32>,
    pub undefined: Option<u32>,
}

impl LineSet {
    pub fn new(lines: Box<[u32]>) -> LineSet {
        let (low, high) = lines.iter().fold((u32::MAX, 0), |(low, high), &line| (low.min(line), high.max(line)));
        LineSet { lines, low, high, seen: RefCell::default() }
    }

    /// In the order that they were given.
    pub fn lines(&self) -> &[u32] {
        &self.lines
    }
}

struct Read {
    set: Rc<LineSet>,
    /// Who asked, and by which instruction.
    agent: u32,
    at: u32,
    /// "wgmma", "bulk copy", …
    what: &'static str,
    ended: Ended,
}

/// Who saw an asynchronous read end, and when; nobody: it is unfinished. Reads that end together share it.
pub type Ended = Rc<RefCell<Vec<(u32, u32)>>>;

#[derive(Default)]
pub(super) struct Pins {
    reads: Vec<Read>,
    /// So many reads are looked through for what can be forgotten.
    full: usize,
}

/// Reads that are kept without looking.
const FEW: usize = 64;

impl Pins {
    pub fn reset(&mut self) {
        self.reads.clear();
        self.full = FEW;
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// The lines are read from now on, as `agent` asked at the instruction `at`, until somebody sees it `ended`.
    pub fn pin(&mut self, set: Rc<LineSet>, agent: usize, at: u32, what: &'static str, ended: Ended) {
        self.reads.push(Read { set, agent: agent as u32, at, what, ended });
    }

    /// `agent` sees the reads end now.
    pub fn end(&mut self, ended: &Ended, agent: usize, races: &Warps) {
        let mut seen = ended.borrow_mut();
        seen.retain(|(other, _)| *other != agent as u32);
        seen.push((agent as u32, races.now()));
        drop(seen);
        if self.reads.len() > self.full {
            self.forget(races);
            self.full = FEW.max(2 * self.reads.len());
        }
    }

    /// Whoever is ordered after the newest read of a set by an agent is ordered after its earlier ones.
    fn forget(&mut self, races: &Warps) {
        let mut newer: Vec<(u32, *const LineSet)> = Vec::new();
        let mut kept: Vec<Read> = Vec::with_capacity(self.reads.len());
        for read in self.reads.drain(..).rev() {
            let (key, seen) = ((read.agent, Rc::as_ptr(&read.set)), read.ended.borrow());
            let is_past = newer.contains(&key) || seen.iter().any(|(_, time)| races.is_closed(*time));
            let is_open = seen.is_empty();
            drop(seen);
            if is_open || !is_past {
                if !is_open {
                    newer.push(key);
                }
                kept.push(read);
            }
        }
        kept.reverse();
        self.reads = kept;
    }

    /// What a write by `agent` to some lines from `low` to `high` meets.
    pub fn check_write(
        &self,
        agent: usize,
        (low, high): (u32, u32),
        is_written: impl Fn(u32) -> bool,
        races: &Warps,
    ) -> Result<(), BadAccess> {
        for read in &self.reads {
            if read.set.high < low || read.set.low > high {
                continue;
            }
            let knows = |&(other, time): &(u32, u32)| races.is_closed(time) || races.knows(agent, other, time);
            if read.ended.borrow().iter().any(knows) {
                continue;
            }
            let met = read.set.lines.iter().find(|&&line| (low..=high).contains(&line) && is_written(line));
            if let Some(&line) = met {
                return Err(read.met(line));
            }
        }
        Ok(())
    }
}

impl Read {
    #[cold]
    fn met(&self, line: u32) -> BadAccess {
        let (check, detail) = match self.ended.borrow().is_empty() {
            true => (Check::AsyncInFlight, format!("writes bytes which an unfinished {} still reads", self.what)),
            false => {
                let (what, agent) = (self.what, agent_name(self.agent));
                let detail = format!("writes what a {what} of {agent} read, and no barrier lies between");
                (Check::SharedRace, detail)
            }
        };
        let warp = ((self.agent as usize) < MAX_WARPS).then_some(self.agent);
        let other = Some(Earlier { pc: self.at, block: None, warp });
        let address = Some(SHARED_START + LINE * u64::from(line));
        BadAccess { check, lanes: u32::MAX, address, detail, other }
    }
}
