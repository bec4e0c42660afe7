//! The sixteen barriers of a block.

use crate::fault::{BadAccess, Check};
use crate::ir::BarrierKind;

/// How many barriers a block has.
pub(super) const BARRIERS: usize = 16;

#[derive(Default)]
pub(super) struct Barrier {
    /// Lanes of each warp that arrived, and of those the ones that also wait.
    arrived: Vec<u32>,
    waits: Vec<u32>,
    /// Threads that it takes, where the instruction said so.
    expected: Option<u32>,
    /// Threads that arrived, a whole warp counting 32.
    count: u32,
    /// Of the reduction: threads whose predicate held, and whether all and any of them did.
    pub holds: u32,
    pub threads: u32,
}

/// An arrival of some lanes of a warp.
pub(super) struct Arrival {
    pub warp: usize,
    pub lanes: u32,
    pub kind: BarrierKind,
    pub expected: Option<u32>,
    /// Lanes whose predicate holds, of a reduction.
    pub holds: u32,
}

impl Barrier {
    pub fn new(warps: usize) -> Barrier {
        Barrier { arrived: vec![0; warps], waits: vec![0; warps], ..Barrier::default() }
    }

    pub fn reset(&mut self) {
        self.arrived.fill(0);
        self.waits.fill(0);
        (self.expected, self.count, self.holds, self.threads) = (None, 0, 0, 0);
    }

    pub fn is_idle(&self) -> bool {
        self.count == 0
    }

    pub fn arrived(&self, warp: usize) -> u32 {
        self.arrived[warp]
    }

    pub fn arrive(&mut self, a: &Arrival) -> Result<(), Box<BadAccess>> {
        if self.count != 0 && self.expected != a.expected {
            let threads = |n: Option<u32>| n.map_or("all threads".to_string(), |n| format!("{n} threads"));
            let detail =
                format!("a barrier that waits for {} was reached for {}", threads(self.expected), threads(a.expected));
            return Err(fault(a.lanes, detail));
        }
        // Who only signalled may come again to wait, and counts twice then: a group that opens a barrier for itself.
        let only_signals = matches!(a.kind, BarrierKind::Arrive | BarrierKind::ArriveUnaligned);
        let again = if only_signals { self.arrived[a.warp] } else { self.waits[a.warp] } & a.lanes;
        if again != 0 {
            return Err(fault(again, "lanes arrived a second time before the barrier completed".to_string()));
        }
        let aligned = !matches!(a.kind, BarrierKind::SyncUnaligned | BarrierKind::ArriveUnaligned);
        self.expected = a.expected;
        self.count += if aligned { 32 } else { a.lanes.count_ones() };
        self.arrived[a.warp] |= a.lanes;
        if !only_signals {
            self.waits[a.warp] |= a.lanes;
        }
        self.holds += (a.holds & a.lanes).count_ones();
        self.threads += a.lanes.count_ones();
        if let Some(expected) = a.expected
            && self.count > expected
        {
            return Err(fault(a.lanes, format!("a barrier for {expected} threads was reached by {}", self.count)));
        }
        Ok(())
    }

    /// Whether everyone it waits for is there; `live` are the lanes of each warp that are not done.
    pub fn is_complete(&self, live: impl Iterator<Item = u32>) -> bool {
        match self.expected {
            _ if self.count == 0 => false,
            Some(expected) => self.count == expected,
            None => self.arrived.iter().zip(live).all(|(&arrived, live)| live & !arrived == 0),
        }
    }

    /// Warps that only signalled, warps that waited: a bit each.
    pub fn participants(&self) -> (u64, u64) {
        let bits = |lanes: &[u32]| {
            lanes.iter().enumerate().filter(|(_, lanes)| **lanes != 0).fold(0, |bits, (i, _)| bits | 1u64 << i)
        };
        let waited = bits(&self.waits);
        (bits(&self.arrived) & !waited, waited)
    }

    pub fn expected(&self) -> Option<u32> {
        self.expected
    }

    pub fn count(&self) -> u32 {
        self.count
    }
}

fn fault(lanes: u32, detail: String) -> Box<BadAccess> {
    Box::new(BadAccess { check: Check::Barrier, lanes, address: None, detail, other: None })
}
