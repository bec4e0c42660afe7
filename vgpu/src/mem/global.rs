//! Device memory from the host's side: allocations with guard gaps, copies, and the start of launches.

use super::allocation::Allocation;
use super::blocks::TAGS;
use super::launch::LaunchMemory;
use super::{DEVICE_STRIDE, GLOBAL_WINDOW};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A host-side use of device memory that a driver would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("{address:#x}..+{bytes} is not inside one allocation")]
    Invalid { address: u64, bytes: usize },
    #[error("{address:#x} was freed")]
    Freed { address: u64 },
    #[error("{address:#x} is {why}")]
    Withheld { address: u64, why: String },
    #[error("out of memory: {asked} bytes asked for, {free} free")]
    OutOfMemory { asked: usize, free: usize },
}

/// Allocations begin at multiples of this, as real drivers' do.
const ALIGN: u64 = 512;
/// Addresses between two allocations that belong to none.
const GAP: u64 = 4096;

/// What exists, by ascending address, and what existed.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub live: Vec<Arc<Allocation>>,
    /// (start, bytes)
    pub freed: Vec<(u64, usize)>,
    /// What the work at hand must not touch, and why.
    pub withheld: Vec<(Arc<Allocation>, String)>,
}

impl Table {
    pub fn place(&self, address: u64) -> Option<usize> {
        let place = self.live.partition_point(|a| a.start <= address).checked_sub(1)?;
        (address < self.live[place].end()).then_some(place)
    }

    /// Why the allocation that holds `address` must not be touched.
    pub fn withheld(&self, address: u64) -> Option<&str> {
        self.withheld.iter().find(|(a, _)| a.holds(address, 1)).map(|(_, why)| why.as_str())
    }

    /// The freed allocation that held `address`.
    pub fn freed(&self, address: u64) -> Option<(u64, usize)> {
        self.freed.iter().copied().find(|&(start, bytes)| address.wrapping_sub(start) < bytes as u64)
    }
}

struct State {
    table: Arc<Table>,
    next: u64,
    used: u64,
    launches: u32,
}

/// All memory of a device.
pub struct GlobalMemory {
    capacity: u64,
    state: Mutex<State>,
}

impl GlobalMemory {
    /// `capacity` bytes of device memory; host memory is taken as it is touched.
    pub fn new(capacity: u64) -> GlobalMemory {
        GlobalMemory::of_device(0, capacity)
    }

