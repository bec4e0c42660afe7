//! Arithmetic on integers and floats.

use super::{Decoder, Modifiers, Result, exactly, packed};
use crate::ir::{BinOp, Mode, Op, Round, TernOp, Ty, UnOp};
use crate::ptx::ast::Instruction;

/// No modifiers.
pub const PLAIN: Mode = Mode { round: Round::Rn, ftz: false, saturate: false, relu: false, nan: false };

pub fn is_float(ty: Ty) -> bool {
    is_half(ty) || matches!(ty, Ty::F32 | Ty::F64)
}

pub fn is_half(ty: Ty) -> bool {
    matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2)
}

pub fn is_integer(ty: Ty) -> bool {
    matches!(ty, Ty::U16 | Ty::U32 | Ty::U64 | Ty::S16 | Ty::S32 | Ty::S64)
}

/// The type of twice the size.
fn wide(ty: Ty) -> Option<Ty> {
    Some(match ty {
        Ty::U16 => Ty::U32,
        Ty::S16 => Ty::S32,
        Ty::U32 => Ty::U64,
        Ty::S32 => Ty::S64,
        _ => return None,
    })
}

/// Takes the modifiers of float arithmetic of `ty`; those that the type cannot have stay and are refused.
pub fn float_mode(m: &mut Modifiers<'_>, ty: Ty) -> Mode {
    let mut mode = PLAIN;
    match ty {
        Ty::F32 | Ty::F64 => {
            mode.round = m
                .choose(&[("rn", Round::Rn), ("rz", Round::Rz), ("rm", Round::Rm), ("rp", Round::Rp)])
                .unwrap_or(Round::Rn);
        }
        _ if is_half(ty) => {
            m.take("rn");
        }
        _ => {}
    }
    if matches!(ty, Ty::F32 | Ty::F16 | Ty::F16x2) {
        mode.ftz = m.take("ftz");
        mode.saturate = m.take("sat");
    }
    mode
}

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    if i.opcode == "dp4a" {
        return dp4a(d, i, m);
    }
    if i.opcode == "dp2a" {
        return packed::dot2(d, i, m);
    }
    if let Some(done) = packed::pairs(d, i, m) {
        return done;
    }
    let ty = d.need_type(i, m)?;
    if !is_float(ty) && !is_integer(ty) {
        return d.unknown(format!("`{}` of this type", i.opcode));
    }
    match i.opcode {
        "add" | "sub" if m.take("cc") => add_carry(d, i, ty, false, true),
        "addc" | "subc" => {
            let carry_out = m.take("cc");
            add_carry(d, i, ty, true, carry_out)
        }
        "add" | "sub" => {
            let is_add = i.opcode == "add";
            // Integers saturate only as s32.
            if ty == Ty::S32 && m.take("sat") {
                return binary(d, i, if is_add { BinOp::AddSat } else { BinOp::SubSat }, ty, PLAIN);
            }
            binary(d, i, if is_add { BinOp::Add } else { BinOp::Sub }, ty, float_mode(m, ty))
        }
        "mul" => mul(d, i, m, ty),
        "mad" if is_integer(ty) => mad(d, i, m, ty),
        "madc" => {
            let high = !m.take("lo") && m.take("hi");
            let carry_out = m.take("cc");
            mad_carry(d, i, ty, high, true, carry_out)
        }
        "mul24" | "mad24" if m.take("hi") => packed::high24(d, i, m, ty),
        "mul24" => {
            d.need(m.take("lo"), i, "lo")?;
            binary(d, i, BinOp::Mul24Lo, ty, PLAIN)
        }
        "mad24" => {
            d.need(m.take("lo"), i, "lo")?;
            ternary(d, i, TernOp::Mad24Lo, ty, PLAIN)
        }
        "mad" | "fma" => fma(d, i, m, ty),
        "div" => div(d, i, m, ty),
        "rem" => integers_only(d, i, ty).and_then(|()| binary(d, i, BinOp::Rem, ty, PLAIN)),
        "min" | "max" => min_max(d, i, m, ty),
        "copysign" => binary(d, i, BinOp::CopySign, ty, PLAIN),
        "sad" => integers_only(d, i, ty).and_then(|()| ternary(d, i, TernOp::Sad, ty, PLAIN)),
        _ => unary(d, i, m, ty),
    }
}

