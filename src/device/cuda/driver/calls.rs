//! What the driver was asked to do.

use std::sync::atomic::{AtomicU64, Ordering};

use super::stream::Stream;
use crate::device::Calls;

/// [`Calls`] as they are counted.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) allocations: AtomicU64,
    pub(super) copies_in: AtomicU64,
    pub(super) copies_out: AtomicU64,
    pub(super) copies_within: AtomicU64,
    pub(super) launches: AtomicU64,
    pub(super) overlapping: AtomicU64,
    pub(super) graph_launches: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) synchronisations: AtomicU64,
}

pub(super) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Stream {
    /// What the driver was asked to do so far for its device.
    pub fn calls(&self) -> Calls {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Calls {
            allocations: read(&self.counters.allocations),
            copies_in: read(&self.counters.copies_in),
            copies_out: read(&self.counters.copies_out),
            copies_within: read(&self.counters.copies_within),
            launches: read(&self.counters.launches),
            overlapping: read(&self.counters.overlapping),
            graph_launches: read(&self.counters.graph_launches),
            graph_nodes: 0,
            programmatic_edges: 0,
            records: read(&self.counters.records),
            waits: read(&self.counters.waits),
            synchronisations: read(&self.counters.synchronisations),
        }
    }
}
