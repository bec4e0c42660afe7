//! `mbarrier` objects: arrivals and bytes that a phase waits for, and what its end hands on (PTX ISA, "mbarrier").
//!
//! The state lives beside shared memory; the eight bytes themselves hold a mark, so that an object that was overwritten
//! shows. A phase ends when no arrival and no byte is missing. It hands on to whoever waits for it what the arriving
//! agents knew, in the order of each block of the cluster: a view for every rank.

use super::agents::AGENTS;
use super::warps::{View, join};
use crate::fault::{BadAccess, Check, Earlier};
use std::collections::HashMap;

/// The most that a barrier counts (PTX ISA: 2²⁰ − 1), of arrivals and of bytes.
pub const MOST: u32 = (1 << 20) - 1;

/// What lies in an object's bytes while it lives.
const MARK: [u32; 2] = [0x6d62_6172, 0x7269_6572];

/// What one agent knows: generic accesses, and those that fences made known to asynchronous ones.
#[derive(Clone, Copy)]
pub struct Knowledge {
    pub(super) view: View,
    pub(super) proxied: View,
}

impl Knowledge {
    pub const NOTHING: Knowledge = Knowledge { view: [0; AGENTS], proxied: [0; AGENTS] };

    pub fn join(&mut self, other: &Knowledge) {
        join(&mut self.view, &other.view);
        join(&mut self.proxied, &other.proxied);
    }
}

/// One barrier.
pub struct Mbarrier {
    /// Its number in the block, for the agent of copies that end at it.
    pub number: usize,
    /// Arrivals of each phase; those that this one lacks.
    expected: u32,
    missing: u32,
    /// Bytes that were announced and did not come yet; negative: they came first.
    bytes: i64,
    /// Phases that are complete.
    phase: u64,
    /// The instruction that made it, by which warp and when.
    pub made: (u32, usize, u32),
    gathered: Vec<Knowledge>,
    handed_on: Vec<Knowledge>,
    /// The newest phase that each warp of the block saw end, for reports.
    pub seen: HashMap<u32, u64>,
}

impl Mbarrier {
    fn new(number: usize, count: u32, made: (u32, usize, u32), ranks: usize) -> Mbarrier {
        Mbarrier {
            number,
            expected: count,
            missing: count,
            bytes: 0,
            phase: 0,
            made,
            gathered: vec![Knowledge::NOTHING; ranks],
            handed_on: vec![Knowledge::NOTHING; ranks],
            seen: HashMap::new(),
        }
    }

    /// Phases that are complete.
    pub fn phase(&self) -> u64 {
        self.phase
    }

    /// What `arrive` returns: the phase, and the arrivals that it lacked.
    pub fn state(&self) -> u64 {
        self.phase << 20 | u64::from(self.missing)
    }

    /// The phase of a state and the arrivals that it lacked.
    pub fn of_state(state: u64) -> (u64, u32) {
        (state >> 20, state as u32 & MOST)
    }

    /// Whether the phase of this parity, the last one that has it, is complete.
    pub fn is_past_parity(&self, parity: u32) -> bool {
        self.phase & 1 != u64::from(parity & 1)
    }

    /// What the last phase handed on.
    pub fn handed_on(&self) -> &[Knowledge] {
        &self.handed_on
    }

    /// An agent that arrives leaves what it knows, in the order of the block of rank `rank`.
    pub fn leave(&mut self, rank: usize, knowledge: &Knowledge) {
        self.gathered[rank].join(knowledge);
    }

    /// Announces bytes.
    pub fn expect(&mut self, bytes: u32) -> Result<(), String> {
        self.bytes += i64::from(bytes);
        if self.bytes > i64::from(MOST) {
            return Err(format!("{} bytes are announced in one phase, the most are {MOST}", self.bytes));
        }
        Ok(())
    }

