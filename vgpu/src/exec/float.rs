//! f32 and f64 arithmetic.

use super::approx::{self, Jitter};
use super::registers::{Done, Registers, map1, map2, map3};
use super::round::{directed, to_f32, two_sum, zero_sign};
use crate::ir::{BinOp, Mode, Round, Slot, TernOp, UnOp};

/// A subnormal becomes a zero of its sign.
#[inline(always)]
pub(super) fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// To 0…1; NaN gives +0.
#[inline(always)]
pub(super) fn saturate(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

#[inline(always)]
fn wrap<const FTZ: bool, const SAT: bool>(x: f32) -> f32 {
    let x = if FTZ { flush(x) } else { x };
    if SAT { saturate(x) } else { x }
}

fn float1(r: &mut Registers<'_>, active: u32, mode: Mode, s: [Slot; 2], f: impl Fn(f32) -> f32 + Copy) -> Done {
    match (mode.ftz, mode.saturate) {
        (false, false) => map1(r, active, s, f),
        (true, false) => map1(r, active, s, move |a| wrap::<true, false>(f(flush(a)))),
        (false, true) => map1(r, active, s, move |a| wrap::<false, true>(f(a))),
        (true, true) => map1(r, active, s, move |a| wrap::<true, true>(f(flush(a)))),
    }
}

fn float2(r: &mut Registers<'_>, active: u32, mode: Mode, s: [Slot; 3], f: impl Fn(f32, f32) -> f32 + Copy) -> Done {
    match (mode.ftz, mode.saturate) {
        (false, false) => map2(r, active, s, f),
        (true, false) => map2(r, active, s, move |a, b| wrap::<true, false>(f(flush(a), flush(b)))),
        (false, true) => map2(r, active, s, move |a, b| wrap::<false, true>(f(a, b))),
        (true, true) => map2(r, active, s, move |a, b| wrap::<true, true>(f(flush(a), flush(b)))),
    }
}

fn float3(
    r: &mut Registers<'_>,
    active: u32,
    mode: Mode,
    s: [Slot; 4],
    f: impl Fn(f32, f32, f32) -> f32 + Copy,
) -> Done {
    match (mode.ftz, mode.saturate) {
        (false, false) => map3(r, active, s, f),
        (true, false) => map3(r, active, s, move |a, b, c| wrap::<true, false>(f(flush(a), flush(b), flush(c)))),
        (false, true) => map3(r, active, s, move |a, b, c| wrap::<false, true>(f(a, b, c))),
        (true, true) => map3(r, active, s, move |a, b, c| wrap::<true, true>(f(flush(a), flush(b), flush(c)))),
    }
}

fn nearest(mode: Mode) -> bool {
    !matches!(mode.round, Round::Rz | Round::Rm | Round::Rp)
}

/// f32. `None`: there is no such operation.
pub(super) fn unary(
    r: &mut Registers<'_>,
    active: u32,
    op: UnOp,
    mode: Mode,
    s: [Slot; 2],
    jitter: Jitter,
) -> Option<Done> {
    let round = mode.round;
    Some(match op {
        UnOp::Neg if mode.ftz => map1(r, active, s, |a: f32| flush(a).to_bits() ^ 0x8000_0000),
        UnOp::Neg => map1(r, active, s, |a: u32| a ^ 0x8000_0000),
        UnOp::Abs if mode.ftz => map1(r, active, s, |a: f32| flush(a).to_bits() & 0x7fff_ffff),
        UnOp::Abs => map1(r, active, s, |a: u32| a & 0x7fff_ffff),
        UnOp::Sqrt if nearest(mode) => float1(r, active, mode, s, f32::sqrt),
        UnOp::Sqrt => float1(r, active, mode, s, move |a| {
            let near = a.sqrt();
            directed(near, a as f64 - near as f64 * near as f64, round)
        }),
        UnOp::Rcp if nearest(mode) => float1(r, active, mode, s, |a| 1.0 / a),
        UnOp::Rcp => float1(r, active, mode, s, move |a| quotient(1.0, a, round)),
        _ if jitter.on => return Some(jittered(r, active, op, mode, s, jitter)),
        UnOp::Ex2Approx => float1(r, active, mode, s, |a| approx::exp2(a as f64) as f32),
        UnOp::RsqrtApprox => float1(r, active, mode, s, |a| (1.0 / (a as f64).sqrt()) as f32),
        UnOp::RcpApprox => float1(r, active, mode, s, |a| 1.0 / a),
        UnOp::SqrtApprox => float1(r, active, mode, s, f32::sqrt),
        UnOp::Lg2Approx | UnOp::SinApprox | UnOp::CosApprox | UnOp::TanhApprox => {
            float1(r, active, mode, s, move |a| approx::exact(op, a, jitter, 0))
        }
        _ => return None,
    })
}

/// One lane after the other: each moves by its own amount.
fn jittered(r: &mut Registers<'_>, active: u32, op: UnOp, mode: Mode, [d, a]: [Slot; 2], jitter: Jitter) -> Done {
    r.check(a, active)?;
    let x = *r.narrow(a);
    let mut out = [0; 32];
    for l in 0..32 {
        let x = f32::from_bits(x[l]);
        let x = if mode.ftz { flush(x) } else { x };
        let y = approx::exact(op, x, jitter, l);
        let y = if mode.ftz { flush(y) } else { y };
        out[l] = super::registers::Value::write(y);
    }
    r.put(d, active, &out);
    Ok(())
}

/// a / b, rounded as asked: the remainder of the nearest quotient tells the side.
fn quotient(a: f32, b: f32, round: Round) -> f32 {
    let near = a / b;
    if !b.is_finite() || !a.is_finite() || b == 0.0 {
        return near;
    }
    let rest = if near.is_finite() { a as f64 - near as f64 * b as f64 } else { -(near as f64) * b.abs() as f64 };
    directed(near, if b < 0.0 && near.is_finite() { -rest } else { rest }, round)
}

/// min and max by the number rule: the operand that is no NaN; −0 is below +0.
#[inline(always)]
pub(super) fn minimum(a: f32, b: f32) -> f32 {
    let less = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        less
    }
}

