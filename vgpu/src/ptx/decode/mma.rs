//! Tensor cores: matrices from and to shared memory, and their product. `wgmma` is in a file of its own.

use super::{Decoder, Modifiers, Result, exactly};
use crate::ir::{Accumulator, Address, Mma, MmaKind, Op, Slot, Space, Ty};
use crate::ptx::ast::{Instruction, Operand, Value};

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("sync"), i, "sync")?;
    d.need(m.take("aligned"), i, "aligned")?;
    match i.opcode {
        "mma" => mma(d, i, m),
        "movmatrix" => transpose_in_registers(d, i, m),
        _ => matrices(d, i, m),
    }
}

fn parts<'a>(d: &Decoder<'_, 'a>, operand: &Operand<'a>, count: usize) -> Result<Vec<Value<'a>>> {
    match operand {
        Operand::Vector(values) if values.len() == count => Ok(values.clone()),
        Operand::Value(value) if count == 1 => Ok(vec![*value]),
        _ => d.syntax(format!("expected {count} register(s)")),
    }
}

fn sources<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, count: usize) -> Result<Vec<Slot>> {
    let mut slots = Vec::with_capacity(count);
    for value in parts(d, operand, count)? {
        slots.push(d.source_value(value, 4)?);
    }
    Ok(slots)
}

fn dests<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, count: usize) -> Result<Box<[Slot]>> {
    let mut slots = Vec::with_capacity(count);
    for value in parts(d, operand, count)? {
        slots.push(d.dest(&Operand::Value(value), Ty::U32)?);
    }
    Ok(slots.into_boxed_slice())
}

/// `ldmatrix` and `stmatrix`.
fn matrices<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("m8n8"), i, "m8n8")?;
    let Some(count) = m.choose(&[("x1", 1), ("x2", 2), ("x4", 4)]) else {
        return d.unknown("a number of matrices other than `.x1`, `.x2`, `.x4`");
    };
    let transpose = m.take("trans");
    let generic = !m.take("shared") && !m.take("shared::cta");
    d.need(m.take("b16"), i, "b16")?;
    let [first, second] = exactly(i)?;
    if i.opcode == "ldmatrix" {
        let a = shared_address(d, second, generic)?;
        let to = dests(d, first, count)?;
        return d.emit(Op::Ldmatrix { transpose, d: to, a });
    }
    let a = shared_address(d, first, generic)?;
    let b = sources(d, second, count)?.into_boxed_slice();
    d.emit(Op::Stmatrix { transpose, a, b })
}

/// An address of shared memory; a generic one is converted first, which checks that it lies there.
fn shared_address<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, generic: bool) -> Result<Address> {
    if !generic {
        return d.address(operand, Space::Shared).map(|(a, _)| a);
    }
    d.converted_address(operand, Space::Shared)
}

fn transpose_in_registers<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    for name in ["m8n8", "trans", "b16"] {
        d.need(m.take(name), i, name)?;
    }
    let [to, a] = exactly(i)?;
    let a = d.source(a, Ty::U32)?;
    let to = d.dest(to, Ty::U32)?;
    d.emit(Op::Movmatrix { d: to, a })
}

/// A product's shape: its kind, registers of a and b, and whether both have zeros behind that the kind knows and the
/// instruction does not.
struct Shape {
    kind: MmaKind,
    a: usize,
    b: usize,
    padded: bool,
}

fn shape(k: &str, a: Ty, b: Ty) -> Option<Shape> {
    let plain = |kind, a, b| Some(Shape { kind, a, b, padded: false });
    match (k, a, b) {
        ("m16n8k16", Ty::F16, Ty::F16) => plain(MmaKind::F16K16, 4, 2),
        ("m16n8k8", Ty::F16, Ty::F16) => plain(MmaKind::F16K8, 2, 1),
        ("m16n8k16", Ty::Bf16, Ty::Bf16) => plain(MmaKind::Bf16K16, 4, 2),
        ("m16n8k8", Ty::Bf16, Ty::Bf16) => plain(MmaKind::Bf16K8, 2, 1),
        ("m16n8k8", Ty::Tf32, Ty::Tf32) => plain(MmaKind::Tf32K8, 4, 2),
        ("m16n8k4", Ty::Tf32, Ty::Tf32) => plain(MmaKind::Tf32K4, 2, 1),
        ("m16n8k32", Ty::S8, Ty::S8) => plain(MmaKind::S8K32, 4, 2),
        // The first half of k = 32: its registers are the first ones, and integers do not mind zeros.
        ("m16n8k16", Ty::S8, Ty::S8) => Some(Shape { kind: MmaKind::S8K32, a: 2, b: 1, padded: true }),
        ("m16n8k32", Ty::E4m3, Ty::E4m3) => plain(MmaKind::E4m3K32, 4, 2),
        ("m16n8k32", Ty::E5m2, Ty::E5m2) => plain(MmaKind::E5m2K32, 4, 2),
        _ => None,
    }
}

fn accumulator(kind: MmaKind, ty: Ty) -> Option<Accumulator> {
    match (kind, ty) {
        (MmaKind::S8K32, Ty::S32) => Some(Accumulator::S32),
        (MmaKind::S8K32, _) => None,
        (_, Ty::F32) => Some(Accumulator::F32),
        (MmaKind::F16K16 | MmaKind::F16K8, Ty::F16) => Some(Accumulator::F16),
        _ => None,
    }
}

fn mma<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let Some(k) = m.take_if(|name| name.starts_with("m16n8k")) else {
        return d.unknown("`mma` of this shape");
    };
    d.need(m.take("row"), i, "row")?;
    d.need(m.take("col"), i, "col")?;
    let types = [d.need_type(i, m)?, d.need_type(i, m)?, d.need_type(i, m)?, d.need_type(i, m)?];
    let [result, a, b, c] = types;
    let Some(shape) = shape(k, a, b) else {
        return d.unknown("`mma` of this shape and these types");
    };
    let Some(acc) = accumulator(shape.kind, result).filter(|_| result == c) else {
        return d.unknown("`mma` with these types of result and addend");
    };
    let registers = if acc == Accumulator::F16 { 2 } else { 4 };
    let [to, a, b, c] = exactly(i)?;
    let mut a = sources(d, a, shape.a)?;
    let mut b = sources(d, b, shape.b)?;
    if shape.padded {
        let zero = d.constant(0, 4)?;
        a.resize(4, zero);
        b.resize(2, zero);
    }
    let c = sources(d, c, registers)?.into_boxed_slice();
    let to = dests(d, to, registers)?;
    let mma = Mma { kind: shape.kind, acc, d: to, a: a.into_boxed_slice(), b: b.into_boxed_slice(), c };
    d.emit(Op::Mma(Box::new(mma)))
}
