//! Submitted passes. There is one arena, so one pass waits in it: it is computed when it is waited for, or when the arena is
//! wanted for something else; then what it gave out is kept aside.

use std::sync::Arc;

use super::Cpu;
use super::arena::Arena;
use crate::device::SLOTS;
use crate::error::Result;
use crate::memory::Need;
use crate::ops::Buf;
use crate::plan::Plan;

/// Between kept outputs, in bytes: whatever they are read as is aligned.
const ALIGN: usize = 8;

#[derive(Default)]
pub struct Slots {
    /// The pass whose inputs lie in the arena, and its slot.
    waiting: Option<(Arc<Plan>, usize)>,
    kept: [Kept; SLOTS],
}

/// What a pass gave out that was computed before it was waited for.
#[derive(Default)]
struct Kept {
    is_there: bool,
    values: Vec<u64>,
}

/// What one slot takes: the outputs, where they are kept.
pub fn need(plan: &Plan) -> Need {
    Need { host: bytes(plan) as u64, ..Need::default() }
}

fn bytes(plan: &Plan) -> usize {
    plan.outputs.iter().map(|index| room(plan, *index)).sum()
}

impl Kept {
    /// The outputs of a pass that has just ended.
    fn fill(&mut self, plan: &Plan, arena: &Arena) {
        self.values.resize(bytes(plan) / ALIGN, 0);
        for (index, place) in places(plan) {
            let bytes = arena.bytes(plan.buf(index));
            bytemuck::cast_slice_mut(&mut self.values)[place..][..bytes.len()].copy_from_slice(bytes);
        }
        self.is_there = true;
    }
}

fn room(plan: &Plan, index: usize) -> usize {
    plan.buffers[index].bytes.next_multiple_of(ALIGN)
}

/// The outputs of a plan, each with its place among those that are kept.
fn places(plan: &Plan) -> impl Iterator<Item = (usize, usize)> + '_ {
    plan.outputs.iter().scan(0, |next, index| {
        let place = *next;
        *next += room(plan, *index);
        Some((*index, place))
    })
}

impl Cpu {
    /// Computes what waits, and keeps what it gives out: the arena is wanted.
    pub(super) fn complete(&mut self) -> Result<()> {
        let Some((plan, slot)) = self.slots.waiting.take() else { return Ok(()) };
        self.pass(&plan)?;
        self.slots.kept[slot].fill(&plan, &self.arena);
        Ok(())
    }

    /// The arena's input of a pass that is to be submitted.
    pub(super) fn input_of_slot(&mut self, plan: &Plan, buf: Buf) -> Result<&mut [u8]> {
        self.complete()?;
        self.reserve(plan)?;
        Ok(self.arena.bytes_mut(plan.placed(buf)))
    }

    /// The pass whose inputs are in the arena waits.
    pub(super) fn wait_in_arena(&mut self, plan: Arc<Plan>, slot: usize) {
        self.slots.kept[slot].is_there = false;
        self.slots.waiting = Some((plan, slot));
    }

    /// Computes it if it waits.
    pub(super) fn finish_slot(&mut self, slot: usize) -> Result<()> {
        match self.slots.waiting.take_if(|(_, waiting)| *waiting == slot) {
            Some((plan, _)) => self.pass(&plan),
            None => Ok(()),
        }
    }

    pub(super) fn output_of_slot(&self, plan: &Plan, slot: usize, buf: Buf) -> &[u8] {
        let Kept { is_there, values } = &self.slots.kept[slot];
        match places(plan).find(|(index, _)| *is_there && *index == buf.index) {
            Some((index, place)) => &bytemuck::cast_slice(values)[place..][..plan.buffers[index].bytes],
            None => self.arena.bytes(plan.placed(buf)),
        }
    }
}
