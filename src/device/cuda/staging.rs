//! The inputs and outputs that a plan names pass through page-locked memory: the host fills or reads that, and the copies are
//! queued with the pass, so that a captured pass has them as nodes of its graph. On boards whose GPU and CPU share their
//! memory, and for what is larger than is worth it, the driver copies directly.

use std::sync::Arc;

use super::driver::{Memory, Pinned, Stream};
use crate::error::Result;
use crate::ops::Buf;
use crate::pixels::HostRows;
use crate::plan::Plan;

/// Page-locked memory each way, at most: page-locked pages are taken from the whole machine.
pub const MOST: usize = 64 << 20;
/// Between staged buffers.
pub const ALIGN: usize = 256;

pub struct Staging {
    stream: Arc<Stream>,
    input: Option<Pinned>,
    output: Option<Pinned>,
    /// Whose outputs lie in `output`.
    received: Option<u64>,
}

/// Bytes of one way's memory that these buffers of a plan take.
pub fn bytes(plan: &Plan, list: &[usize]) -> usize {
    list.iter().map(|index| plan.buffers[*index].bytes.next_multiple_of(ALIGN)).sum()
}

/// Bytes of page-locked memory that passes of a plan take, both ways.
pub fn most_bytes(plan: &Plan) -> usize {
    [&plan.inputs, &plan.outputs].map(|list| bytes(plan, list)).into_iter().filter(|bytes| *bytes <= MOST).sum()
}

/// The buffers of a list, each with its place in that memory.
pub fn places<'a>(plan: &'a Plan, list: &'a [usize]) -> impl Iterator<Item = (usize, usize)> + 'a {
    list.iter().scan(0, |next, index| {
        let place = *next;
        *next += plan.buffers[*index].bytes.next_multiple_of(ALIGN);
        Some((*index, place))
    })
}

/// Where a buffer of a list lies in that memory.
pub fn place_of(plan: &Plan, list: &[usize], buf: Buf) -> Option<usize> {
    places(plan, list).find(|(index, _)| *index == buf.index).map(|(_, place)| place)
}

impl Staging {
    pub fn new(stream: Arc<Stream>) -> Staging {
        Staging { stream, input: None, output: None, received: None }
    }

    /// Room for all that such a pass takes in and gives out. Whether memory that a graph may copy from or to has moved.
    pub fn reserve(&mut self, plan: &Plan) -> Result<bool> {
        if self.stream.info().unified {
            return Ok(false);
        }
        let grown = grow(&self.stream, &mut self.input, bytes(plan, &plan.inputs))?;
        if grow(&self.stream, &mut self.output, bytes(plan, &plan.outputs))? {
            self.received = None;
            return Ok(true);
        }
        Ok(grown)
    }

    /// Where both memories lie, which a captured pass copies from and to.
    pub fn addresses(&self) -> [usize; 2] {
        [&self.input, &self.output].map(|pinned| pinned.as_ref().map_or(0, Pinned::address))
    }

    /// The memory that passes of this plan take an input from.
    pub fn input(&mut self, plan: &Plan, buf: Buf) -> Result<Option<&mut [u8]>> {
        let whole = bytes(plan, &plan.inputs);
        let Some(pinned) = fitting_mut(&mut self.input, whole) else { return Ok(None) };
        let Some(place) = place_of(plan, &plan.inputs, buf) else { return Ok(None) };
        Ok(Some(&mut pinned.slice_mut()?[place..place + plan.buffers[buf.index].bytes]))
    }

    /// Rows to the arena, or to where the pass takes them from.
    pub fn write_rows(
        &mut self,
        plan: &Plan,
        arena: &Memory,
        buf: Buf,
        first: usize,
        rows: &HostRows<'_>,
    ) -> Result<()> {
        // Outputs may be written before a pass as well.
        self.received = None;
        let HostRows { bytes, pitch, size } = *rows;
        match self.input(plan, buf)? {
            Some(memory) => {
                rows.copy_into(&mut memory[first..]);
                Ok(())
            }
            None if size.rows == 1 => self.stream.upload(arena, buf.offset + first, &bytes[..size.row]),
            None => self.stream.upload_rows(arena, buf.offset + first, bytes, pitch, size),
        }
    }

    /// Queues the copies of the plan's inputs, before its operations; without the first, where that `is_brought` already.
    pub fn send(&mut self, plan: &Plan, arena: &Memory, is_brought: bool) -> Result<()> {
        let whole = bytes(plan, &plan.inputs);
        let Some(pinned) = fitting_mut(&mut self.input, whole) else { return Ok(()) };
        places(plan, &plan.inputs).skip(usize::from(is_brought)).try_for_each(|(index, place)| {
            pinned.send(place, arena, plan.buffers[index].offset, plan.buffers[index].bytes)
        })
    }

    /// Queues the copies of its outputs, behind them.
    pub fn receive(&mut self, plan: &Plan, arena: &Memory) -> Result<()> {
        let whole = bytes(plan, &plan.outputs);
        let Some(pinned) = fitting_mut(&mut self.output, whole) else { return Ok(()) };
        places(plan, &plan.outputs).try_for_each(|(index, place)| {
            pinned.receive(place, arena, plan.buffers[index].offset, plan.buffers[index].bytes)
        })
    }

    /// A pass of this plan, with its copies, has run or been replayed.
    pub fn ran(&mut self, plan: &Plan) {
        self.received = Some(plan.id);
    }

    /// Where a pass of this plan, the last, left an output.
    pub fn output(&self, plan: &Plan, buf: Buf) -> Result<Option<&[u8]>> {
        let whole = bytes(plan, &plan.outputs);
        let pinned = self.output.as_ref().filter(|pinned| whole <= pinned.bytes() && self.received == Some(plan.id));
        let Some((pinned, place)) = pinned.zip(place_of(plan, &plan.outputs, buf)) else { return Ok(None) };
        Ok(Some(&pinned.slice()?[place..place + plan.buffers[buf.index].bytes]))
    }

    /// The buffer's bytes from `first` on, after a pass of the plan.
    pub fn read(&self, plan: &Plan, arena: &Memory, buf: Buf, first: usize, into: &mut [u8]) -> Result<()> {
        match self.output(plan, buf)? {
            Some(memory) => {
                into.copy_from_slice(&memory[first..first + into.len()]);
                Ok(())
            }
            None => self.stream.download(arena, buf.offset + first, into),
        }
    }
}

/// The memory, where it is large enough for all of a plan's.
fn fitting_mut(pinned: &mut Option<Pinned>, bytes: usize) -> Option<&mut Pinned> {
    pinned.as_mut().filter(|pinned| bytes <= pinned.bytes())
}

/// Whether it moved. What was in it moves along: a frame may be in the making there.
fn grow(stream: &Arc<Stream>, pinned: &mut Option<Pinned>, bytes: usize) -> Result<bool> {
    if !(1..=MOST).contains(&bytes) || pinned.as_ref().is_some_and(|pinned| pinned.bytes() >= bytes) {
        return Ok(false);
    }
    let Some(mut larger) = stream.pinned(bytes)? else { return Ok(false) };
    if let Some(old) = pinned {
        larger.slice_mut()?[..old.bytes()].copy_from_slice(old.slice()?);
    }
    *pinned = Some(larger);
    Ok(true)
}
