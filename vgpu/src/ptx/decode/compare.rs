//! Comparisons and selection.

use super::arith::{PLAIN, is_float, is_integer};
use super::{Decoder, Modifiers, Result, exactly};
use crate::ir::{Cmp, Condition, Logic, Op, TernOp, Ty};
use crate::ptx::ast::{Instruction, Operand};

const LOGIC: [(&str, Logic); 3] = [("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)];

const COMPARISONS: [(&str, Cmp); 18] = [
    ("eq", Cmp::Eq),
    ("ne", Cmp::Ne),
    ("lt", Cmp::Lt),
    ("le", Cmp::Le),
    ("gt", Cmp::Gt),
    ("ge", Cmp::Ge),
    // Unsigned: lower, lower or same, higher, higher or same.
    ("lo", Cmp::Lt),
    ("ls", Cmp::Le),
    ("hi", Cmp::Gt),
    ("hs", Cmp::Ge),
    ("equ", Cmp::Equ),
    ("neu", Cmp::Neu),
    ("ltu", Cmp::Ltu),
    ("leu", Cmp::Leu),
    ("gtu", Cmp::Gtu),
    ("geu", Cmp::Geu),
    ("num", Cmp::Num),
    ("nan", Cmp::Nan),
];

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    match i.opcode {
        "setp" => set_predicate(d, i, m),
        "set" => set(d, i, m),
        "selp" => select(d, i, m),
        _ => select_by_sign(d, i, m),
    }
}

struct Comparison {
    cmp: Cmp,
    logic: Option<Logic>,
    ftz: bool,
    ty: Ty,
}

fn is_unordered(cmp: Cmp) -> bool {
    matches!(cmp, Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu | Cmp::Num | Cmp::Nan)
}

/// Modifiers up to the type; `set` has taken its result's type before.
fn comparison(d: &Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<Comparison> {
    let Some(cmp) = m.choose(&COMPARISONS) else {
        return d.syntax(format!("`{}` without a comparison", i.opcode));
    };
    let logic = m.choose(&LOGIC);
    let ty = d.need_type(i, m)?;
    if !is_float(ty) && !is_integer(ty) {
        return d.unknown(format!("`{}` of this type", i.opcode));
    }
    if is_unordered(cmp) && !is_float(ty) {
        return d.syntax("unordered comparisons are of floats");
    }
    let ftz = matches!(ty, Ty::F32 | Ty::F16 | Ty::F16x2) && m.take("ftz");
    Ok(Comparison { cmp, logic, ftz, ty })
}

fn combine<'a>(
    d: &mut Decoder<'_, 'a>,
    logic: Option<Logic>,
    rest: &[Operand<'a>],
) -> Result<Option<(Logic, Condition)>> {
    match (logic, rest) {
        (None, []) => Ok(None),
        (Some(logic), [operand]) => Ok(Some((logic, d.condition(operand)?))),
        _ => d.syntax("a comparison takes two sources, and a predicate only with `.and`, `.or` or `.xor`"),
    }
}

fn set_predicate<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let Comparison { cmp, logic, ftz, ty } = comparison(d, i, m)?;
    let [to, a, b, rest @ ..] = i.operands.as_slice() else {
        return Err(super::count_error(i, "3 or 4"));
    };
    let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
    let combine = combine(d, logic, rest)?;
    let (p, q) = match to {
        Operand::Pair("_", "_") => return d.syntax("`setp` without a destination"),
        Operand::Pair(p, "_") => (d.pred_dest(p)?, None),
        Operand::Pair("_", q) => {
            // The sink still needs a place.
            let unused = d.temporary_predicate();
            (d.push_pred(unused, true), Some(d.pred_dest(q)?))
        }
        Operand::Pair(p, q) => (d.pred_dest(p)?, Some(d.pred_dest(q)?)),
        _ => (d.pred_dest_of(to)?, None),
    };
    if !matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
        return d.emit(Op::Setp { cmp, ty, ftz, combine, p, q, a, b });
    }
    match (combine, q) {
        (None, Some(q)) => d.emit(Op::Setp2 { cmp, ty, ftz, p, q, a, b }),
        (None, None) => {
            let unused = d.temporary_predicate();
            let q = d.push_pred(unused, true);
            d.emit(Op::Setp2 { cmp, ty, ftz, p, q, a, b })
        }
        _ => d.unknown("`setp` of pairs combined with a predicate"),
    }
}

fn set<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let result = d.need_type(i, m)?;
    let Comparison { cmp, logic, ftz, ty } = comparison(d, i, m)?;
    let [to, a, b, rest @ ..] = i.operands.as_slice() else {
        return Err(super::count_error(i, "3 or 4"));
    };
    let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
    let combine = combine(d, logic, rest)?;
    if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
        if result != ty && !matches!(result, Ty::U32 | Ty::S32) {
            return d.unknown("`set` of pairs with this result");
        }
        let to = d.dest(to, result)?;
        return d.emit(Op::Set { cmp, ty, ftz, float: result == ty, combine, d: to, a, b });
    }
    // Of single values: a comparison, then a choice of two constants of the result's type.
    let (yes, no) = match result {
        Ty::U16 | Ty::S16 | Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64 => (u64::MAX, 0),
        Ty::F16 => (0x3c00, 0),
        Ty::Bf16 => (0x3f80, 0),
        Ty::F32 => (0x3f80_0000, 0),
        _ => return d.unknown("`set` with this result"),
    };
    let truth = d.temporary_predicate();
    let p = d.push_pred(truth, true);
    d.emit(Op::Setp { cmp, ty, ftz, combine, p, q: None, a, b })?;
    let (a, b) = (d.constant(yes, result.bytes())?, d.constant(no, result.bytes())?);
    let p = Condition { pred: d.push_pred(truth, false), negate: false };
    let to = d.dest(to, result)?;
    d.emit(Op::Selp { wide: result.is_wide(), d: to, a, b, p })
}

fn select<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let ty = d.need_type(i, m)?;
    let [to, a, b, p] = exactly(i)?;
    let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
    let p = d.condition(p)?;
    let to = d.dest(to, ty)?;
    d.emit(Op::Selp { wide: ty.is_wide(), d: to, a, b, p })
}

fn select_by_sign<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let ty = d.need_type(i, m)?;
    let by = d.need_type(i, m)?;
    let mut mode = PLAIN;
    let op = match by {
        Ty::S32 => TernOp::SlctS32,
        Ty::F32 => {
            mode.ftz = m.take("ftz");
            TernOp::SlctF32
        }
        _ => return d.unknown("`slct` by this type"),
    };
    let [to, a, b, c] = exactly(i)?;
    let (a, b, c) = (d.source(a, ty)?, d.source(b, ty)?, d.source(c, by)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Tern { op, ty, mode, d: to, a, b, c })
}
