//! A forward pass as data: its steps, its buffers and where each lies in one arena. It knows no device.

mod arena;

use std::sync::atomic::{AtomicU64, Ordering};

pub use crate::ops::builder::{PlanBuilder, Stage, Step};
use crate::ops::{Buf, Element, Operand};

/// What a forward pass needs and does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of this recording and its clones alone: passes with one id do the same on the same places.
    pub id: u64,
    pub buffers: Vec<Planned>,
    /// In their order; each buffer in its place.
    pub steps: Vec<Step>,
    /// Positions of the buffers that the host fills, and of those that it reads.
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Bytes of the one arena that holds every buffer.
    pub arena_bytes: usize,
}

/// A buffer, its place and its life.
#[derive(Clone, Debug)]
pub struct Planned {
    pub name: &'static str,
    pub shape: [usize; 4],
    pub element: Element,
    pub bytes: usize,
    /// Bytes from the arena's start.
    pub offset: usize,
    /// The first and the last step that touch it.
    pub first: usize,
    pub last: usize,
}

impl Plan {
    /// What the pass does, in words: "a pass of 3 operations, from patchify … to argmax …".
    pub fn describe(&self) -> String {
        match self.steps.as_slice() {
            [] => String::new(),
            [one] => one.op.to_string(),
            [first, .., last] => {
                format!("a pass of {} operations, from {} to {}", self.steps.len(), first.op, last.op)
            }
        }
    }

    /// A buffer's handle with its place filled in.
    pub fn placed(&self, buf: Buf) -> Buf {
        Buf { offset: self.buffers[buf.index].offset, ..buf }
    }

    /// Where a device may have so many bytes of its own in the arena during a step, and during no other.
    pub fn gap(&self, step: usize, bytes: usize) -> Option<usize> {
        arena::gap(&self.buffers, self.arena_bytes, step, bytes)
    }

    /// A handle of the buffer at this position.
    pub fn buf(&self, index: usize) -> Buf {
        let Planned { offset, shape, element, .. } = self.buffers[index];
        Buf { index, offset, shape, element }
    }

    /// Handles of the buffers called `name`, in the order of the pass.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Buf> + 'a {
        (0..self.buffers.len()).filter(move |index| self.buffers[*index].name == name).map(|index| self.buf(index))
    }
}

/// Plans `forward` for a device whose activations take `activation_bytes` a value, and what it returned. Buffers whose names
/// are in `keep` stay alive to the end, so that they can be read.
pub fn record<R>(activation_bytes: usize, keep: &[&str], forward: impl FnOnce(&mut PlanBuilder) -> R) -> (Plan, R) {
    let mut builder = PlanBuilder::default();
    let returned = forward(&mut builder);
    let PlanBuilder { buffers, mut steps, inputs, outputs, held, .. } = builder;
    let mut buffers: Vec<Planned> = buffers
        .into_iter()
        .map(|declared| {
            let bytes = declared.shape.iter().product::<usize>() * declared.element.bytes(activation_bytes);
            let (name, shape, element, first) = (declared.name, declared.shape, declared.element, declared.since);
            Planned { name, shape, element, bytes, offset: 0, first, last: first }
        })
        .collect();
    let begins = |index| inputs.contains(&index) || held.contains(&index);
    let stays =
        |index, buffer: &Planned| outputs.contains(&index) || held.contains(&index) || keep.contains(&buffer.name);
    live(&mut buffers, &mut steps, begins, stays);
    let arena_bytes = arena::place(&mut buffers);
    for step in &mut steps {
        each_buf(step, &mut |buf| buf.offset = buffers[buf.index].offset);
    }
    static RECORDED: AtomicU64 = AtomicU64::new(0);
    let id = RECORDED.fetch_add(1, Ordering::Relaxed);
    (Plan { id, buffers, steps, inputs, outputs, arena_bytes }, returned)
}

/// Fills in the buffers' lives: some live from the beginning, and those that stay to the end.
fn live(
    buffers: &mut [Planned],
    steps: &mut [Step],
    begins: impl Fn(usize) -> bool,
    stays: impl Fn(usize, &Planned) -> bool,
) {
    for (now, step) in steps.iter_mut().enumerate() {
        each_buf(step, &mut |buf| {
            let buffer = &mut buffers[buf.index];
            (buffer.first, buffer.last) = (buffer.first.min(now), now);
        });
    }
    let end = steps.len().saturating_sub(1);
    for (index, buffer) in buffers.iter_mut().enumerate() {
        if begins(index) {
            buffer.first = 0;
        }
        if stays(index, buffer) {
            buffer.last = end;
        }
    }
}

fn each_buf(step: &mut Step, see: &mut dyn FnMut(&mut Buf)) {
    step.op.operands(&mut |operand| match operand {
        Operand::Read(buf) | Operand::Write(buf) | Operand::Update(buf) => see(buf),
        Operand::Matrix(_) | Operand::Vector(_) => {}
    });
}