fn integers_only(d: &Decoder<'_, '_>, i: &Instruction<'_>, ty: Ty) -> Result<()> {
    if is_integer(ty) { Ok(()) } else { d.unknown(format!("`{}` of this type", i.opcode)) }
}

fn binary<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, op: BinOp, ty: Ty, mode: Mode) -> Result<()> {
    let [to, a, b] = exactly(i)?;
    let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Bin { op, ty, mode, d: to, a, b })
}

fn ternary<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, op: TernOp, ty: Ty, mode: Mode) -> Result<()> {
    let [to, a, b, c] = exactly(i)?;
    let (a, b, c) = (d.source(a, ty)?, d.source(b, ty)?, d.source(c, ty)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Tern { op, ty, mode, d: to, a, b, c })
}

fn add_carry<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, ty: Ty, carry_in: bool, carry_out: bool) -> Result<()> {
    if !matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64) {
        return d.unknown("carry of this type");
    }
    let subtract = i.opcode.starts_with("sub");
    let [to, a, b] = exactly(i)?;
    let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::AddCarry { ty, subtract, carry_in, carry_out, d: to, a, b })
}

fn mad_carry<'a>(
    d: &mut Decoder<'_, 'a>,
    i: &Instruction<'a>,
    ty: Ty,
    high: bool,
    carry_in: bool,
    carry_out: bool,
) -> Result<()> {
    if !matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64) {
        return d.unknown("carry of this type");
    }
    let [to, a, b, c] = exactly(i)?;
    let (a, b, c) = (d.source(a, ty)?, d.source(b, ty)?, d.source(c, ty)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::MadCarry { ty, high, carry_in, carry_out, d: to, a, b, c })
}

fn mul<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    if is_float(ty) {
        let mode = float_mode(m, ty);
        return binary(d, i, BinOp::MulLo, ty, mode);
    }
    match m.choose(&[("lo", BinOp::MulLo), ("hi", BinOp::MulHi), ("wide", BinOp::MulWide)]) {
        Some(BinOp::MulWide) => {
            let Some(twice) = wide(ty) else {
                return d.unknown("`mul.wide` of this type");
            };
            let [to, a, b] = exactly(i)?;
            let (a, b) = (d.source(a, ty)?, d.source(b, ty)?);
            let to = d.dest(to, twice)?;
            d.emit(Op::Bin { op: BinOp::MulWide, ty, mode: PLAIN, d: to, a, b })
        }
        Some(op) => binary(d, i, op, ty, PLAIN),
        None => d.syntax("`mul` of integers needs `.lo`, `.hi` or `.wide`"),
    }
}

fn mad<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    match m.choose(&[("lo", TernOp::MadLo), ("hi", TernOp::MadHi), ("wide", TernOp::MadWide)]) {
        Some(TernOp::MadWide) => {
            let Some(twice) = wide(ty) else {
                return d.unknown("`mad.wide` of this type");
            };
            let [to, a, b, c] = exactly(i)?;
            let (a, b, c) = (d.source(a, ty)?, d.source(b, ty)?, d.source(c, twice)?);
            let to = d.dest(to, twice)?;
            d.emit(Op::Tern { op: TernOp::MadWide, ty, mode: PLAIN, d: to, a, b, c })
        }
        Some(op) if m.take("cc") => mad_carry(d, i, ty, op == TernOp::MadHi, false, true),
        Some(TernOp::MadHi) if ty == Ty::S32 && m.take("sat") => ternary(d, i, TernOp::MadHiSat, ty, PLAIN),
        Some(op) => ternary(d, i, op, ty, PLAIN),
        None => d.syntax("`mad` of integers needs `.lo`, `.hi` or `.wide`"),
    }
}

