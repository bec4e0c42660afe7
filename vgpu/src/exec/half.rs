//! f16 and bf16 arithmetic, single and in pairs: every operation rounds once.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::approx::{self, Jitter};
use super::float::{maximum, minimum, nan_wins, saturate};
use super::registers::{Done, Lanes, Registers};
use super::round::{odd_f32, to_odd, two_sum};
use crate::ir::{BinOp, Mode, Slot, TernOp, Ty, UnOp};

/// A row as 64 halves, or what they are as f32.
type Halves = [u16; 64];
pub(super) type Floats = [f32; 64];

/// A source, at the vectors' own alignment: how fast it is read would else depend on where the stack is.
#[repr(align(64))]
struct Source(Floats);

/// The two formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F16,
    Bf16,
}

impl Format {
    /// And whether it is a pair.
    pub fn of(ty: Ty) -> Option<(Format, bool)> {
        Some(match ty {
            Ty::F16 => (Format::F16, false),
            Ty::F16x2 => (Format::F16, true),
            Ty::Bf16 => (Format::Bf16, false),
            Ty::Bf16x2 => (Format::Bf16, true),
            _ => return None,
        })
    }

    /// Magnitudes below are subnormal.
    fn least_normal(self) -> f32 {
        match self {
            Format::F16 => 6.103_515_6e-5, // 2⁻¹⁴
            Format::Bf16 => f32::MIN_POSITIVE,
        }
    }

    pub fn infinity(self) -> u16 {
        match self {
            Format::F16 => 0x7c00,
            Format::Bf16 => 0x7f80,
        }
    }
}

#[inline(always)]
pub(super) fn to_f32(format: Format, row: &Lanes) -> Floats {
    let bits: &Halves = bytemuck::cast_ref(row);
    let mut out = [0.0; 64];
    match format {
        Format::F16 => bits.reinterpret_cast::<half::f16>().convert_to_f32_slice(&mut out),
        Format::Bf16 => {
            for i in 0..64 {
                out[i] = f32::from_bits((bits[i] as u32) << 16);
            }
        }
    }
    out
}

/// To nearest even; any NaN becomes 0x7fff.
#[inline(always)]
pub(super) fn from_f32(format: Format, values: &Floats) -> Lanes {
    let mut bits: Halves = [0; 64];
    match format {
        Format::F16 => bits.reinterpret_cast_mut::<half::f16>().convert_from_f32_slice(values),
        Format::Bf16 => {
            for i in 0..64 {
                bits[i] = bf16_bits(values[i]);
            }
        }
    }
    for bit in &mut bits {
        *bit = if *bit & 0x7fff > format.infinity() { 0x7fff } else { *bit };
    }
    bytemuck::cast(bits)
}

#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { 0x7fff } else { rounded as u16 }
}

/// What the modifiers do to sources and results.
#[derive(Clone, Copy)]
struct Finish {
    format: Format,
    pair: bool,
    mode: Mode,
}

impl Finish {
    fn source(self, r: &Registers<'_>, slot: Slot) -> Source {
        let mut x = to_f32(self.format, r.narrow(slot));
        if self.mode.ftz {
            x.iter_mut().for_each(|x| *x = self.flush(*x));
        }
        Source(x)
    }

    fn flush(self, x: f32) -> f32 {
        if x.abs() < self.format.least_normal() { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
    }

    fn result(self, r: &mut Registers<'_>, d: Slot, active: u32, mut x: Floats) {
        if self.mode.saturate {
            x.iter_mut().for_each(|x| *x = saturate(*x));
        }
        if self.mode.relu {
            x.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x });
        }
        let mut row = from_f32(self.format, &x);
        if self.mode.ftz {
            let bits: &mut Halves = bytemuck::cast_mut(&mut row);
            bits.iter_mut().for_each(|b| *b = if *b & self.format.infinity() == 0 { *b & 0x8000 } else { *b });
        }
        if !self.pair {
            row.iter_mut().for_each(|x| *x &= 0xffff);
        }
        r.put(d, active, &row);
    }
}

fn half1(r: &mut Registers<'_>, active: u32, how: Finish, [d, a]: [Slot; 2], f: impl Fn(f32) -> f32) -> Done {
    r.check(a, active)?;
    let x = how.source(r, a).0.map(f);
    how.result(r, d, active, x);
    Ok(())
}

#[inline(never)]
fn half2(r: &mut Registers<'_>, active: u32, how: Finish, [d, a, b]: [Slot; 3], f: impl Fn(f32, f32) -> f32) -> Done {
    r.check(a, active)?;
    r.check(b, active)?;
    let (Source(mut x), y) = (how.source(r, a), how.source(r, b).0);
    for i in 0..64 {
        x[i] = f(x[i], y[i]);
    }
    how.result(r, d, active, x);
    Ok(())
}

/// A sum or product for later rounding to 8 or 11 bits: exact, or odd in its last bit.
fn bf16_sum(a: f32, b: f32) -> f32 {
    let (sum, rest) = two_sum(a as f64, b as f64);
    odd_f32(to_odd(sum, rest))
}

fn bf16_fma(a: f32, b: f32, c: f32) -> f32 {
    let (sum, rest) = two_sum(a as f64 * b as f64, c as f64);
    odd_f32(to_odd(sum, rest))
}

