//! Instructions that are put together from others, with temporaries between.

use super::arith::PLAIN;
use super::{Decoder, Result};
use crate::ir::{BinOp, Op, Slot, TernOp, Ty};
use crate::ptx::ast::Operand;

/// A temporary's number, or a constant of the operation's type.
#[derive(Clone, Copy)]
pub enum Part {
    Register(u32),
    Constant(i64),
}

impl<'a> Decoder<'_, 'a> {
    /// A source's value in a temporary.
    pub(super) fn hold(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<Part> {
        let a = self.source(operand, ty)?;
        let held = self.temporary(ty.bytes());
        let d = self.write(held);
        self.emit(Op::Mov { wide: ty.is_wide(), d, a })?;
        Ok(Part::Register(held))
    }

    fn part(&mut self, part: Part, bytes: usize) -> Result<Slot> {
        match part {
            Part::Register(id) => Ok(self.read(id)),
            Part::Constant(value) => self.constant(value as u64, bytes),
        }
    }

    pub(super) fn compute(&mut self, op: BinOp, ty: Ty, a: Part, b: Part) -> Result<Part> {
        let (result, shift) = match op {
            BinOp::MulWide => (8, ty.bytes()),
            BinOp::Shl | BinOp::Shr => (ty.bytes(), 4),
            _ => (ty.bytes(), ty.bytes()),
        };
        let (a, b) = (self.part(a, ty.bytes())?, self.part(b, shift)?);
        let to = self.temporary(result);
        let d = self.write(to);
        self.emit(Op::Bin { op, ty, mode: PLAIN, d, a, b })?;
        Ok(Part::Register(to))
    }

    pub(super) fn combine(&mut self, op: TernOp, ty: Ty, [a, b, c]: [Part; 3]) -> Result<Part> {
        let second = if op == TernOp::Bfe { 4 } else { ty.bytes() };
        let (a, b, c) = (self.part(a, ty.bytes())?, self.part(b, second)?, self.part(c, second)?);
        let to = self.temporary(ty.bytes());
        let d = self.write(to);
        self.emit(Op::Tern { op, ty, mode: PLAIN, d, a, b, c })?;
        Ok(Part::Register(to))
    }

    /// `into` with `length` bits of `from` at `position`.
    pub(super) fn insert(&mut self, from: Part, into: Part, position: i64, length: i64) -> Result<Part> {
        let (a, b) = (self.part(from, 4)?, self.part(into, 4)?);
        let (position, length) = (self.constant(position as u64, 4)?, self.constant(length as u64, 4)?);
        let to = self.temporary(4);
        let d = self.write(to);
        self.emit(Op::Bfi { ty: Ty::U32, d, a, b, position, length })?;
        Ok(Part::Register(to))
    }

    pub(super) fn converted(&mut self, to: Ty, from: Ty, value: Part) -> Result<Part> {
        let a = self.part(value, from.bytes())?;
        let result = self.temporary(to.bytes());
        let d = self.write(result);
        self.emit(Op::Cvt { to, from, mode: PLAIN, d, a })?;
        Ok(Part::Register(result))
    }

    /// `value` no less than `low` and no more than `high`.
    pub(super) fn clamped(&mut self, ty: Ty, value: Part, [low, high]: [i64; 2]) -> Result<Part> {
        let value = self.compute(BinOp::Max, ty, value, Part::Constant(low))?;
        self.compute(BinOp::Min, ty, value, Part::Constant(high))
    }

    /// Ends with the destination.
    pub(super) fn deliver(&mut self, to: &Operand<'a>, ty: Ty, value: Part) -> Result<()> {
        let a = self.part(value, ty.bytes())?;
        let d = self.dest(to, ty)?;
        self.emit(Op::Mov { wide: ty.is_wide(), d, a })
    }
}

/// The least and the greatest value of an integer of `bits`.
pub fn bounds(bits: u32, signed: bool) -> [i64; 2] {
    if signed { [-(1 << (bits - 1)), (1 << (bits - 1)) - 1] } else { [0, (1 << bits) - 1] }
}
