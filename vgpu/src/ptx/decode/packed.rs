//! Integers of parts of a register: pairs of 16 bits, products of 24, dot products, `cvt.pack`.

use super::lower::{Part, bounds};
use super::{Decoder, Modifiers, Result, exactly};
use crate::ir::{BinOp, TernOp, Ty};
use crate::ptx::ast::{Instruction, Operand};

/// `add`, `min` and `max` of pairs, and those that are cut at zero; `None`: another instruction.
pub fn pairs<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Option<Result<()>> {
    let op = match i.opcode {
        "add" => BinOp::Add,
        "min" => BinOp::Min,
        "max" => BinOp::Max,
        _ => return None,
    };
    let ty = m.choose(&[("u16x2", Ty::U16), ("s16x2", Ty::S16)]);
    let cut_word = ty.is_none() && op != BinOp::Add && i.modifiers.as_slice() == ["relu", "s32"];
    if ty.is_none() && !cut_word {
        return None;
    }
    let cut = (cut_word || ty == Some(Ty::S16) && op != BinOp::Add) && m.take("relu");
    if cut_word {
        m.take("s32");
    }
    Some(pair(d, i, op, ty, cut))
}

fn pair<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, op: BinOp, ty: Option<Ty>, cut: bool) -> Result<()> {
    let [to, a, b] = exactly(i)?;
    let (a, b) = (d.hold(a, Ty::U32)?, d.hold(b, Ty::U32)?);
    let one = |d: &mut Decoder<'_, 'a>, ty: Ty, a: Part, b: Part| {
        let result = d.compute(op, ty, a, b)?;
        if cut { d.compute(BinOp::Max, ty, result, Part::Constant(0)) } else { Ok(result) }
    };
    let Some(ty) = ty else {
        let result = one(d, Ty::S32, a, b)?;
        return d.deliver(to, Ty::S32, result);
    };
    let (a, b) = (halves(d, a)?, halves(d, b)?);
    let (low, high) = (one(d, ty, a[0], b[0])?, one(d, ty, a[1], b[1])?);
    let word = d.converted(Ty::U32, Ty::U16, low)?;
    let high = d.converted(Ty::U32, Ty::U16, high)?;
    let word = d.insert(high, word, 16, 16)?;
    d.deliver(to, Ty::U32, word)
}

fn halves(d: &mut Decoder<'_, '_>, word: Part) -> Result<[Part; 2]> {
    let high = d.compute(BinOp::Shr, Ty::U32, word, Part::Constant(16))?;
    Ok([d.converted(Ty::U16, Ty::U32, word)?, d.converted(Ty::U16, Ty::U32, high)?])
}

/// `mul24.hi` and `mad24.hi`: bits 16 to 47 of the product.
pub fn high24<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    let long = match ty {
        Ty::U32 => Ty::U64,
        Ty::S32 => Ty::S64,
        _ => return d.unknown(format!("`{}` of this type", i.opcode)),
    };
    let adds = i.opcode == "mad24";
    let saturates = adds && ty == Ty::S32 && m.take("sat");
    let (to, a, b, c) = match i.operands.as_slice() {
        [to, a, b] if !adds => (to, a, b, None),
        [to, a, b, c] if adds => (to, a, b, Some(c)),
        _ => return Err(super::count_error(i, if adds { "4" } else { "3" })),
    };
    let mut factor = |operand| {
        let held = d.hold(operand, ty)?;
        d.combine(TernOp::Bfe, ty, [held, Part::Constant(0), Part::Constant(24)])
    };
    let (a, b) = (factor(a)?, factor(b)?);
    let product = d.compute(BinOp::MulWide, ty, a, b)?;
    let high = d.compute(BinOp::Shr, long, product, Part::Constant(16))?;
    let mut result = d.converted(Ty::U32, Ty::U64, high)?;
    if let Some(c) = c {
        let c = d.hold(c, ty)?;
        result = d.compute(if saturates { BinOp::AddSat } else { BinOp::Add }, ty, result, c)?;
    }
    d.deliver(to, ty, result)
}

/// `dp2a`: two halves of a with two bytes of b, the lower (`.lo`) or the upper ones.
pub fn dot2<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let upper = !m.take("lo");
    if upper {
        d.need(m.take("hi"), i, "lo")?;
    }
    let types = [d.need_type(i, m)?, d.need_type(i, m)?];
    if types.iter().any(|ty| !matches!(ty, Ty::U32 | Ty::S32)) {
        return d.unknown("`dp2a` of these types");
    }
    let [to, a, b, c] = exactly(i)?;
    let (a, b, mut sum) = (d.hold(a, Ty::U32)?, d.hold(b, Ty::U32)?, d.hold(c, Ty::U32)?);
    for part in 0..2 {
        let byte = if upper { 16 + 8 * part } else { 8 * part };
        let left = d.combine(TernOp::Bfe, types[0], [a, Part::Constant(16 * part), Part::Constant(16)])?;
        let right = d.combine(TernOp::Bfe, types[1], [b, Part::Constant(byte), Part::Constant(8)])?;
        sum = d.combine(TernOp::MadLo, Ty::U32, [left, right, sum])?;
    }
    d.deliver(to, Ty::U32, sum)
}

/// `cvt.pack.sat`: a and b cut to a few bits, b lowest, then a, then (below 16 bits) what c has.
pub fn pack<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("sat"), i, "sat")?;
    let types = [
        ("u16", (16, false)),
        ("s16", (16, true)),
        ("u8", (8, false)),
        ("s8", (8, true)),
        ("u4", (4, false)),
        ("s4", (4, true)),
        ("u2", (2, false)),
        ("s2", (2, true)),
    ];
    let Some((bits, signed)) = m.choose(&types) else {
        return d.unknown("`cvt.pack` to this type");
    };
    d.need(m.take("s32"), i, "s32")?;
    let (to, a, b, c) = match i.operands.as_slice() {
        [to, a, b] if bits == 16 => (to, a, b, None),
        [to, a, b, c] if bits < 16 => {
            d.need(m.take("b32"), i, "b32")?;
            (to, a, b, Some(c))
        }
        _ => return Err(super::count_error(i, if bits == 16 { "3" } else { "4" })),
    };
    let mut cut = |operand: &Operand<'a>| {
        let held = d.hold(operand, Ty::S32)?;
        d.clamped(Ty::S32, held, bounds(bits, signed))
    };
    let (a, b) = (cut(a)?, cut(b)?);
    let bits = i64::from(bits);
    let both = d.insert(a, b, bits, 32 - bits)?;
    let Some(c) = c else { return d.deliver(to, Ty::U32, both) };
    let c = d.hold(c, Ty::U32)?;
    let word = d.insert(c, both, 2 * bits, 32 - 2 * bits)?;
    d.deliver(to, Ty::U32, word)
}