    /// Bytes came. Whether the phase ended.
    pub fn complete_bytes(&mut self, bytes: u32) -> Result<bool, String> {
        self.bytes -= i64::from(bytes);
        if self.bytes < -i64::from(MOST) {
            return Err(format!("{} more bytes came than were announced, the most are {MOST}", -self.bytes));
        }
        Ok(self.turn())
    }

    /// `count` arrivals. Whether the phase ended.
    pub fn arrive(&mut self, count: u32, drop: bool) -> Result<bool, String> {
        if count == 0 || count > self.missing {
            let (missing, expected) = (self.missing, self.expected);
            return Err(format!("{count} arrivals where {missing} of {expected} are missing"));
        }
        if drop {
            let expected = self.expected;
            self.expected =
                expected.checked_sub(count).ok_or_else(|| format!("{count} of {expected} arrivals dropped"))?;
        }
        self.missing -= count;
        Ok(self.turn())
    }

    /// One arrival more is expected in this phase (cp.async.mbarrier.arrive without .noinc).
    pub fn one_more(&mut self) {
        self.missing += 1;
    }

    fn turn(&mut self) -> bool {
        if self.missing != 0 || self.bytes != 0 {
            return false;
        }
        self.phase += 1;
        self.missing = self.expected;
        std::mem::swap(&mut self.gathered, &mut self.handed_on);
        // What was handed on before is part of what anyone who saw it knows, or of nobody's concern.
        self.gathered.fill(Knowledge::NOTHING);
        true
    }

    /// For reports: what it waits for.
    pub fn describe(&self) -> String {
        let arrived = self.expected.saturating_sub(self.missing);
        let bytes = match self.bytes {
            0 => String::new(),
            1.. => format!(", {} bytes are missing", self.bytes),
            _ => format!(", {} bytes came that nobody announced", -self.bytes),
        };
        format!("in phase {}: {arrived} of {} arrivals{bytes}", self.phase, self.expected)
    }
}

/// Those of a block, by their place in shared memory.
#[derive(Default)]
pub struct Mbarriers {
    all: HashMap<u32, Mbarrier>,
    made: usize,
}

impl Mbarriers {
    pub fn reset(&mut self) {
        self.all.clear();
        self.made = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&mut self, offset: u32) -> Option<&mut Mbarrier> {
        self.all.get_mut(&offset)
    }

    pub fn peek(&self, offset: u32) -> Option<&Mbarrier> {
        self.all.get(&offset)
    }

    pub(super) fn insert(&mut self, offset: u32, count: u32, made: (u32, usize, u32), ranks: usize) {
        self.all.insert(offset, Mbarrier::new(self.made, count, made, ranks));
        self.made += 1;
    }

    pub(super) fn remove(&mut self, offset: u32) -> bool {
        self.all.remove(&offset).is_some()
    }

    pub(super) fn mark() -> [u32; 2] {
        MARK
    }
}

/// A report about a barrier.
pub fn bad(lanes: u32, address: u64, detail: String, other: Option<Earlier>) -> BadAccess {
    BadAccess { check: Check::Mbarrier, lanes, address: Some(address), detail, other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_waits_for_arrivals_and_bytes() {
        let mut b = Mbarrier::new(0, 2, (0, 0, 0), 1);
        assert!(b.is_past_parity(1) && !b.is_past_parity(0));
        assert_eq!(Mbarrier::of_state(b.state()), (0, 2));
        b.expect(64).unwrap();
        assert!(!b.arrive(2, false).unwrap());
        assert!(b.arrive(1, false).unwrap_err().contains("0 of 2"));
        assert!(b.complete_bytes(64).unwrap());
        assert!(b.is_past_parity(0) && b.phase() == 1);
        // Bytes may come before they are announced.
        assert!(!b.complete_bytes(16).unwrap());
        b.expect(16).unwrap();
        assert!(!b.arrive(1, true).unwrap());
        assert!(b.arrive(1, false).unwrap());
        assert_eq!(Mbarrier::of_state(b.state()), (2, 1));
        assert!(b.expect(MOST + 1).is_err());
    }
}
