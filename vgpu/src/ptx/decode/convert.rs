//! Moves, conversions of numbers and of addresses.

use super::arith::{PLAIN, is_float, is_half};
use super::{Decoder, Modifiers, Result, exactly, is_sink, packed};
use crate::ir::{Cmp, Mode, Op, Round, Slot, Space, Special, Ty};
use crate::ptx::ast::{Instruction, Operand, Value};
use crate::ptx::scope::Symbol;

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    match i.opcode {
        "mov" => mov(d, i, m),
        "cvt" => cvt(d, i, m),
        "cvta" => cvta(d, i, m),
        _ => isspacep(d, i, m),
    }
}

fn mov<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    if m.take("pred") {
        return mov_predicate(d, i);
    }
    let ty = d.need_type(i, m)?;
    if ty.bytes() < 2 {
        return d.unknown("`mov` of this type");
    }
    let [to, from] = exactly(i)?;
    match (d.vector(to)?, d.vector(from)?) {
        (Some(parts), _) => unpack(d, &parts, from, ty),
        (_, Some(parts)) => pack(d, to, &parts, ty),
        _ => {
            if let Some(what) = read_special(d, from, ty)? {
                let to = d.dest(to, ty)?;
                return d.emit(Op::Special { what, d: to });
            }
            let a = d.source(from, ty)?;
            let to = d.dest(to, ty)?;
            d.emit(Op::Mov { wide: ty.is_wide(), d: to, a })
        }
    }
}

fn read_special<'a>(d: &mut Decoder<'_, 'a>, from: &Operand<'a>, ty: Ty) -> Result<Option<Special>> {
    Ok(match from {
        Operand::Value(Value::Member(name, member)) => d.special_of(name, Some(member), ty.bytes()),
        Operand::Value(Value::Name(name, 0)) if d.find(name)?.is_none() => d.special_of(name, None, ty.bytes()),
        _ => None,
    })
}

fn mov_predicate<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>) -> Result<()> {
    let [to, from] = exactly(i)?;
    if let Operand::Value(Value::Int(value)) = from {
        let to = d.pred_dest_of(to)?;
        return d.emit(Op::PredConst { d: to, value: *value != 0 });
    }
    if let Operand::Value(Value::Name("%is_explicit_cluster", 0)) = from {
        return is_explicit_cluster(d, to);
    }
    let a = d.condition(from)?;
    let to = d.pred_dest_of(to)?;
    d.emit(Op::PredMov { d: to, a })
}

/// The only special register that is a predicate: read as a number, and compared with 0.
fn is_explicit_cluster<'a>(d: &mut Decoder<'_, 'a>, to: &Operand<'a>) -> Result<()> {
    let number = d.temporary(4);
    let slot = d.write(number);
    d.emit(Op::Special { what: Special::IsExplicitCluster, d: slot })?;
    let (a, b) = (d.read(number), d.constant(0, 4)?);
    let p = d.pred_dest_of(to)?;
    d.emit(Op::Setp { cmp: Cmp::Ne, ty: Ty::U32, ftz: false, combine: None, p, q: None, a, b })
}

/// The type of each of `count` parts of `ty`.
fn part(d: &Decoder<'_, '_>, ty: Ty, count: usize) -> Result<Ty> {
    match (ty.bytes(), count) {
        (2, 2) => Ok(Ty::U8),
        (4, 2) | (8, 4) => Ok(Ty::U16),
        (8, 2) => Ok(Ty::U32),
        (bytes, _) => d.unknown(format!("`mov` between {bytes} bytes and {count} parts")),
    }
}

fn pack<'a>(d: &mut Decoder<'_, 'a>, to: &Operand<'a>, parts: &[Value<'a>], ty: Ty) -> Result<()> {
    let part = part(d, ty, parts.len())?;
    let mut slots = Vec::with_capacity(parts.len());
    for &value in parts {
        slots.push(d.source_value(value, part.bytes())?);
    }
    let to = d.dest(to, ty)?;
    match (slots.as_slice(), part) {
        (&[low, high], Ty::U8) => d.emit(Op::Pack8x2 { d: to, parts: [low, high] }),
        (&[low, high], Ty::U16) => d.emit(Op::Pack16x2 { d: to, parts: [low, high] }),
        (&[low, high], _) => d.emit(Op::Pack32x2 { d: to, parts: [low, high] }),
        (&[a, b, c, e], _) => d.emit(Op::Pack16x4 { d: to, parts: [a, b, c, e] }),
        _ => d.syntax("a vector of `mov` has 2 or 4 parts"),
    }
}

fn unpack<'a>(d: &mut Decoder<'_, 'a>, parts: &[Value<'a>], from: &Operand<'a>, ty: Ty) -> Result<()> {
    let part = part(d, ty, parts.len())?;
    let a = d.source(from, ty)?;
    let mut slots: Vec<Option<Slot>> = Vec::with_capacity(parts.len());
    for &value in parts {
        slots.push(d.dest_or_sink(&Operand::Value(value), part)?);
    }
    match (slots.as_slice(), part) {
        (&[low, high], Ty::U8) => d.emit(Op::Unpack8x2 { d: [low, high], a }),
        (&[low, high], Ty::U16) => d.emit(Op::Unpack16x2 { d: [low, high], a }),
        (&[low, high], _) => d.emit(Op::Unpack32x2 { d: [low, high], a }),
        (&[x, y, z, w], _) => d.emit(Op::Unpack16x4 { d: [x, y, z, w], a }),
        _ => d.syntax("a vector of `mov` has 2 or 4 parts"),
    }
}