fn fma<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    if !is_float(ty) {
        return d.syntax("`fma` is of floats");
    }
    let mut mode = float_mode(m, ty);
    mode.relu = is_half(ty) && m.take("relu");
    ternary(d, i, TernOp::Fma, ty, mode)
}

fn div<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    let mut op = BinOp::Div;
    let mut mode = PLAIN;
    if matches!(ty, Ty::F32 | Ty::F64) {
        if ty == Ty::F32 {
            op = m.choose(&[("approx", BinOp::DivApprox), ("full", BinOp::DivFull)]).unwrap_or(BinOp::Div);
        }
        mode = float_mode(m, ty);
        mode.saturate = false;
    } else if is_half(ty) {
        return d.unknown("`div` of this type");
    }
    binary(d, i, op, ty, mode)
}

fn min_max<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    let op = if i.opcode == "min" { BinOp::Min } else { BinOp::Max };
    let mut mode = PLAIN;
    if is_float(ty) {
        mode.ftz = matches!(ty, Ty::F32 | Ty::F16 | Ty::F16x2) && m.take("ftz");
        mode.nan = ty != Ty::F64 && m.take("NaN");
    }
    binary(d, i, op, ty, mode)
}

/// Types that an operation of one source takes.
fn takes(op: UnOp, ty: Ty) -> bool {
    match op {
        UnOp::Neg | UnOp::Abs => is_float(ty) || matches!(ty, Ty::S16 | Ty::S32 | Ty::S64),
        UnOp::Sqrt | UnOp::Rcp => matches!(ty, Ty::F32 | Ty::F64),
        UnOp::RcpApprox | UnOp::RsqrtApprox => matches!(ty, Ty::F32 | Ty::F64),
        UnOp::Ex2Approx | UnOp::TanhApprox => ty == Ty::F32 || is_half(ty),
        _ => ty == Ty::F32,
    }
}

fn unary<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, ty: Ty) -> Result<()> {
    let approx = m.take("approx");
    let op = match (i.opcode, approx) {
        ("neg", false) => UnOp::Neg,
        ("abs", false) => UnOp::Abs,
        ("sqrt", false) => UnOp::Sqrt,
        ("sqrt", true) => UnOp::SqrtApprox,
        ("rcp", false) => UnOp::Rcp,
        ("rcp", true) => UnOp::RcpApprox,
        ("rsqrt", true) => UnOp::RsqrtApprox,
        ("sin", true) => UnOp::SinApprox,
        ("cos", true) => UnOp::CosApprox,
        ("lg2", true) => UnOp::Lg2Approx,
        ("ex2", true) => UnOp::Ex2Approx,
        ("tanh", true) => UnOp::TanhApprox,
        _ => return d.unknown(format!("this form of `{}`", i.opcode)),
    };
    if !takes(op, ty) {
        return d.unknown(format!("`{}` of this type", i.opcode));
    }
    let mut mode = PLAIN;
    if matches!(op, UnOp::Sqrt | UnOp::Rcp) {
        mode = float_mode(m, ty);
        mode.saturate = false;
    } else if is_float(ty) {
        // `rcp.approx.ftz.f64` too, and `ex2.approx.ftz.bf16`, which have no other form.
        mode.ftz = m.take("ftz");
    }
    let [to, a] = exactly(i)?;
    let a = d.source(a, ty)?;
    let to = d.dest(to, ty)?;
    d.emit(Op::Un { op, ty, mode, d: to, a })
}

fn dp4a<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let types = (d.need_type(i, m)?, d.need_type(i, m)?);
    let op = match types {
        (Ty::S32, Ty::S32) => TernOp::Dp4aSS,
        (Ty::S32, Ty::U32) => TernOp::Dp4aSU,
        (Ty::U32, Ty::S32) => TernOp::Dp4aUS,
        (Ty::U32, Ty::U32) => TernOp::Dp4aUU,
        _ => return d.unknown("`dp4a` of these types"),
    };
    ternary(d, i, op, Ty::U32, PLAIN)
}
