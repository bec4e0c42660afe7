//! Logic, shifts and bit fields.

use super::arith::PLAIN;
use super::{Decoder, Modifiers, Result, exactly};
use crate::ir::{BinOp, Logic, Op, TernOp, Ty, UnOp};
use crate::ptx::ast::{Instruction, Operand, Value};

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    match i.opcode {
        "and" | "or" | "xor" | "not" if m.take("pred") => return predicates(d, i),
        "shf" => return funnel(d, i, m),
        "prmt" => return permute(d, i, m),
        "bfind" => return find_bit(d, i, m),
        "bmsk" => return mask(d, i, m),
        _ => {}
    }
    let ty = d.need_type(i, m)?;
    if !matches!(ty, Ty::U16 | Ty::U32 | Ty::U64 | Ty::S16 | Ty::S32 | Ty::S64) {
        return d.unknown(format!("`{}` of this type", i.opcode));
    }
    match i.opcode {
        "and" => binary(d, i, BinOp::And, ty, ty),
        "or" => binary(d, i, BinOp::Or, ty, ty),
        "xor" => binary(d, i, BinOp::Xor, ty, ty),
        "shl" => binary(d, i, BinOp::Shl, ty, Ty::U32),
        "shr" => binary(d, i, BinOp::Shr, ty, Ty::U32),
        "not" => unary(d, i, UnOp::Not, ty, ty),
        "cnot" => unary(d, i, UnOp::Cnot, ty, ty),
        "brev" => unary(d, i, UnOp::Brev, ty, ty),
        "clz" => unary(d, i, UnOp::Clz, ty, Ty::U32),
        "popc" => unary(d, i, UnOp::Popc, ty, Ty::U32),
        "bfe" => extract(d, i, ty),
        "bfi" => insert(d, i, ty),
        _ => table(d, i, ty),
    }
}

fn binary<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, op: BinOp, ty: Ty, second: Ty) -> Result<()> {
    let [to, a, b] = exactly(i)?;
    let (a, b) = (d.source(a, ty)?, d.source(b, second)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Bin { op, ty, mode: PLAIN, d: to, a, b })
}

fn unary<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, op: UnOp, ty: Ty, result: Ty) -> Result<()> {
    let [to, a] = exactly(i)?;
    let a = d.source(a, ty)?;
    let to = d.dest(to, result)?;
    d.emit(Op::Un { op, ty, mode: PLAIN, d: to, a })
}

fn predicates<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>) -> Result<()> {
    let op = match i.opcode {
        "and" => Logic::And,
        "or" => Logic::Or,
        "xor" => Logic::Xor,
        _ => {
            let [to, a] = exactly(i)?;
            let mut a = d.condition(a)?;
            a.negate = !a.negate;
            let to = d.pred_dest_of(to)?;
            return d.emit(Op::PredMov { d: to, a });
        }
    };
    let [to, a, b] = exactly(i)?;
    let (a, b) = (d.condition(a)?, d.condition(b)?);
    let to = d.pred_dest_of(to)?;
    d.emit(Op::PredLogic { op, d: to, a, b })
}

fn funnel<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let left = m.take("l");
    if !left {
        d.need(m.take("r"), i, "r")?;
    }
    let clamp = m.take("clamp");
    if !clamp {
        d.need(m.take("wrap"), i, "wrap")?;
    }
    let op = match (left, clamp) {
        (true, true) => TernOp::ShfLeftClamp,
        (true, false) => TernOp::ShfLeftWrap,
        (false, true) => TernOp::ShfRightClamp,
        (false, false) => TernOp::ShfRightWrap,
    };
    words(d, i, m, op)
}

/// Three words in, one out.
fn words<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, op: TernOp) -> Result<()> {
    d.need(m.take("b32"), i, "b32")?;
    let [to, a, b, c] = exactly(i)?;
    let (a, b, c) = (d.source(a, Ty::U32)?, d.source(b, Ty::U32)?, d.source(c, Ty::U32)?);
    let to = d.dest(to, Ty::U32)?;
    d.emit(Op::Tern { op, ty: Ty::U32, mode: PLAIN, d: to, a, b, c })
}

fn permute<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let modes = [("f4e", 1), ("b4e", 2), ("rc8", 3), ("ecl", 4), ("ecr", 5), ("rc16", 6)];
    let Some(mode) = m.choose(&modes) else {
        return words(d, i, m, TernOp::Prmt);
    };
    d.need(m.take("b32"), i, "b32")?;
    let [to, a, b, c] = exactly(i)?;
    let (a, b, c) = (d.source(a, Ty::U32)?, d.source(b, Ty::U32)?, d.source(c, Ty::U32)?);
    let to = d.dest(to, Ty::U32)?;
    d.emit(Op::PrmtMode { mode, d: to, a, b, c })
}

fn find_bit<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let op = if m.take("shiftamt") { UnOp::BfindShift } else { UnOp::Bfind };
    let ty = d.need_type(i, m)?;
    if !matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64) {
        return d.unknown("`bfind` of this type");
    }
    unary(d, i, op, ty, Ty::U32)
}

fn extract<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, ty: Ty) -> Result<()> {
    let [to, a, position, length] = exactly(i)?;
    let (a, b, c) = (d.source(a, ty)?, d.source(position, Ty::U32)?, d.source(length, Ty::U32)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Tern { op: TernOp::Bfe, ty, mode: PLAIN, d: to, a, b, c })
}

fn insert<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, ty: Ty) -> Result<()> {
    let [to, a, b, position, length] = exactly(i)?;
    let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
    let (position, length) = (d.source(position, Ty::U32)?, d.source(length, Ty::U32)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Bfi { ty, d: to, a, b, position, length })
}

fn table<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, ty: Ty) -> Result<()> {
    let [to, a, b, c, Operand::Value(Value::Int(table))] = exactly(i)? else {
        return d.syntax("`lop3` takes a destination, three sources and a number");
    };
    let Ok(table) = u8::try_from(*table) else {
        return d.syntax("the table of `lop3` is a number from 0 to 255");
    };
    let (a, b, c) = (d.source(a, ty)?, d.source(b, ty)?, d.source(c, ty)?);
    let to = d.dest(to, ty)?;
    if ty.bytes() != 4 {
        return d.unknown("`lop3` of this type");
    }
    d.emit(Op::Lop3 { d: to, a, b, c, table })
}

/// `bmsk.clamp d, a, b`: b ones from bit a on, as ((1 << b) − 1) << a, whose shifts clamp.
fn mask<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("clamp"), i, "clamp")?;
    d.need(m.take("b32"), i, "b32")?;
    let [to, position, length] = exactly(i)?;
    let (power, ones) = (d.temporary(4), d.temporary(4));
    let (a, b) = (d.constant(1, 4)?, d.source(length, Ty::U32)?);
    let power_slot = d.write(power);
    d.emit(Op::Bin { op: BinOp::Shl, ty: Ty::U32, mode: PLAIN, d: power_slot, a, b })?;
    let (a, b) = (d.read(power), d.constant(1, 4)?);
    let ones_slot = d.write(ones);
    d.emit(Op::Bin { op: BinOp::Sub, ty: Ty::U32, mode: PLAIN, d: ones_slot, a, b })?;
    let (a, b) = (d.read(ones), d.source(position, Ty::U32)?);
    let to = d.dest(to, Ty::U32)?;
    d.emit(Op::Bin { op: BinOp::Shl, ty: Ty::U32, mode: PLAIN, d: to, a, b })
}