    /// The same of the device with this number: its addresses are no other device's.
    pub fn of_device(ordinal: usize, capacity: u64) -> GlobalMemory {
        let next = GLOBAL_WINDOW + ordinal as u64 * DEVICE_STRIDE;
        let state = State { table: Arc::default(), next, used: 0, launches: 0 };
        GlobalMemory { capacity, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uninitialised memory at a multiple of 512, with a gap before the next allocation.
    pub fn alloc(&self, bytes: usize) -> Result<u64, MemoryError> {
        let mut state = self.state();
        let free = self.capacity - state.used;
        let refused = MemoryError::OutOfMemory { asked: bytes, free: free as usize };
        let taken = taken(bytes).filter(|&taken| taken <= free).ok_or(refused.clone())?;
        let start = state.next;
        let allocation = Allocation::new(start, bytes).ok_or(refused)?;
        Arc::make_mut(&mut state.table).live.push(Arc::new(allocation));
        state.next += taken + GAP;
        state.used += taken;
        Ok(start)
    }

    /// Its addresses are never given out again, so that a late access shows.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut state = self.state();
        let Some(place) = state.table.place(address).filter(|&p| state.table.live[p].start == address) else {
            return Err(missing(&state.table, address, 0));
        };
        let table = Arc::make_mut(&mut state.table);
        let allocation = table.live.remove(place);
        table.freed.push((allocation.start, allocation.bytes));
        state.used -= taken(allocation.bytes).unwrap_or(0);
        Ok(())
    }

    /// Allocations, by their first addresses, that nothing may touch until [`GlobalMemory::give_back`]: for work that is not
    /// ordered after their allocation, or before their free. `why` completes "this memory is …".
    pub fn withhold(&self, list: impl IntoIterator<Item = (u64, String)>) {
        let mut state = self.state();
        for (address, why) in list {
            if let Some(place) = state.table.place(address) {
                let table = Arc::make_mut(&mut state.table);
                let allocation = table.live.remove(place);
                table.withheld.push((allocation, why));
            }
        }
    }

    /// Ends what [`GlobalMemory::withhold`] began.
    pub fn give_back(&self) {
        let mut state = self.state();
        if state.table.withheld.is_empty() {
            return;
        }
        let table = Arc::make_mut(&mut state.table);
        table.live.extend(std::mem::take(&mut table.withheld).into_iter().map(|(allocation, _)| allocation));
        table.live.sort_unstable_by_key(|allocation| allocation.start);
    }

    /// The allocation that holds `address`: its start and length.
    pub fn find(&self, address: u64) -> Option<(u64, usize)> {
        let state = self.state();
        let allocation = &state.table.live[state.table.place(address)?];
        Some((allocation.start, allocation.bytes))
    }

    /// Bytes free and in all.
    pub fn info(&self) -> (u64, u64) {
        (self.capacity - self.state().used, self.capacity)
    }

    /// The allocation that holds all these bytes, and their place in it.
    fn range(&self, address: u64, bytes: usize) -> Result<(Arc<Allocation>, usize), MemoryError> {
        let state = self.state();
        let found = state.table.place(address).map(|place| &state.table.live[place]);
        match found.filter(|allocation| allocation.holds(address, bytes)) {
            Some(allocation) => Ok((allocation.clone(), (address - allocation.start) as usize)),
            None => Err(missing(&state.table, address, bytes)),
        }
    }

    /// To the host. Uninitialised bytes read as 0xcd; their number is returned.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<usize, MemoryError> {
        let (allocation, offset) = self.range(address, into.len())?;
        Ok(allocation.read(offset, into))
    }

    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(address, bytes.len())?;
        allocation.write(offset, bytes);
        Ok(())
    }

    /// memset with a pattern of 1, 2 or 4 bytes, `count` times.
    pub fn fill(&self, address: u64, pattern: &[u8], count: usize) -> Result<(), MemoryError> {
        let bytes = pattern.len().checked_mul(count).ok_or(MemoryError::Invalid { address, bytes: usize::MAX })?;
        let (allocation, offset) = self.range(address, bytes)?;
        let piece = pattern.repeat(4096 / pattern.len().max(1));
        for done in (0..bytes).step_by(piece.len().max(1)) {
            allocation.write(offset + done, &piece[..piece.len().min(bytes - done)]);
        }
        Ok(())
    }

    /// Device to device, with the shadow: uninitialised bytes stay so. Where the two overlap, the bytes arrive as they
    /// were before.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), MemoryError> {
        let (source, source_offset) = self.range(from, bytes)?;
        let (target, offset) = self.range(to, bytes)?;
        if to.abs_diff(from) >= bytes as u64 {
            target.copy(offset, &source, source_offset, bytes);
            return Ok(());
        }
        let kept = Allocation::new(0, bytes).ok_or(MemoryError::OutOfMemory { asked: bytes, free: 0 })?;
        kept.copy(0, &source, source_offset, bytes);
        target.copy(offset, &kept, 0, bytes);
        Ok(())
    }

    /// A new launch begins: earlier accesses race with nothing of it. It sees the allocations as they are now.
    /// `communicates`: its blocks may order each other; they then run on one thread.
    pub fn begin_launch(&self, communicates: bool) -> LaunchMemory {
        let mut state = self.state();
        if state.launches == TAGS {
            state.launches = 0;
            let withheld = state.table.withheld.iter().map(|(allocation, _)| allocation);
            state.table.live.iter().chain(withheld).for_each(|allocation| allocation.forget_launches());
        }
        state.launches += 1;
        LaunchMemory::new(state.table.clone(), state.launches as u16, communicates)
    }
}

/// What an allocation takes of the capacity.
fn taken(bytes: usize) -> Option<u64> {
    (bytes as u64).max(1).checked_next_multiple_of(ALIGN)
}

fn missing(table: &Table, address: u64, bytes: usize) -> MemoryError {
    match (table.withheld(address), table.freed(address)) {
        (Some(why), _) => MemoryError::Withheld { address, why: why.to_owned() },
        (None, Some(_)) => MemoryError::Freed { address },
        (None, None) => MemoryError::Invalid { address, bytes },
    }
}