#[inline(always)]
pub(super) fn maximum(a: f32, b: f32) -> f32 {
    let more = if a > b || (a == b && b.is_sign_negative()) { a } else { b };
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        more
    }
}

/// `.NaN`: a NaN wins.
#[inline(always)]
pub(super) fn nan_wins(a: f32, b: f32, value: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { value }
}

/// f32. `None`: there is no such operation.
pub(super) fn binary(
    r: &mut Registers<'_>,
    active: u32,
    op: BinOp,
    mode: Mode,
    s: [Slot; 3],
    jitter: Jitter,
) -> Option<Done> {
    let round = mode.round;
    Some(match op {
        BinOp::Add if nearest(mode) => float2(r, active, mode, s, |a, b| a + b),
        BinOp::Sub if nearest(mode) => float2(r, active, mode, s, |a, b| a - b),
        BinOp::MulLo if nearest(mode) => float2(r, active, mode, s, |a, b| a * b),
        BinOp::Add => float2(r, active, mode, s, move |a, b| sum(a, b, round)),
        BinOp::Sub => float2(r, active, mode, s, move |a, b| sum(a, -b, round)),
        BinOp::MulLo => float2(r, active, mode, s, move |a, b| to_f32(a as f64 * b as f64, 0.0, round)),
        BinOp::Div if !nearest(mode) => float2(r, active, mode, s, move |a, b| quotient(a, b, round)),
        BinOp::Div => float2(r, active, mode, s, |a, b| a / b),
        BinOp::DivFull | BinOp::DivApprox if jitter.on => {
            return Some(jittered_quotient(r, active, op, mode, s, jitter));
        }
        BinOp::DivFull => float2(r, active, mode, s, |a, b| a / b),
        BinOp::DivApprox => float2(r, active, mode, s, approximate_quotient),
        BinOp::Min if mode.nan => float2(r, active, mode, s, |a, b| nan_wins(a, b, minimum(a, b))),
        BinOp::Max if mode.nan => float2(r, active, mode, s, |a, b| nan_wins(a, b, maximum(a, b))),
        BinOp::Min => float2(r, active, mode, s, minimum),
        BinOp::Max => float2(r, active, mode, s, maximum),
        BinOp::CopySign => map2(r, active, s, |a: u32, b: u32| (a & 0x8000_0000) | (b & 0x7fff_ffff)),
        _ => return None,
    })
}

