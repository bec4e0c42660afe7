//! Photos and results pass through page-locked memory, so that a copy is queued like a kernel and nothing is allocated.
//! On boards whose GPU and CPU share their memory, and for what is larger than is worth it, the driver copies directly.

use std::sync::Arc;

use super::driver::{Gpu, Memory, Pinned};
use crate::device::plan::Plan;
use crate::error::Result;

/// Page-locked memory each way, at most: page-locked pages are taken from the whole machine.
const MOST: usize = 64 << 20;
/// Between staged buffers.
const ALIGN: usize = 256;

pub struct Staging {
    gpu: Arc<Gpu>,
    input: Option<Pinned>,
    output: Option<Pinned>,
    received: Vec<Received>,
}

/// An output of the last pass, on the host already.
struct Received {
    /// In the arena.
    offset: usize,
    bytes: usize,
    /// In `output`.
    place: usize,
}

impl Staging {
    pub fn new(gpu: Arc<Gpu>) -> Staging {
        Staging { gpu, input: None, output: None, received: Vec::new() }
    }

    /// Room for all that such a pass takes in and gives out.
    pub fn reserve(&mut self, plan: &Plan) -> Result<()> {
        self.received.clear();
        self.received.reserve(plan.outputs.len());
        if self.gpu.info().unified {
            return Ok(());
        }
        let bytes = |list: &[usize]| list.iter().map(|i| plan.buffers[*i].bytes.next_multiple_of(ALIGN)).sum();
        grow(&self.gpu, &mut self.input, bytes(&plan.inputs))?;
        grow(&self.gpu, &mut self.output, bytes(&plan.outputs))
    }

    /// To the arena's byte `at` and on, behind everything queued; the caller's bytes may be used again at once.
    pub fn write(&mut self, arena: &Memory, at: usize, bytes: &[u8]) -> Result<()> {
        self.received.clear();
        let sent = match &mut self.input {
            Some(pinned) => pinned.send(arena, at, bytes)?,
            None => false,
        };
        if sent { Ok(()) } else { self.gpu.upload(arena, at, bytes) }
    }

    /// Queues the copies of the plan's outputs, behind its operations.
    pub fn receive(&mut self, arena: &Memory, plan: &Plan) -> Result<()> {
        self.received.clear();
        let Some(pinned) = &mut self.output else { return Ok(()) };
        for buffer in plan.outputs.iter().map(|index| &plan.buffers[*index]) {
            if let Some(place) = pinned.receive(arena, buffer.offset, buffer.bytes)? {
                self.received.push(Received { offset: buffer.offset, bytes: buffer.bytes, place });
            }
        }
        Ok(())
    }

    /// The arena's bytes from `at` on, after a pass.
    pub fn read(&self, arena: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        let end = at + bytes.len();
        let holds = |received: &&Received| received.offset <= at && end <= received.offset + received.bytes;
        match (self.received.iter().find(holds), &self.output) {
            (Some(received), Some(pinned)) => pinned.read(received.place + at - received.offset, bytes),
            _ => self.gpu.download(arena, at, bytes),
        }
    }
}

fn grow(gpu: &Arc<Gpu>, pinned: &mut Option<Pinned>, bytes: usize) -> Result<()> {
    if (1..=MOST).contains(&bytes) && pinned.as_ref().is_none_or(|pinned| pinned.bytes() < bytes) {
        *pinned = None;
        *pinned = gpu.pinned(bytes)?;
    }
    Ok(())
}
