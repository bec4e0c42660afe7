//! `VGPU_TRACE`: one line for each instruction of the first warp.

use super::registers::Registers;
use crate::ir::{Inst, Op, Slot};

/// Where it is, what it is, who executes it, and the first lanes of what it wrote.
pub(super) fn print(r: &Registers<'_>, inst: &Inst, pc: u32, active: u32) {
    let mut line = format!("{pc:5} line {:5} {active:08x} {:?}", inst.line, inst.op);
    for slot in written(&inst.op).into_iter().flatten() {
        line += &format!("; {}:", slot.index());
        r.narrow(slot)[..4].iter().for_each(|x| line += &format!(" {x:08x}"));
    }
    if let Op::Setp { p, .. } | Op::PredLogic { d: p, .. } = inst.op {
        line += &format!("; p{}: {:08x}", p.0, r.pred(p));
    }
    eprintln!("{line}");
}

/// The first slots that it writes.
fn written(op: &Op) -> [Option<Slot>; 4] {
    match op {
        Op::Mov { d, .. }
        | Op::Special { d, .. }
        | Op::Pack16x2 { d, .. }
        | Op::Pack16x4 { d, .. }
        | Op::Pack32x2 { d, .. }
        | Op::Un { d, .. }
        | Op::Bin { d, .. }
        | Op::Tern { d, .. }
        | Op::Bfi { d, .. }
        | Op::Lop3 { d, .. }
        | Op::PrmtMode { d, .. }
        | Op::AddCarry { d, .. }
        | Op::MadCarry { d, .. }
        | Op::Cvt { d, .. }
        | Op::CvtPack { d, .. }
        | Op::Set { d, .. }
        | Op::Selp { d, .. }
        | Op::Cvta { d, .. }
        | Op::Movmatrix { d, .. }
        | Op::Shfl { d, .. }
        | Op::Ballot { d, .. }
        | Op::Match { d, .. }
        | Op::Redux { d, .. }
        | Op::ActiveMask { d } => [Some(*d), None, None, None],
        Op::Unpack16x2 { d, .. } | Op::Unpack32x2 { d, .. } => [d[0], d[1], None, None],
        Op::Atom { d, .. } => [*d, None, None, None],
        Op::Ld { d, .. } => first(d.iter().copied()),
        Op::Ldmatrix { d, .. } => first(d.iter().copied().map(Some)),
        Op::Mma(m) => first(m.d.iter().copied().map(Some)),
        _ => [None; 4],
    }
}

fn first(slots: impl Iterator<Item = Option<Slot>>) -> [Option<Slot>; 4] {
    let mut out = [None; 4];
    out.iter_mut().zip(slots).for_each(|(out, slot)| *out = slot);
    out
}
