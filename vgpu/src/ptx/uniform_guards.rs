//! Which guards a kernel parameter alone decides: `if (parts > 1)` and the like, the same in every thread of a launch.
//!
//! nvcc gives nearly every register one write. Where a guard's predicate, the register it compares and the address of the
//! parameter each have one, which is not guarded itself, their values are those of the launch wherever they are defined.

use super::virtual_code::{SlotRef, VirtualCode, VirtualInst};
use crate::ir::{BinOp, Cmp, Op, ParameterTest, Pred, Slot, Space, Ty};

/// Steps from a guard back to the parameter.
const MOST_STEPS: usize = 16;

/// What a register holds.
enum Known {
    Constant(u64),
    /// 32 bits from this byte of the parameters on.
    Parameter(usize),
}

/// The only instruction that writes a register or predicate.
#[derive(Clone, Copy)]
enum Writer {
    None,
    One(usize),
    Several,
}

impl Writer {
    fn and(&mut self, index: usize) {
        *self = match self {
            Writer::None => Writer::One(index),
            _ => Writer::Several,
        };
    }
}

struct Search<'d> {
    virtual_code: &'d VirtualCode,
    constants: &'d [u32],
    registers: Vec<Writer>,
    predicates: Vec<Writer>,
}

/// The guarded instructions of which that is so, in order, and when the guard holds.
pub fn find(virtual_code: &VirtualCode, constants: &[u32]) -> Vec<(u32, ParameterTest)> {
    let mut search = Search {
        virtual_code,
        constants,
        registers: vec![Writer::None; virtual_code.registers.len()],
        predicates: vec![Writer::None; virtual_code.predicates.len()],
    };
    for (index, inst) in virtual_code.code.iter().enumerate() {
        for reference in inst.slots.of(&virtual_code.slot_refs) {
            if let SlotRef::Write(id) = reference {
                search.registers[*id as usize].and(index);
            }
        }
        for reference in inst.preds.of(&virtual_code.pred_refs).iter().filter(|reference| reference.is_write) {
            search.predicates[reference.id as usize].and(index);
        }
    }
    let of = |(index, inst): (usize, &VirtualInst)| Some((index as u32, search.test(inst.guard?)?));
    virtual_code.code.iter().enumerate().filter_map(of).collect()
}

impl Search<'_> {
    fn writer(&self, writer: Writer) -> Option<&VirtualInst> {
        let Writer::One(index) = writer else { return None };
        self.virtual_code.code.get(index).filter(|inst| inst.guard.is_none())
    }

    fn test(&self, (predicate, negate): (u32, bool)) -> Option<ParameterTest> {
        let inst = self.writer(self.predicates[predicate as usize])?;
        let Op::Setp { cmp, ty, combine: None, p, q: None, a, b, .. } = &inst.op else { return None };
        let is_its =
            |p: Pred| inst.preds.of(&self.virtual_code.pred_refs).get(p.0 as usize).is_some_and(|r| r.id == predicate);
        let is_ordered = matches!(cmp, Cmp::Eq | Cmp::Ne | Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge);
        if !is_its(*p) || !is_ordered || !matches!(ty, Ty::U32 | Ty::S32) {
            return None;
        }
        match (self.operand(inst, *a, false, MOST_STEPS)?, self.operand(inst, *b, false, MOST_STEPS)?) {
            (Known::Parameter(offset), Known::Constant(value)) => {
                Some(ParameterTest { offset, cmp: *cmp, signed: *ty == Ty::S32, value: value as u32, negate })
            }
            _ => None,
        }
    }

    fn operand(&self, inst: &VirtualInst, slot: Slot, wide: bool, steps: usize) -> Option<Known> {
        match *inst.slots.of(&self.virtual_code.slot_refs).get(slot.0 as usize)? {
            SlotRef::Read(id) => self.register(id, steps.checked_sub(1)?),
            SlotRef::Constant(slot) => {
                let word = |i: usize| self.constants.get(slot.index() + i).copied().map(u64::from);
                Some(Known::Constant(if wide { word(0)? | word(1)? << 32 } else { word(0)? }))
            }
            _ => None,
        }
    }

    fn register(&self, id: u32, steps: usize) -> Option<Known> {
        let inst = self.writer(self.registers[id as usize])?;
        match &inst.op {
            Op::Mov { wide, a, .. } => self.operand(inst, *a, *wide, steps),
            Op::Bin { op: BinOp::Add, ty: Ty::U64 | Ty::S64, a, b, .. } => {
                let (a, b) = (self.operand(inst, *a, true, steps)?, self.operand(inst, *b, true, steps)?);
                let (Known::Constant(a), Known::Constant(b)) = (a, b) else { return None };
                Some(Known::Constant(a.wrapping_add(b)))
            }
            Op::Ld { space: Space::Param, ty: Ty::U32 | Ty::S32, d, a, .. } => {
                let base = match a.base {
                    None => 0,
                    Some(slot) => match self.operand(inst, slot, !a.narrow, steps)? {
                        Known::Constant(base) => base,
                        Known::Parameter(_) => return None,
                    },
                };
                let is_its = |slot: &Option<Slot>| {
                    let reference =
                        slot.and_then(|slot| inst.slots.of(&self.virtual_code.slot_refs).get(slot.0 as usize));
                    reference == Some(&SlotRef::Write(id))
                };
                let element = d.iter().position(is_its)?;
                usize::try_from(base.wrapping_add_signed(a.offset)).ok()?.checked_add(4 * element).map(Known::Parameter)
            }
            _ => None,
        }
    }
}
