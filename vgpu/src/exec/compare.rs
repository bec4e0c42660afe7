//! Comparisons: predicates from values, values from comparisons, selection.

use super::float::flush;
use super::half::{self, Format};
use super::registers::{Done, Raw, Registers, Value};
use crate::fault::BadAccess;
use crate::ir::{Cmp, Condition, Logic, Slot, Ty};

pub(super) type Bits = Result<u32, Box<BadAccess>>;

/// Bit l of the result: the comparison in lane l.
#[inline(never)]
fn lanes<T: Value>(r: &Registers<'_>, active: u32, a: Slot, b: Slot, f: impl Fn(T, T) -> bool) -> Bits {
    T::Raw::check(r, a, active)?;
    T::Raw::check(r, b, active)?;
    let (x, y) = (T::Raw::row(r, a), T::Raw::row(r, b));
    // A tree of or-s over shifted bits, which vectorises; a running fold would not.
    let mut bits = [0u32; 32];
    for l in 0..32 {
        bits[l] = (f(T::read(x[l]), T::read(y[l])) as u32) << l;
    }
    Ok(bits.iter().fold(0, |all, bit| all | bit))
}

fn ordered<T: Value + PartialOrd>(r: &Registers<'_>, active: u32, cmp: Cmp, a: Slot, b: Slot) -> Bits {
    match cmp {
        Cmp::Eq | Cmp::Equ => lanes(r, active, a, b, |a: T, b| a == b),
        Cmp::Ne | Cmp::Neu => lanes(r, active, a, b, |a: T, b| a != b),
        Cmp::Lt | Cmp::Ltu => lanes(r, active, a, b, |a: T, b| a < b),
        Cmp::Le | Cmp::Leu => lanes(r, active, a, b, |a: T, b| a <= b),
        Cmp::Gt | Cmp::Gtu => lanes(r, active, a, b, |a: T, b| a > b),
        Cmp::Ge | Cmp::Geu => lanes(r, active, a, b, |a: T, b| a >= b),
        Cmp::Num => lanes(r, active, a, b, |_: T, _| true),
        Cmp::Nan => lanes(r, active, a, b, |_: T, _| false),
    }
}

/// Of floats; `f` prepares an operand.
fn floats<T: Value + PartialOrd>(
    r: &Registers<'_>,
    active: u32,
    cmp: Cmp,
    a: Slot,
    b: Slot,
    f: impl Fn(T) -> T + Copy,
) -> Bits {
    match cmp {
        Cmp::Eq => lanes(r, active, a, b, move |a: T, b: T| f(a) == f(b)),
        Cmp::Ne => lanes(r, active, a, b, move |a: T, b: T| f(a) < f(b) || f(a) > f(b)),
        Cmp::Lt => lanes(r, active, a, b, move |a: T, b: T| f(a) < f(b)),
        Cmp::Le => lanes(r, active, a, b, move |a: T, b: T| f(a) <= f(b)),
        Cmp::Gt => lanes(r, active, a, b, move |a: T, b: T| f(a) > f(b)),
        Cmp::Ge => lanes(r, active, a, b, move |a: T, b: T| f(a) >= f(b)),
        // Unordered: true unless the opposite holds.
        Cmp::Equ => Ok(!floats(r, active, Cmp::Ne, a, b, f)?),
        Cmp::Neu => Ok(!floats(r, active, Cmp::Eq, a, b, f)?),
        Cmp::Ltu => Ok(!floats(r, active, Cmp::Ge, a, b, f)?),
        Cmp::Leu => Ok(!floats(r, active, Cmp::Gt, a, b, f)?),
        Cmp::Gtu => Ok(!floats(r, active, Cmp::Le, a, b, f)?),
        Cmp::Geu => Ok(!floats(r, active, Cmp::Lt, a, b, f)?),
        Cmp::Num => lanes(r, active, a, b, |a: T, b: T| a.partial_cmp(&b).is_some()),
        Cmp::Nan => lanes(r, active, a, b, |a: T, b: T| a.partial_cmp(&b).is_none()),
    }
}

/// One comparison a lane.
pub(super) fn compare(r: &Registers<'_>, active: u32, cmp: Cmp, ty: Ty, ftz: bool, a: Slot, b: Slot) -> Bits {
    match ty {
        Ty::U8 | Ty::U16 => ordered::<u16>(r, active, cmp, a, b),
        Ty::S8 | Ty::S16 => ordered::<i16>(r, active, cmp, a, b),
        Ty::S32 => ordered::<i32>(r, active, cmp, a, b),
        Ty::U64 => ordered::<u64>(r, active, cmp, a, b),
        Ty::S64 => ordered::<i64>(r, active, cmp, a, b),
        Ty::F32 if ftz => floats(r, active, cmp, a, b, flush),
        Ty::F32 => floats(r, active, cmp, a, b, |x: f32| x),
        Ty::F64 => floats(r, active, cmp, a, b, |x: f64| x),
        Ty::F16 | Ty::Bf16 | Ty::F16x2 | Ty::Bf16x2 => Ok(compare_halves(r, active, cmp, ty, ftz, a, b)?.0),
        _ => ordered::<u32>(r, active, cmp, a, b),
    }
}