/// Of three f16 values: the product is exact in f32; the sum's last bit is made odd when it is not exact.
#[inline(always)]
fn f16_fma(a: f32, b: f32, c: f32) -> f32 {
    let product = a * b;
    let sum = product + c;
    let c_part = sum - product;
    let product_part = sum - c_part;
    let rest = (product - product_part) + (c - c_part);
    let away = (rest > 0.0) == (sum > 0.0);
    let bits = sum.to_bits();
    let odd = if away { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let exact = rest == 0.0 || bits & 1 == 1 || !sum.is_finite();
    f32::from_bits(if exact { bits } else { odd })
}

/// `None`: there is no such operation.
pub(super) fn unary(
    r: &mut Registers<'_>,
    active: u32,
    op: UnOp,
    ty: Ty,
    mode: Mode,
    s: [Slot; 2],
    jitter: Jitter,
) -> Option<Done> {
    let (format, pair) = Format::of(ty)?;
    let how = Finish { format, pair, mode };
    let signs = if pair { 0x8000_8000 } else { 0x8000 };
    let mask = if pair { u32::MAX } else { 0xffff };
    Some(match op {
        UnOp::Neg if !mode.ftz => super::registers::map1(r, active, s, move |a: u32| (a ^ signs) & mask),
        UnOp::Abs if !mode.ftz => super::registers::map1(r, active, s, move |a: u32| a & !signs & mask),
        UnOp::Neg => half1(r, active, how, s, |a| -a),
        UnOp::Abs => half1(r, active, how, s, f32::abs),
        UnOp::Ex2Approx => half1(r, active, how, s, |a| moved(approx::exp2(a as f64), 2f64.powf(-9.9), jitter)),
        UnOp::TanhApprox => half1(r, active, how, s, |a| moved((a as f64).tanh(), 2f64.powf(-10.987), jitter)),
        _ => return None,
    })
}

/// One amount for the whole warp: half an ulp of f16 is left for the rounding.
fn moved(x: f64, bound: f64, jitter: Jitter) -> f32 {
    jitter.relative(x, (bound - 2f64.powi(-11)).max(0.0), 0) as f32
}

/// `None`: there is no such operation.
pub(super) fn binary(r: &mut Registers<'_>, active: u32, op: BinOp, ty: Ty, mode: Mode, s: [Slot; 3]) -> Option<Done> {
    let (format, pair) = Format::of(ty)?;
    let how = Finish { format, pair, mode };
    Some(match (op, format) {
        // 24 bits are more than twice 11 and two: rounding to f32 first changes nothing.
        (BinOp::Add, Format::F16) => half2(r, active, how, s, |a, b| a + b),
        (BinOp::Sub, Format::F16) => half2(r, active, how, s, |a, b| a - b),
        (BinOp::MulLo, Format::F16) => half2(r, active, how, s, |a, b| a * b),
        (BinOp::Add, Format::Bf16) => half2(r, active, how, s, bf16_sum),
        (BinOp::Sub, Format::Bf16) => half2(r, active, how, s, |a, b| bf16_sum(a, -b)),
        (BinOp::MulLo, Format::Bf16) => half2(r, active, how, s, |a, b| odd_f32(a as f64 * b as f64)),
        (BinOp::Min, _) if mode.nan => half2(r, active, how, s, |a, b| nan_wins(a, b, minimum(a, b))),
        (BinOp::Max, _) if mode.nan => half2(r, active, how, s, |a, b| nan_wins(a, b, maximum(a, b))),
        (BinOp::Min, _) => half2(r, active, how, s, minimum),
        (BinOp::Max, _) => half2(r, active, how, s, maximum),
        (BinOp::CopySign, _) => {
            let signs = if pair { 0x8000_8000 } else { 0x8000 };
            super::registers::map2(r, active, s, move |a: u32, b: u32| (a & signs) | (b & !signs))
        }
        _ => return None,
    })
}

/// `None`: there is no such operation.
pub(super) fn ternary(
    r: &mut Registers<'_>,
    active: u32,
    op: TernOp,
    ty: Ty,
    mode: Mode,
    [d, a, b, c]: [Slot; 4],
) -> Option<Done> {
    let (format, pair) = Format::of(ty)?;
    if !matches!(op, TernOp::Fma | TernOp::MadLo) {
        return None;
    }
    let how = Finish { format, pair, mode };
    Some(fused(r, active, how, [d, a, b, c]))
}

fn fused(r: &mut Registers<'_>, active: u32, how: Finish, [d, a, b, c]: [Slot; 4]) -> Done {
    r.check(a, active)?;
    r.check(b, active)?;
    r.check(c, active)?;
    let (Source(mut x), y, z) = (how.source(r, a), how.source(r, b).0, how.source(r, c).0);
    match how.format {
        Format::F16 => (0..64).for_each(|i| x[i] = f16_fma(x[i], y[i], z[i])),
        Format::Bf16 => (0..64).for_each(|i| x[i] = bf16_fma(x[i], y[i], z[i])),
    }
    how.result(r, d, active, x);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    /// The exact value in f64 (it fits wherever a result is finite), rounded to odd for the one rounding that counts.
    fn exact_fma(a: f16, b: f16, c: f16) -> f16 {
        let (sum, rest) = two_sum(a.to_f64() * b.to_f64(), c.to_f64());
        f16::from_f32(odd_f32(to_odd(sum, rest)))
    }

    #[test]
    fn f16_fma_rounds_once() {
        let mut seed = 1u64;
        for _ in 0..200_000 {
            seed = approx::mix(seed);
            let [a, b, c, _] = [seed, seed >> 16, seed >> 32, 0].map(|x| f16::from_bits(x as u16));
            let got = f16::from_f32(f16_fma(a.to_f32(), b.to_f32(), c.to_f32()));
            let want = exact_fma(a, b, c);
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{a}·{b}+{c}: {got}, not {want}");
        }
    }

    #[test]
    fn bf16_rounds_to_even() {
        assert_eq!(bf16_bits(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(bf16_bits(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(bf16_bits(f32::MAX), 0x7f80);
        assert_eq!(bf16_bits(f32::NAN), 0x7fff);
    }
}
