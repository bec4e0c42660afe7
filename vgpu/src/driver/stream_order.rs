//! Memory in the order of streams: what one stream allocated (cuMemAllocAsync) or frees (cuMemFreeAsync) is for other streams
//! only where events, the default stream or the host order them.
//!
//! Work that is not ordered so gets the allocation's address when it is queued, and runs without that memory: its first
//! access, of a kernel too, is a fault that names both streams.

use std::collections::{BTreeMap, HashMap};

use super::Machine;
use super::context::Context;
use super::handle::Handle;
use super::stream::{Point, Stream};

/// Memory that other streams may not use yet, or no longer, by its first address.
#[derive(Default)]
pub struct StreamOrder {
    /// Where it was allocated.
    born: BTreeMap<u64, Point>,
    /// Where it is freed.
    leaving: BTreeMap<u64, Point>,
}

/// An allocation that a stream's work must not touch, by its first address.
#[derive(Clone, Copy)]
pub struct Withheld {
    address: u64,
    reason: Reason,
    /// The stream that allocated or freed it.
    other: Handle<Stream>,
}

#[derive(Clone, Copy)]
enum Reason {
    Allocated,
    Freed,
}

impl Machine {
    /// `stream` allocates: the point is that of its next work.
    pub(super) fn note_allocation(&mut self, address: u64, point: Point) {
        self.order.born.insert(address, point);
    }

    /// `stream` frees at a point: work of others that is queued already and that the free does not wait for must not touch it.
    pub(super) fn note_free(&mut self, address: u64, point: Point) {
        self.order.born.remove(&address);
        self.order.leaving.insert(address, point);
        let before = self.reached(&[point]);
        for (handle, stream) in self.streams.iter_mut().filter(|(handle, _)| *handle != point.0) {
            let known = before.get(&handle.0).copied().unwrap_or(0);
            let withheld = Withheld { address, reason: Reason::Freed, other: point.0 };
            stream.pending_after(known).for_each(|item| item.withheld.push(withheld));
        }
    }

    /// What work that is queued in `stream` behind `after` must not touch.
    pub(super) fn withheld(&mut self, stream: Handle<Stream>, after: &[Point]) -> Vec<Withheld> {
        if self.order.born.is_empty() && self.order.leaving.is_empty() {
            return Vec::new();
        }
        let StreamOrder { mut born, mut leaving } = std::mem::take(&mut self.order);
        born.retain(|_, point| !self.is_done(*point));
        leaving.retain(|_, point| !self.is_done(*point));
        let is_foreign = |&(other, _): &Point| other != stream;
        let nothing = !born.values().chain(leaving.values()).any(is_foreign);
        self.order = StreamOrder { born, leaving };
        if nothing {
            return Vec::new();
        }
        let issued = self.streams.find(stream).map_or(0, Stream::issued);
        let known = self.reached(&[&[(stream, issued)], after].concat());
        let is_unordered = |&(_, &(other, count)): &(&u64, &Point)| known.get(&other.0).is_none_or(|&c| c < count);
        let list = |of: &BTreeMap<u64, Point>, reason| -> Vec<Withheld> {
            of.iter().filter(is_unordered).map(|(&address, &(other, _))| Withheld { address, reason, other }).collect()
        };
        [list(&self.order.born, Reason::Allocated), list(&self.order.leaving, Reason::Freed)].concat()
    }

    /// Of each stream how much is done before all of `points` are: a walk back through what is queued.
    fn reached(&self, points: &[Point]) -> HashMap<usize, u64> {
        let mut known: HashMap<usize, u64> = HashMap::new();
        let mut open = points.to_vec();
        while let Some((handle, count)) = open.pop() {
            let seen = known.entry(handle.0).or_default();
            if *seen >= count {
                continue;
            }
            let before = std::mem::replace(seen, count);
            if let Some(stream) = self.streams.find(handle) {
                open.extend(stream.pending(before, count).flat_map(|item| item.after.iter().copied()));
            }
        }
        known
    }

    /// Hides from the device's memory what a stream's work must not touch; [`crate::mem::GlobalMemory::give_back`] ends it.
    pub(super) fn hide(&self, context: Handle<Context>, stream: Handle<Stream>, list: &[Withheld]) {
        let Ok(device) = self.device_of(context) else { return };
        device.memory.withhold(list.iter().map(|held| (held.address, self.why(stream, held))));
    }

    fn why(&self, stream: Handle<Stream>, held: &Withheld) -> String {
        let done = match held.reason {
            Reason::Allocated => "allocated",
            Reason::Freed => "freed",
        };
        format!(
            "{done} by {}, and {} uses it with no event between that orders the two",
            self.named(held.other),
            self.named(stream)
        )
    }

    fn named(&self, stream: Handle<Stream>) -> String {
        let default = self.contexts.iter().any(|(_, context)| context.default_stream == stream);
        if default { "the default stream".to_owned() } else { format!("stream {stream:?}") }
    }
}
