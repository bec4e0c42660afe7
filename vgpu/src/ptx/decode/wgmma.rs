//! `wgmma`: products of a warpgroup.

use super::bulk::group_number;
use super::{Decoder, Modifiers, Result, count_error, exactly};
use crate::ir::{Accumulator, Element, Op, Slot, Ty, Wgmma, WgmmaA};
use crate::ptx::ast::{Instruction, Operand, Value};

const ELEMENTS: [(&str, Element); 7] = [
    ("f16", Element::F16),
    ("bf16", Element::Bf16),
    ("tf32", Element::Tf32),
    ("e4m3", Element::E4m3),
    ("e5m2", Element::E5m2),
    ("s8", Element::S8),
    ("u8", Element::U8),
];

const RESULTS: [(&str, Accumulator); 3] =
    [("f32", Accumulator::F32), ("f16", Accumulator::F16), ("s32", Accumulator::S32)];

/// The n of integer products.
const INTEGER_N: [u16; 18] = [8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256];

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let Some(what) = m.take_if(|name| ["fence", "commit_group", "wait_group", "mma_async"].contains(&name)) else {
        return d.unknown("this operation of `wgmma`");
    };
    d.need(m.take("sync"), i, "sync")?;
    d.need(m.take("aligned"), i, "aligned")?;
    match what {
        "fence" => {
            let [] = exactly(i)?;
            d.emit(Op::WgmmaFence)
        }
        "commit_group" => {
            let [] = exactly(i)?;
            d.emit(Op::WgmmaCommit)
        }
        "wait_group" => {
            let pending = group_number(d, i)?;
            d.emit(Op::WgmmaWait { pending })
        }
        _ => product(d, i, m),
    }
}

/// n and k of `m64nNkK`.
fn shape(name: &str) -> Option<(u16, usize)> {
    let (n, k) = name.strip_prefix("m64n")?.split_once('k')?;
    Some((n.parse().ok()?, k.parse().ok()?))
}

/// The types of a product.
struct Types {
    n: u16,
    acc: Accumulator,
    a: Element,
    b: Element,
}

fn types(d: &Decoder<'_, '_>, m: &mut Modifiers<'_>) -> Result<Types> {
    let Some((n, k)) = m.take_if(|name| shape(name).is_some()).and_then(shape) else {
        return d.unknown("`wgmma` of this shape");
    };
    let (Some(acc), Some(a), Some(b)) = (m.choose(&RESULTS), m.choose(&ELEMENTS), m.choose(&ELEMENTS)) else {
        return d.unknown("`wgmma` of these types");
    };
    let is_integer = matches!(a, Element::S8 | Element::U8);
    let eight_bits = |x| matches!(x, Element::E4m3 | Element::E5m2);
    let fits = match acc {
        Accumulator::F32 => !is_integer && (a == b || eight_bits(a) && eight_bits(b)),
        Accumulator::F16 => a == Element::F16 && b == a || eight_bits(a) && eight_bits(b),
        Accumulator::S32 => is_integer && matches!(b, Element::S8 | Element::U8),
    };
    if !fits {
        return d.unknown("`wgmma` of these types");
    }
    let n_fits = if is_integer { INTEGER_N.contains(&n) } else { n.is_multiple_of(8) && (8..=256).contains(&n) };
    if !n_fits || k != a.depth() {
        return d.unknown("`wgmma` of this shape and these types");
    }
    Ok(Types { n, acc, a, b })
}

fn product<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let Types { n, acc, a: a_type, b: b_type } = types(d, m)?;
    let saturate = acc == Accumulator::S32 && m.take("satfinite");
    let [to, a, b, add, rest @ ..] = i.operands.as_slice() else {
        return Err(count_error(i, "4 to 8"));
    };
    let count = if acc == Accumulator::F16 { n / 4 } else { n / 2 };
    let mut registers = Vec::with_capacity(usize::from(count));
    for value in vector(d, to, usize::from(count))? {
        let (id, bytes) = d.register(value)?;
        if bytes != 4 {
            return d.syntax(format!("the destination has {bytes} bytes where 4 are expected"));
        }
        registers.push(id);
    }
    let mut distinct = registers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() != registers.len() {
        return d.syntax("`wgmma` has one register twice in its result");
    }
    let in_registers = matches!(a, Operand::Vector(_));
    let factors = if acc == Accumulator::S32 { [false; 2] } else { numbers(d, rest.get(..2), [-1, 1])? };
    let turned = match (a_type, rest.get(2..)) {
        (Element::F16 | Element::Bf16, Some([b])) if in_registers => [false, number(d, b, [1, 0])?],
        (Element::F16 | Element::Bf16, turned @ Some([_, _])) if !in_registers => numbers(d, turned, [1, 0])?,
        (Element::F16 | Element::Bf16, _) => return Err(count_error(i, if in_registers { "7" } else { "8" })),
        (_, None) if acc == Accumulator::S32 && rest.is_empty() => [false; 2],
        (_, Some([])) if acc != Accumulator::S32 => [false; 2],
        _ => return Err(count_error(i, if acc == Accumulator::S32 { "4" } else { "6" })),
    };
    let a = if in_registers {
        let values = vector(d, a, 4)?;
        let slots: Result<Vec<Slot>> = values.into_iter().map(|value| register_source(d, value)).collect();
        WgmmaA::Registers(slots?.into_boxed_slice())
    } else {
        WgmmaA::Shared(d.source(a, Ty::U64)?)
    };
    let b = d.source(b, Ty::U64)?;
    let add = d.condition(add)?;
    let c = registers.iter().map(|&id| d.read(id)).collect();
    let to = registers.iter().map(|&id| d.write(id)).collect();
    let [negate_a, negate_b] = factors;
    let [transpose_a, transpose_b] = turned;
    let wgmma =
        Wgmma { n, a_type, b_type, acc, d: to, c, a, b, add, negate_a, negate_b, transpose_a, transpose_b, saturate };
    d.emit(Op::Wgmma(Box::new(wgmma)))
}

/// A factor in a register: a constant could not be kept while the product runs.
fn register_source<'a>(d: &mut Decoder<'_, 'a>, value: Value<'a>) -> Result<Slot> {
    match d.register(value)? {
        (id, 4) => Ok(d.read(id)),
        (_, bytes) => d.syntax(format!("the factor has {bytes} bytes where 4 are expected")),
    }
}

fn vector<'a>(d: &Decoder<'_, 'a>, operand: &Operand<'a>, count: usize) -> Result<Vec<Value<'a>>> {
    match operand {
        Operand::Vector(values) if values.len() == count => Ok(values.clone()),
        _ => d.syntax(format!("expected {count} register(s) in braces")),
    }
}

/// Two numbers, each `yes` or `no`.
fn numbers(d: &Decoder<'_, '_>, operands: Option<&[Operand<'_>]>, choice: [i64; 2]) -> Result<[bool; 2]> {
    match operands {
        Some([a, b]) => Ok([number(d, a, choice)?, number(d, b, choice)?]),
        _ => d.syntax("`wgmma` of floats takes the factors 1 or -1 of a and b"),
    }
}

fn number(d: &Decoder<'_, '_>, operand: &Operand<'_>, [yes, no]: [i64; 2]) -> Result<bool> {
    match operand {
        Operand::Value(Value::Int(value)) if *value as i64 == yes => Ok(true),
        Operand::Value(Value::Int(value)) if *value as i64 == no => Ok(false),
        _ => d.syntax(format!("expected the number {yes} or {no}")),
    }
}