/// `div.approx`: a divisor above 2¹²⁶ gives 0 (its reciprocal is flushed).
#[inline(always)]
fn approximate_quotient(a: f32, b: f32) -> f32 {
    const HUGE: f32 = f32::from_bits(0x7e80_0000); // 2¹²⁶
    let q = a / b;
    if b.abs() > HUGE && b.is_finite() { if a.is_finite() { q * 0.0 } else { f32::NAN } } else { q }
}

/// Both are exact to 2 ulp.
fn jittered_quotient(
    r: &mut Registers<'_>,
    active: u32,
    op: BinOp,
    mode: Mode,
    [d, a, b]: [Slot; 3],
    jitter: Jitter,
) -> Done {
    r.check(a, active)?;
    r.check(b, active)?;
    let (x, y) = (r.narrow(a), r.narrow(b));
    let mut out = [0; 32];
    for l in 0..32 {
        let (x, y) = (f32::from_bits(x[l]), f32::from_bits(y[l]));
        let (x, y) = if mode.ftz { (flush(x), flush(y)) } else { (x, y) };
        let exact = if op == BinOp::DivApprox { approximate_quotient(x, y) } else { x / y };
        let moved = if exact.is_finite() { jitter.relative(exact as f64, 2f64.powi(-23), l) as f32 } else { exact };
        let moved = if mode.ftz { flush(moved) } else { moved };
        out[l] = super::registers::Value::write(moved);
    }
    r.put(d, active, &out);
    Ok(())
}

fn sum(a: f32, b: f32, round: Round) -> f32 {
    let (a, b) = (a as f64, b as f64);
    let (sum, rest) = two_sum(a, b);
    zero_sign(to_f32(sum, rest, round), a, b, round)
}

/// f32. `None`: there is no such operation.
pub(super) fn ternary(r: &mut Registers<'_>, active: u32, op: TernOp, mode: Mode, s: [Slot; 4]) -> Option<Done> {
    let round = mode.round;
    Some(match op {
        TernOp::Fma | TernOp::MadLo if nearest(mode) => float3(r, active, mode, s, f32::mul_add),
        TernOp::Fma | TernOp::MadLo => float3(r, active, mode, s, move |a, b, c| {
            let product = a as f64 * b as f64;
            let (sum, rest) = two_sum(product, c as f64);
            zero_sign(to_f32(sum, rest, round), product, c as f64, round)
        }),
        _ => return None,
    })
}

/// f64. `None`: there is no such operation.
pub(super) fn unary64(r: &mut Registers<'_>, active: u32, op: UnOp, mode: Mode, s: [Slot; 2]) -> Option<Done> {
    let round = mode.round;
    Some(match op {
        UnOp::Neg => map1(r, active, s, |a: u64| a ^ 1 << 63),
        UnOp::Abs => map1(r, active, s, |a: u64| a & !(1 << 63)),
        UnOp::Sqrt => map1(r, active, s, move |a: f64| {
            let near = a.sqrt();
            directed(near, -near.mul_add(near, -a), round)
        }),
        UnOp::Rcp => map1(r, active, s, move |a: f64| quotient64(1.0, a, round)),
        UnOp::RcpApprox => map1(r, active, s, |a: f64| 1.0 / a),
        UnOp::RsqrtApprox => map1(r, active, s, |a: f64| 1.0 / a.sqrt()),
        _ => return None,
    })
}

fn quotient64(a: f64, b: f64, round: Round) -> f64 {
    let near = a / b;
    if nearest_round(round) || !near.is_finite() || b == 0.0 || !b.is_finite() {
        return near;
    }
    let rest = near.mul_add(-b, a);
    directed(near, if b < 0.0 { -rest } else { rest }, round)
}

fn nearest_round(round: Round) -> bool {
    !matches!(round, Round::Rz | Round::Rm | Round::Rp)
}

