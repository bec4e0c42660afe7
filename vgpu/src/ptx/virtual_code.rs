//! A kernel between decoding and slot allocation: operations whose slots and predicates number their own operands.

use crate::ir::{Op, Slot};

/// What an operand's number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRef {
    Read(u32),
    Write(u32),
    Constant(Slot),
    /// The shared-space address where dynamic shared memory begins, plus bytes.
    DynamicShared(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredRef {
    pub id: u32,
    pub is_write: bool,
}

/// A stretch of [`VirtualCode::slot_refs`] or [`VirtualCode::pred_refs`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn of<T>(self, all: &[T]) -> &[T] {
        all.get(self.start..self.end).unwrap_or(&[])
    }
}

#[derive(Debug)]
pub struct VirtualInst {
    /// Its slots and predicates index `slots` and `preds`; jumps name labels.
    pub op: Op,
    pub slots: Span,
    pub preds: Span,
    /// Virtual predicate and whether it is negated.
    pub guard: Option<(u32, bool)>,
    pub line: u32,
    pub source: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Register {
    pub bytes: u8,
    /// Made by the decoder, read only under the guard that wrote it.
    pub is_temporary: bool,
}

#[derive(Debug, Default)]
pub struct VirtualCode {
    pub code: Vec<VirtualInst>,
    pub slot_refs: Vec<SlotRef>,
    pub pred_refs: Vec<PredRef>,
    pub registers: Vec<Register>,
    /// Of each predicate: whether it is temporary.
    pub predicates: Vec<bool>,
    /// Instruction of each label.
    pub labels: Vec<u32>,
}

impl VirtualCode {
    pub fn label(&self, number: u32) -> u32 {
        self.labels.get(number as usize).copied().unwrap_or(0)
    }
}