/// One comparison for each half: the low ones, the high ones.
pub(super) fn compare_halves(
    r: &Registers<'_>,
    active: u32,
    cmp: Cmp,
    ty: Ty,
    ftz: bool,
    a: Slot,
    b: Slot,
) -> Result<(u32, u32), Box<BadAccess>> {
    r.check(a, active)?;
    r.check(b, active)?;
    let format = Format::of(ty).map_or(Format::F16, |(format, _)| format);
    let (x, y) = (half::to_f32(format, r.narrow(a)), half::to_f32(format, r.narrow(b)));
    let small = if format == Format::F16 { 2f32.powi(-14) } else { f32::MIN_POSITIVE };
    let prepare = |x: f32| if ftz && x.abs() < small { 0.0 } else { x };
    let (mut low, mut high) = (0, 0);
    for l in 0..32 {
        low |= (holds(cmp, prepare(x[2 * l]), prepare(y[2 * l])) as u32) << l;
        high |= (holds(cmp, prepare(x[2 * l + 1]), prepare(y[2 * l + 1])) as u32) << l;
    }
    Ok((low, high))
}

fn holds(cmp: Cmp, a: f32, b: f32) -> bool {
    let nan = a.is_nan() || b.is_nan();
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => !nan && a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Equ => nan || a == b,
        Cmp::Neu => a != b,
        Cmp::Ltu => nan || a < b,
        Cmp::Leu => nan || a <= b,
        Cmp::Gtu => nan || a > b,
        Cmp::Geu => nan || a >= b,
        Cmp::Num => !nan,
        Cmp::Nan => nan,
    }
}

pub(super) fn logic(op: Logic, a: u32, b: u32) -> u32 {
    match op {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

/// The comparison combined with a predicate, and its negation combined alike (the second destination).
pub(super) fn combined(
    r: &Registers<'_>,
    active: u32,
    bits: u32,
    with: Option<(Logic, Condition)>,
) -> Result<(u32, u32), Box<BadAccess>> {
    match with {
        None => Ok((bits, !bits)),
        Some((op, condition)) => {
            let other = r.condition(condition, active)?;
            Ok((logic(op, bits, other), logic(op, !bits, other)))
        }
    }
}

/// `set`: a value in each lane where `bits` has a one.
pub(super) fn spread(r: &mut Registers<'_>, active: u32, d: Slot, bits: u32, one: u32) -> Done {
    let mut out = [0; 32];
    for l in 0..32 {
        out[l] = if bits >> l & 1 == 1 { one } else { 0 };
    }
    r.put(d, active, &out);
    Ok(())
}

/// `set` of pairs.
pub(super) fn spread_halves(r: &mut Registers<'_>, active: u32, d: Slot, bits: (u32, u32), one: u32) -> Done {
    let mut out = [0; 32];
    for l in 0..32 {
        let low = if bits.0 >> l & 1 == 1 { one } else { 0 };
        let high = if bits.1 >> l & 1 == 1 { one } else { 0 };
        out[l] = low | high << 16;
    }
    r.put(d, active, &out);
    Ok(())
}

/// d = p ? a : b: undefined where the chosen operand is.
#[inline(never)]
pub(super) fn select(r: &mut Registers<'_>, active: u32, wide: bool, [d, a, b]: [Slot; 3], p: Condition) -> Done {
    let chosen = r.condition(p, active)?;
    let other = active & !chosen;
    let pick = super::registers::halves(chosen);
    if wide {
        let (x, y) = (r.wide(a), r.wide(b));
        let mut out = [0; 32];
        for l in 0..32 {
            out[l] = if chosen >> l & 1 == 1 { x[l] } else { y[l] };
        }
        let ([a0, a1], [b0, b1]) = (r.undefined_wide(a), r.undefined_wide(b));
        r.put_wide_partly(d, active, &out, [(a0 & pick) | (b0 & !pick), (a1 & pick) | (b1 & !pick)]);
        return Ok(());
    }
    if other == 0 {
        r.copy(d, a, active);
    } else if chosen == 0 {
        r.copy(d, b, active);
    } else {
        let (x, y) = (r.narrow(a), r.narrow(b));
        let mut out = [0; 32];
        for l in 0..32 {
            let keep = ((chosen >> l) & 1).wrapping_sub(1);
            out[l] = (y[l] & keep) | (x[l] & !keep);
        }
        let undef = (r.undefined(a) & pick) | (r.undefined(b) & !pick);
        r.put_partly(d, active, &out, undef);
    }
    Ok(())
}