/// f64. `None`: there is no such operation.
pub(super) fn binary64(r: &mut Registers<'_>, active: u32, op: BinOp, mode: Mode, s: [Slot; 3]) -> Option<Done> {
    let round = mode.round;
    Some(match op {
        BinOp::Add if nearest(mode) => map2(r, active, s, |a: f64, b: f64| a + b),
        BinOp::Sub if nearest(mode) => map2(r, active, s, |a: f64, b: f64| a - b),
        BinOp::MulLo if nearest(mode) => map2(r, active, s, |a: f64, b: f64| a * b),
        BinOp::Add => map2(r, active, s, move |a: f64, b: f64| sum64(a, b, round)),
        BinOp::Sub => map2(r, active, s, move |a: f64, b: f64| sum64(a, -b, round)),
        BinOp::MulLo => map2(r, active, s, move |a: f64, b: f64| {
            let near = a * b;
            let finite = a.is_finite() && b.is_finite();
            directed(
                near,
                if near.is_finite() {
                    a.mul_add(b, -near)
                } else if finite {
                    -near
                } else {
                    0.0
                },
                round,
            )
        }),
        BinOp::Div | BinOp::DivFull | BinOp::DivApprox => {
            map2(r, active, s, move |a: f64, b: f64| quotient64(a, b, round))
        }
        BinOp::Min => map2(r, active, s, |a: f64, b: f64| match () {
            () if a.is_nan() => b,
            () if b.is_nan() || a < b || (a == b && a.is_sign_negative()) => a,
            () => b,
        }),
        BinOp::Max => map2(r, active, s, |a: f64, b: f64| match () {
            () if a.is_nan() => b,
            () if b.is_nan() || a > b || (a == b && b.is_sign_negative()) => a,
            () => b,
        }),
        BinOp::CopySign => map2(r, active, s, |a: u64, b: u64| (a & 1 << 63) | (b & !(1 << 63))),
        _ => return None,
    })
}

fn sum64(a: f64, b: f64, round: Round) -> f64 {
    let (sum, rest) = two_sum(a, b);
    if sum == 0.0 && rest == 0.0 && a.is_sign_negative() != b.is_sign_negative() && round == Round::Rm {
        return -0.0;
    }
    directed(sum, rest, round)
}

/// f64. `None`: there is no such operation.
pub(super) fn ternary64(r: &mut Registers<'_>, active: u32, op: TernOp, mode: Mode, s: [Slot; 4]) -> Option<Done> {
    let round = mode.round;
    Some(match op {
        TernOp::Fma | TernOp::MadLo if nearest(mode) => map3(r, active, s, f64::mul_add),
        // The exact sum is product + rest of product + c; two sums leave a value and the sign of what is missing.
        TernOp::Fma | TernOp::MadLo => map3(r, active, s, move |a: f64, b: f64, c: f64| {
            let near = a.mul_add(b, c);
            let product = a * b;
            if !near.is_finite() || !product.is_finite() {
                return near;
            }
            let low = a.mul_add(b, -product);
            let (high, middle) = two_sum(product - near, c);
            directed(near, (high + middle) + low, round)
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_and_max_take_the_number() {
        assert_eq!(minimum(f32::NAN, 2.0), 2.0);
        assert_eq!(maximum(2.0, f32::NAN), 2.0);
        assert!(minimum(0.0, -0.0).is_sign_negative());
        assert!(maximum(-0.0, 0.0).is_sign_positive());
        assert!(maximum(f32::NAN, f32::NAN).is_nan());
    }

    #[test]
    fn quotients_round_to_each_side() {
        let near = 1f32 / 3.0;
        assert_eq!(quotient(1.0, 3.0, Round::Rm), near.next_down());
        assert_eq!(quotient(1.0, 3.0, Round::Rp), near);
        assert_eq!(quotient(-1.0, 3.0, Round::Rz), -near.next_down());
        assert_eq!(quotient(1.0, -3.0, Round::Rm), -near);
        assert_eq!(quotient(3.0e38, 0.1, Round::Rz), f32::MAX);
    }

    #[test]
    fn saturation_drops_nan() {
        assert_eq!(saturate(f32::NAN), 0.0);
        assert_eq!(saturate(7.0), 1.0);
        assert!(saturate(-0.0).is_sign_positive());
    }
}