const ROUNDS: [(&str, Round); 9] = [
    ("rn", Round::Rn),
    ("rz", Round::Rz),
    ("rm", Round::Rm),
    ("rp", Round::Rp),
    ("rna", Round::Rna),
    ("rni", Round::Rni),
    ("rzi", Round::Rzi),
    ("rmi", Round::Rmi),
    ("rpi", Round::Rpi),
];

fn is_eight_bit_float(ty: Ty) -> bool {
    matches!(ty, Ty::E4m3 | Ty::E5m2 | Ty::E4m3x2 | Ty::E5m2x2)
}

fn is_pair(ty: Ty) -> bool {
    matches!(ty, Ty::F16x2 | Ty::Bf16x2 | Ty::E4m3x2 | Ty::E5m2x2)
}

fn is_number(ty: Ty) -> bool {
    !is_pair(ty) && !is_eight_bit_float(ty) && ty != Ty::Tf32
}

fn cvt<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    if m.take("pack") {
        return packed::pack(d, i, m);
    }
    let round = m.choose(&ROUNDS);
    let mut mode = Mode { round: round.unwrap_or(Round::Rn), ..PLAIN };
    let satfinite = m.take("satfinite");
    mode.saturate = m.take("sat");
    mode.ftz = m.take("ftz");
    mode.relu = m.take("relu");
    let (to, from) = (d.need_type(i, m)?, d.need_type(i, m)?);
    if satfinite {
        // The 8-bit floats have no other way; elsewhere it is another instruction.
        if !is_eight_bit_float(to) {
            return d.unknown("`cvt.satfinite` to this type");
        }
        mode.saturate = true;
    } else if is_eight_bit_float(to) {
        return d.unknown("`cvt` to 8-bit floats without `.satfinite`");
    }
    check_round(d, to, from, round)?;
    if mode.ftz && from != Ty::F32 && to != Ty::F32 {
        return d.syntax("`.ftz` is of float32");
    }
    if mode.relu && !(is_half(to) || is_eight_bit_float(to) || to == Ty::Tf32) {
        return d.syntax("`.relu` to this type");
    }
    match (to, from) {
        (Ty::F16x2 | Ty::Bf16x2 | Ty::E4m3x2 | Ty::E5m2x2, Ty::F32) => {
            let [result, a, b] = exactly(i)?;
            let (a, b) = (d.source(a, Ty::F32)?, d.source(b, Ty::F32)?);
            let result = d.dest(result, to)?;
            d.emit(Op::CvtPack { to, mode, d: result, a, b })
        }
        (Ty::F16x2, Ty::E4m3x2 | Ty::E5m2x2) | (Ty::E4m3x2 | Ty::E5m2x2, Ty::F16x2) | (Ty::Tf32, Ty::F32) => {
            let [result, a] = exactly(i)?;
            let a = d.source(a, from)?;
            let result = d.dest(result, to)?;
            d.emit(Op::Cvt { to, from, mode, d: result, a })
        }
        _ if is_number(to) && is_number(from) => {
            let [result, a] = exactly(i)?;
            let a = d.value(a)?;
            let a = if is_float(from) { d.source_value(a, from.bytes())? } else { d.wide_source(a, from)? };
            let result = d.value(result)?;
            let result =
                if is_float(to) { d.dest(&Operand::Value(result), to)? } else { d.wide_dest(result, to, false)? };
            d.emit(Op::Cvt { to, from, mode, d: result, a })
        }
        _ => d.unknown("`cvt` between these types"),
    }
}

/// Where the language demands a rounding, or forbids it.
fn check_round(d: &Decoder<'_, '_>, to: Ty, from: Ty, round: Option<Round>) -> Result<()> {
    let integral = matches!(round, Some(Round::Rni | Round::Rzi | Round::Rmi | Round::Rpi));
    let fits = match (is_float(from) || is_eight_bit_float(from), is_float(to) || is_eight_bit_float(to)) {
        (false, false) if to != Ty::Tf32 => round.is_none(),
        (true, false) if to != Ty::Tf32 => integral,
        (false, _) => round.is_some() && !integral,
        (true, _) if to == from => round.is_none() || integral,
        (true, _) => !integral,
    };
    if fits { Ok(()) } else { d.syntax("`cvt` between these types with this rounding") }
}

pub fn space(m: &mut Modifiers<'_>) -> Option<Space> {
    m.choose(&[
        ("global", Space::Global),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("shared::cluster", Space::SharedCluster),
        ("local", Space::Local),
        ("const", Space::Const),
        ("param", Space::Param),
        ("param::entry", Space::Param),
        ("param::func", Space::Param),
    ])
}

fn cvta<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let to_generic = !m.take("to");
    let space = match space(m) {
        // A function put in place has its parameters in local memory.
        Some(Space::Param) if d.frames.len() > 1 => Space::Local,
        Some(space) => space,
        None => return d.unknown("`cvta` without a space known here"),
    };
    d.need(m.take("u64"), i, "u64")?;
    let [to, a] = exactly(i)?;
    let a = d.source(a, Ty::U64)?;
    let to = d.dest(to, Ty::U64)?;
    d.emit(Op::Cvta { space, to_generic, d: to, a })
}

fn isspacep<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let Some(space) = space(m) else {
        return d.unknown("`isspacep` without a space known here");
    };
    let [p, a] = exactly(i)?;
    if let Operand::Value(Value::Name(name, 0)) = a
        && matches!(d.find(name)?, Some(Symbol::Register(_, 4)))
    {
        return d.syntax("addresses have 64 bits");
    }
    if is_sink(p) {
        return d.syntax("expected a predicate");
    }
    let a = d.source(a, Ty::U64)?;
    let p = d.pred_dest_of(p)?;
    d.emit(Op::Isspacep { space, p, a })
}
