//! A warp's asynchronous copies from global to shared memory: which are issued, and in which group of each lane.

use super::lines::{Lines, lanes};
use super::{BlockMemory, Request, SHARED_START, SharedMemory};

/// One cp.async of a warp.
pub(super) struct Copy {
    /// Lanes whose part is unfinished.
    lanes: u32,
    bytes: usize,
    to: [u64; 32],
    from: [u64; 32],
    sizes: [u32; 32],
    /// A lane's groups closed before: the number of its own.
    group: [u32; 32],
}

impl Copy {
    pub fn new(to: &Request<'_>, from: &[u64; 32], sizes: &[u32; 32]) -> Copy {
        Copy { lanes: to.mask, bytes: to.bytes, to: *to.addresses, from: *from, sizes: *sizes, group: [0; 32] }
    }

    /// Lines of shared memory that the lanes of `mask` write.
    pub fn lines(&self, mask: u32) -> Lines {
        Lines::of(&self.target(mask), mask, SHARED_START)
    }

    /// What the lanes of `mask` write.
    pub fn target(&self, mask: u32) -> Request<'_> {
        Request { addresses: &self.to, mask, bytes: self.bytes }
    }

    /// Moves the bytes of the lanes of `mask`, uninitialised ones as such; everything was checked at the issue.
    pub fn run(&self, shared: &mut SharedMemory, mask: u32, global: &BlockMemory<'_>) {
        for lane in lanes(mask) {
            let to = (self.to[lane] - SHARED_START) as usize;
            let size = (self.sizes[lane] as usize).min(self.bytes);
            let (line, undefined) =
                if size == 0 { ([0; 4], 0) } else { global.line(self.from[lane]).unwrap_or_default() };
            if self.bytes == 16 && size == 16 {
                shared.lines[to / 16] = line;
                shared.defined[to / 16] = !undefined;
                continue;
            }
            let first = self.from[lane] as usize % 16;
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
}

#[derive(Default)]
pub(super) struct Copies {
    issued: Vec<Copy>,
    /// Groups that each lane has closed.
    closed: [u32; 32],
    ended: u32,
}

impl Copies {
    /// As new; whether something was unfinished.
    pub fn reset(&mut self) -> bool {
        let unfinished = !self.issued.is_empty();
        self.issued.clear();
        self.closed = [0; 32];
        self.ended = 0;
        unfinished
    }

    pub fn issue(&mut self, mut copy: Copy) {
        copy.group = self.closed;
        self.issued.push(copy);
    }

    pub fn commit(&mut self, mask: u32) {
        for (lane, closed) in self.closed.iter_mut().enumerate() {
            *closed += mask >> lane & 1;
        }
    }

    /// Calls `done` with each copy and the lanes of `mask` whose part of it must be complete now.
    pub fn finish(&mut self, mask: u32, pending: Option<u32>, mut done: impl FnMut(&Copy, u32)) {
        for copy in &mut self.issued {
            let mut complete = 0;
            for lane in 0..32 {
                let is_complete = pending.is_none_or(|pending| copy.group[lane] + pending < self.closed[lane]);
                complete |= u32::from(is_complete) << lane;
            }
            let complete = complete & mask & copy.lanes;
            if complete != 0 {
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
