//! A warp's asynchronous copies from global to shared memory: which are issued, and in which group of each lane.

use super::lines::lanes;
use super::{BlockMemory, Request, SHARED_START, SharedMemory};

/// Lanes of a cp.async by how much of their part comes from global memory: all, or some; of the others, nothing.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub whole: u32,
    pub some: u32,
}

impl Parts {
    /// Of the lanes of `to`, of which each copies `sizes[lane]` bytes.
    pub fn of(to: &Request<'_>, sizes: &[u32; 32]) -> Parts {
        let (mut whole, mut some) = (0, 0);
        for (lane, &size) in sizes.iter().enumerate() {
            whole |= u32::from(size as usize >= to.bytes) << lane;
            some |= u32::from(size != 0) << lane;
        }
        Parts { whole: whole & to.mask, some: some & !whole & to.mask }
    }
}

/// One cp.async of a warp.
pub(super) struct Copy {
    /// The instruction.
    pub at: u32,
    /// Lanes whose part is unfinished.
    lanes: u32,
    /// How many came before it.
    number: u64,
    bytes: usize,
    to: [u64; 32],
    from: [u64; 32],
    parts: Parts,
    /// Where some lanes copy some of their bytes: how many.
    sizes: Option<Box<[u32; 32]>>,
    group: Groups,
}

/// A number of groups for each lane.
#[derive(Clone)]
enum Groups {
    /// The same for all.
    All(u32),
    Each(Box<[u32; 32]>),
}

impl Groups {
    fn of(&self, lane: usize) -> u32 {
        match self {
            Groups::All(number) => *number,
            Groups::Each(numbers) => numbers[lane],
        }
    }
}

impl Copy {
    pub fn new(to: &Request<'_>, from: &[u64; 32], sizes: &[u32; 32], parts: Parts, at: u32) -> Copy {
        Copy {
            at,
            lanes: to.mask,
            number: 0,
            bytes: to.bytes,
            to: *to.addresses,
            from: *from,
            parts,
            sizes: (parts.some != 0).then(|| Box::new(*sizes)),
            group: Groups::All(0),
        }
    }

    /// What the lanes of `mask` write.
    pub fn target(&self, mask: u32) -> Request<'_> {
        Request { addresses: &self.to, mask, bytes: self.bytes }
    }

    /// Moves the bytes of the lanes of `mask`, uninitialised ones as such; everything was checked at the issue.
    pub fn run(&self, shared: &mut SharedMemory, mask: u32, global: &BlockMemory<'_>) {
        let mut found = None;
        for lane in lanes(mask) {
            let (to, from) = ((self.to[lane] - SHARED_START) as usize, self.from[lane]);
            let size = self.size(lane);
            if size != 0 {
                // Neighbouring lanes copy from one allocation.
                found = found
                    .filter(|a: &&super::allocation::Allocation| a.holds(from, 1))
                    .or_else(|| global.allocation(from));
            }
            let source = found.filter(|_| size != 0).map(|a| (a, ((from - a.start) / 16) as usize));
            if let Some((allocation, place)) = source
                && size == 16
            {
                shared.lines[to / 16] = allocation.line(place);
                shared.defined[to / 16] = !allocation.undefined(place);
                continue;
            }
            let (line, undefined) = source.map_or(([0; 4], 0), |(a, place)| (a.line(place), a.undefined(place)));
            let first = from as usize % 16;
            let source: &[u8] = bytemuck::cast_slice(&line);
            let target: &mut [u8] = bytemuck::cast_slice_mut(&mut shared.lines[to / 16]);
            let target = &mut target[to % 16..][..self.bytes];
            target.fill(0);
            if size != 0 {
                target[..size].copy_from_slice(&source[first..first + size]);
            }
            let asked = ((1u32 << size) - 1) as u16;
            let undefined = if size == 0 { 0 } else { undefined >> first & asked };
            let bytes = 0xffff >> (16 - self.bytes);
            let defined = &mut shared.defined[to / 16];
            *defined = *defined & !(bytes << (to % 16)) | (bytes & !undefined) << (to % 16);
        }
    }

    /// Bytes of a lane that come from global memory.
    fn size(&self, lane: usize) -> usize {
        if self.parts.whole >> lane & 1 == 1 {
            return self.bytes;
        }
        let part = self.sizes.as_ref().filter(|_| self.parts.some >> lane & 1 == 1);
        part.map_or(0, |sizes| sizes[lane] as usize)
    }
}

pub(super) struct Copies {
    issued: Vec<Copy>,
    /// Groups that each lane has closed.
    closed: Groups,
    ended: u32,
    count: u64,
}

impl Default for Copies {
    fn default() -> Copies {
        Copies { issued: Vec::new(), closed: Groups::All(0), ended: 0, count: 0 }
    }
}

impl Copies {
    /// As new; whether something was unfinished.
    pub fn reset(&mut self) -> bool {
        let unfinished = !self.issued.is_empty();
        self.issued.clear();
        self.closed = Groups::All(0);
        self.ended = 0;
        unfinished
    }

    pub fn issue(&mut self, mut copy: Copy) {
        copy.group = self.closed.clone();
        copy.number = self.count;
        self.count += 1;
        self.issued.push(copy);
    }

    pub fn commit(&mut self, mask: u32) {
        match &mut self.closed {
            Groups::All(number) if mask == u32::MAX => *number += 1,
            groups => {
                let numbers = std::array::from_fn(|lane| groups.of(lane) + (mask >> lane & 1));
                *groups = Groups::Each(Box::new(numbers));
            }
        }
    }

    /// Calls `done` with each copy and the lanes of `mask` whose part of it must be complete now.
    pub fn finish(&mut self, mask: u32, pending: Option<u32>, mut done: impl FnMut(&Copy, u32)) {
        let mut any = false;
        for copy in &mut self.issued {
            let complete = complete(&copy.group, &self.closed, pending) & mask & copy.lanes;
            if complete != 0 {
                done(copy, complete);
                copy.lanes &= !complete;
                any |= copy.lanes == 0;
            }
        }
        if any {
            self.issued.retain(|copy| copy.lanes != 0);
        }
    }

    /// How many were issued.
    pub fn issued(&self) -> u64 {
        self.count
    }

    /// Calls `done` with those of a lane that were issued before the number `upto`, which are complete now.
    pub fn finish_first(&mut self, lane: usize, upto: u64, mut done: impl FnMut(&Copy, u32)) {
        for copy in &mut self.issued {
            let complete = copy.lanes & 1 << lane;
            if copy.number < upto && complete != 0 {
                done(copy, complete);
                copy.lanes &= !complete;
            }
        }
        self.issued.retain(|copy| copy.lanes != 0);
    }

    /// Those of `mask` that have unfinished copies.
    pub fn pending(&self, mask: u32) -> u32 {
        self.issued.iter().fold(0, |pending, copy| pending | copy.lanes) & mask
    }

    /// The lanes of `mask` end; whether all have.
    pub fn end(&mut self, mask: u32) -> bool {
        self.ended |= mask;
        self.ended == u32::MAX
    }
}

/// Lanes for which a copy of `group` is not among the `pending` newest of the `closed` groups.
fn complete(group: &Groups, closed: &Groups, pending: Option<u32>) -> u32 {
    let Some(pending) = pending else { return u32::MAX };
    if let (Groups::All(group), Groups::All(closed)) = (group, closed) {
        return if group + pending < *closed { u32::MAX } else { 0 };
    }
    (0..32).fold(0, |lanes, lane| lanes | u32::from(group.of(lane) + pending < closed.of(lane)) << lane)
}
