//! `cvt`: between integers, floats and small floats.
//!
//! What kernels use most has plain loops; everything else goes one lane after the other through f64 and its exact rest.

use super::float::{flush, saturate};
use super::half::{self, Format};
use super::registers::{Done, NAN, Registers, map1};
use super::round::{odd_f32, to_f32, to_odd, two_sum};
use super::tensor_core::{E4M3, E5M2};
use crate::ir::{Mode, Round, Slot, Ty};

pub(super) fn convert(r: &mut Registers<'_>, active: u32, to: Ty, from: Ty, mode: Mode, s: [Slot; 2]) -> Done {
    let plain = !mode.saturate && !mode.relu && !mode.ftz;
    match (to, from) {
        (Ty::F32, Ty::F16) if plain => halves_to_f32(r, active, Format::F16, s),
        (Ty::F32, Ty::Bf16) if plain => halves_to_f32(r, active, Format::Bf16, s),
        (Ty::F16, Ty::F32) if plain && mode.round == Round::Rn => f32_to_half(r, active, Format::F16, s),
        (Ty::Bf16, Ty::F32) if plain && mode.round == Round::Rn => f32_to_half(r, active, Format::Bf16, s),
        (Ty::F32, Ty::S32) if plain && mode.round == Round::Rn => map1(r, active, s, |a: i32| a as f32),
        (Ty::F32, Ty::U32) if plain && mode.round == Round::Rn => map1(r, active, s, |a: u32| a as f32),
        (Ty::S32, Ty::F32) if mode.round == Round::Rzi && !mode.ftz => map1(r, active, s, |a: f32| a as i32),
        (Ty::S32, Ty::F32) if mode.round == Round::Rmi && !mode.ftz => map1(r, active, s, |a: f32| a.floor() as i32),
        (Ty::U32, Ty::F32) if mode.round == Round::Rzi && !mode.ftz => map1(r, active, s, |a: f32| a as u32),
        (Ty::F64, Ty::F32) if plain => map1(r, active, s, |a: f32| a as f64),
        (Ty::F32, Ty::F64) if plain && mode.round == Round::Rn => map1(r, active, s, |a: f64| a as f32),
        (Ty::F32, Ty::F32) => float_to_float(r, active, mode, s),
        _ if is_integer(to) && is_integer(from) => integers(r, active, to, from, mode.saturate, s),
        _ => any(r, active, to, from, mode, s),
    }
}

fn is_integer(ty: Ty) -> bool {
    matches!(ty, Ty::U8 | Ty::U16 | Ty::U32 | Ty::U64 | Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
}

fn halves_to_f32(r: &mut Registers<'_>, active: u32, format: Format, [d, a]: [Slot; 2]) -> Done {
    r.check_low(a, active)?;
    let x = half::to_f32(format, r.narrow(a));
    let mut out = [0; 32];
    for l in 0..32 {
        out[l] = super::registers::Value::write(x[2 * l]);
    }
    r.put(d, active, &out);
    Ok(())
}

fn f32_to_half(r: &mut Registers<'_>, active: u32, format: Format, [d, a]: [Slot; 2]) -> Done {
    r.check(a, active)?;
    let mut x = [0.0; 64];
    let row = r.narrow(a);
    for l in 0..32 {
        x[2 * l] = f32::from_bits(row[l]);
    }
    r.put(d, active, &half::from_f32(format, &x));
    Ok(())
}

fn float_to_float(r: &mut Registers<'_>, active: u32, mode: Mode, s: [Slot; 2]) -> Done {
    let (ftz, sat) = (mode.ftz, mode.saturate);
    let finish = move |x: f32| {
        let x = if ftz { flush(x) } else { x };
        if sat { saturate(x) } else { x }
    };
    match mode.round {
        Round::Rni => map1(r, active, s, move |a: f32| finish(a.round_ties_even())),
        Round::Rzi => map1(r, active, s, move |a: f32| finish(a.trunc())),
        Round::Rmi => map1(r, active, s, move |a: f32| finish(a.floor())),
        Round::Rpi => map1(r, active, s, move |a: f32| finish(a.ceil())),
        _ => map1(r, active, s, finish),
    }
}

/// Signed results of 8 and 16 bits are sign-extended to the 32 of their register.
fn integers(r: &mut Registers<'_>, active: u32, to: Ty, from: Ty, saturate: bool, s: [Slot; 2]) -> Done {
    macro_rules! from {
        ($from:ty) => {
            match (to, saturate) {
                (Ty::U8, false) => map1(r, active, s, |a: $from| a as u8),
                (Ty::U16, false) => map1(r, active, s, |a: $from| a as u16),
                (Ty::U32, false) => map1(r, active, s, |a: $from| a as u32),
                (Ty::U64, false) => map1(r, active, s, |a: $from| a as u64),
                (Ty::S8, false) => map1(r, active, s, |a: $from| a as i8 as i32),
                (Ty::S16, false) => map1(r, active, s, |a: $from| a as i16 as i32),
                (Ty::S32, false) => map1(r, active, s, |a: $from| a as i32),
                (_, false) => map1(r, active, s, |a: $from| a as i64),
                (Ty::U8, true) => map1(r, active, s, |a: $from| clamp(a as i128, 0, u8::MAX as i128) as u8),
                (Ty::U16, true) => map1(r, active, s, |a: $from| clamp(a as i128, 0, u16::MAX as i128) as u16),
                (Ty::U32, true) => map1(r, active, s, |a: $from| clamp(a as i128, 0, u32::MAX as i128) as u32),
                (Ty::U64, true) => map1(r, active, s, |a: $from| clamp(a as i128, 0, u64::MAX as i128) as u64),
                (Ty::S8, true) => map1(r, active, s, |a: $from| clamp(a as i128, -0x80, 0x7f) as i32),
                (Ty::S16, true) => map1(r, active, s, |a: $from| clamp(a as i128, -0x8000, 0x7fff) as i32),
                (Ty::S32, true) => {
                    map1(r, active, s, |a: $from| clamp(a as i128, i32::MIN as i128, i32::MAX as i128) as i32)
                }
                (_, true) => map1(r, active, s, |a: $from| clamp(a as i128, i64::MIN as i128, i64::MAX as i128) as i64),
            }
        };
    }
    match from {
        Ty::U8 => from!(u8),
        Ty::U16 => from!(u16),
        Ty::U32 => from!(u32),
        Ty::U64 => from!(u64),
        Ty::S8 => from!(i8),
        Ty::S16 => from!(i16),
        Ty::S32 => from!(i32),
        _ => from!(i64),
    }
}

fn clamp(x: i128, low: i128, high: i128) -> i128 {
    x.clamp(low, high)
}

/// A number as f64 and what that misses of a 64-bit integer.
type Exact = (f64, f64);

fn any(r: &mut Registers<'_>, active: u32, to: Ty, from: Ty, mode: Mode, [d, a]: [Slot; 2]) -> Done {
    let mut source = [0u64; 32];
    if from.is_wide() {
        r.check_wide(a, active)?;
        source = *r.wide(a);
    } else {
        if from.bytes() == 4 {
            r.check(a, active)?
        } else {
            r.check_low(a, active)?
        }
        let row = r.narrow(a);
        (0..32).for_each(|l| source[l] = row[l] as u64);
    }
    let parts = |bits: u64| -> u64 {
        let Some((element, width)) = element(from) else {
            return encode(to, integral(decode(from, bits, mode.ftz), mode.round), from, mode);
        };
        let (to, out) = self::element(to).unwrap_or((to, 16));
        let part = |i: u32| encode(to, decode(element, bits >> (width * i), mode.ftz), element, mode) << (out * i);
        part(0) | part(1)
    };
    let out = source.map(parts);
    if to.is_wide() {
        r.put_wide(d, active, &out);
    } else {
        r.put(d, active, &out.map(|x| x as u32));
    }
    Ok(())
}

/// A pair's element and its bits.
fn element(pair: Ty) -> Option<(Ty, u32)> {
    Some(match pair {
        Ty::F16x2 => (Ty::F16, 16),
        Ty::Bf16x2 => (Ty::Bf16, 16),
        Ty::E4m3x2 => (Ty::E4m3, 8),
        Ty::E5m2x2 => (Ty::E5m2, 8),
        _ => return None,
    })
}

fn decode(ty: Ty, bits: u64, ftz: bool) -> Exact {
    let integer = |x: i128| ((x >> 32) as f64 * 4294967296.0, (x & 0xffff_ffff) as f64);
    match ty {
        Ty::F32 | Ty::Tf32 => {
            let x = f32::from_bits(bits as u32);
            (if ftz { flush(x) } else { x } as f64, 0.0)
        }
        Ty::F64 => (f64::from_bits(bits), 0.0),
        Ty::F16 => (::half::f16::from_bits(bits as u16).to_f64(), 0.0),
        Ty::Bf16 => (f32::from_bits((bits as u32 & 0xffff) << 16) as f64, 0.0),
        Ty::E4m3 => (E4M3.value(bits as u32 & 0xff), 0.0),
        Ty::E5m2 => (E5M2.value(bits as u32 & 0xff), 0.0),
        Ty::U8 => (bits as u8 as f64, 0.0),
        Ty::S8 => (bits as i8 as f64, 0.0),
        Ty::U16 => (bits as u16 as f64, 0.0),
        Ty::S16 => (bits as i16 as f64, 0.0),
        Ty::S32 => (bits as i32 as f64, 0.0),
        Ty::U64 => integer(bits as i128),
        Ty::S64 => integer(bits as i64 as i128),
        _ => (bits as u32 as f64, 0.0),
    }
}

/// `.rni` and its kind; the sources are floats, which have no rest.
fn integral((x, rest): Exact, round: Round) -> Exact {
    match round {
        Round::Rni => (x.round_ties_even(), rest),
        Round::Rzi => (x.trunc(), rest),
        Round::Rmi => (x.floor(), rest),
        Round::Rpi => (x.ceil(), rest),
        _ => (x, rest),
    }
}

fn encode(to: Ty, (high, low): Exact, from: Ty, mode: Mode) -> u64 {
    let (x, rest) = two_sum(high, low);
    // NaN to an integer: 0, or the top bit where 64 bits take part.
    let nan = |top: u64| if x.is_nan() && (from == Ty::F64 || to.is_wide()) { Some(top) } else { None };
    match to {
        Ty::U8 => nan(0x80).unwrap_or(x as u8 as u64),
        Ty::U16 => nan(0x8000).unwrap_or(x as u16 as u64),
        Ty::U32 => nan(1 << 31).unwrap_or(x as u32 as u64),
        Ty::U64 => nan(1 << 63).unwrap_or(x as u64),
        Ty::S8 => nan(0x80).unwrap_or(x as i8 as i32 as u32 as u64),
        Ty::S16 => nan(0x8000).unwrap_or(x as i16 as i32 as u32 as u64),
        Ty::S32 => nan(1 << 31).unwrap_or(x as i32 as u32 as u64),
        Ty::S64 => nan(1 << 63).unwrap_or(x as i64 as u64),
        Ty::F64 => {
            let x = if mode.saturate { if x > 0.0 { x.min(1.0) } else { 0.0 } } else { x };
            super::round::directed(x, rest, mode.round).to_bits()
        }
        Ty::F32 => {
            let x = to_f32(x, rest, mode.round);
            let x = if mode.ftz { flush(x) } else { x };
            let x = if mode.saturate { saturate(x) } else { x };
            if x.is_nan() { NAN as u64 } else { x.to_bits() as u64 }
        }
        _ => small(to, to_odd(x, rest), mode) as u64,
    }
}

/// To a float of 16 or fewer bits (or tf32); `x` is exact or odd.
fn small(to: Ty, x: f64, mode: Mode) -> u32 {
    let x = if mode.saturate && matches!(to, Ty::F16 | Ty::Bf16) { if x > 0.0 { x.min(1.0) } else { 0.0 } } else { x };
    let x = if mode.relu && x <= 0.0 { 0.0 } else { x };
    match to {
        Ty::F16 if x.is_nan() => 0x7fff,
        Ty::F16 => ::half::f16::from_f64(quantise(x, 10, -14, 65504.0, mode.round)).to_bits() as u32,
        Ty::Bf16 if mode.round == Round::Rn => half::bf16_bits(odd_f32(x)) as u32,
        Ty::Bf16 if x.is_nan() => 0x7fff,
        Ty::Bf16 => {
            let most = f32::from_bits(0x7f7f_0000) as f64;
            half::bf16_bits(quantise(x, 7, -126, most, mode.round) as f32) as u32
        }
        Ty::Tf32 if x.is_nan() => NAN,
        Ty::Tf32 => (quantise(x, 10, -126, f32::from_bits(0x7f7f_e000) as f64, mode.round) as f32).to_bits(),
        Ty::E4m3 => E4M3.encode(to_finite(x, 3, -6, 448.0)),
        Ty::E5m2 => E5M2.encode(to_finite(x, 2, -14, 57344.0)),
        _ => 0,
    }
}

/// To nearest even, the largest number in place of more (`.satfinite`, which 8-bit floats always have).
fn to_finite(x: f64, bits: i32, least_exponent: i32, most: f64) -> f64 {
    quantise(x, bits, least_exponent, f64::INFINITY, Round::Rn).clamp(-most, most)
}

/// x rounded to `bits` after the point of its binary exponent, which is at least `least_exponent`.
fn quantise(x: f64, bits: i32, least_exponent: i32, most: f64, round: Round) -> f64 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(least_exponent);
    let quantum = 2f64.powi(exponent - bits);
    let steps = x / quantum;
    let steps = match round {
        Round::Rz => steps.trunc(),
        Round::Rm => steps.floor(),
        Round::Rp => steps.ceil(),
        Round::Rna => steps.round(),
        _ => steps.round_ties_even(),
    };
    let value = (steps * quantum).copysign(x);
    let towards_zero = match round {
        Round::Rz => true,
        Round::Rm => x > 0.0,
        Round::Rp => x < 0.0,
        _ => false,
    };
    if value.abs() <= most {
        value
    } else if towards_zero {
        most.copysign(x)
    } else {
        f64::INFINITY.copysign(x)
    }
}

/// `cvt.rn.f16x2.f32 d, a, b` and its kind.
pub(super) fn pack(r: &mut Registers<'_>, active: u32, to: Ty, mode: Mode, [d, a, b]: [Slot; 3]) -> Done {
    r.check(a, active)?;
    r.check(b, active)?;
    let (high, low) = (r.narrow(a), r.narrow(b));
    let row = match Format::of(to) {
        Some((format, _)) if mode.round == Round::Rn && !mode.saturate => {
            let mut x = [0.0; 64];
            for l in 0..32 {
                x[2 * l] = f32::from_bits(low[l]);
                x[2 * l + 1] = f32::from_bits(high[l]);
            }
            if mode.relu {
                x.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x });
            }
            half::from_f32(format, &x)
        }
        _ => {
            let (element, width) = element(to).unwrap_or((to, 16));
            let one = |bits: u32| encode(element, decode(Ty::F32, bits as u64, mode.ftz), Ty::F32, mode) as u32;
            std::array::from_fn(|l| one(low[l]) | one(high[l]) << width)
        }
    };
    r.put(d, active, &row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: Mode = Mode { round: Round::Rn, ftz: false, saturate: false, relu: false, nan: false };

    fn f32_to(to: Ty, x: f32, round: Round) -> u64 {
        let exact = integral(decode(Ty::F32, x.to_bits() as u64, false), round);
        encode(to, exact, Ty::F32, Mode { round, ..MODE })
    }

    #[test]
    fn floats_saturate_to_integers() {
        assert_eq!(f32_to(Ty::S32, 3e9, Round::Rzi), 0x7fff_ffff);
        assert_eq!(f32_to(Ty::U8, -1.0, Round::Rzi), 0);
        assert_eq!(f32_to(Ty::U32, f32::NAN, Round::Rzi), 0);
        assert_eq!(f32_to(Ty::S64, f32::NAN, Round::Rzi), 1 << 63);
        assert_eq!(f32_to(Ty::S32, 2.5, Round::Rni), 2);
        assert_eq!(f32_to(Ty::S32, -2.5, Round::Rmi) as u32 as i32, -3);
    }

    #[test]
    fn small_floats() {
        assert_eq!(f32_to(Ty::F16, 65520.0, Round::Rn), 0x7c00);
        assert_eq!(f32_to(Ty::F16, 65520.0, Round::Rz), 0x7bff);
        assert_eq!(f32_to(Ty::F16, 5.9604645e-8, Round::Rn), 1);
        assert_eq!(f32_to(Ty::F16, -1e-10, Round::Rn), 0x8000);
        assert_eq!(f32_to(Ty::Bf16, f32::from_bits(0x3f80_8000), Round::Rn), 0x3f80);
        assert_eq!(f32_to(Ty::Bf16, f32::from_bits(0x3f80_ffff), Round::Rz), 0x3f80);
        assert_eq!(f32_to(Ty::Tf32, f32::from_bits(0x3f80_1000), Round::Rna), 0x3f80_2000);
        assert_eq!(f32_to(Ty::E4m3, 1e9, Round::Rn), 0x7e);
        assert_eq!(f32_to(Ty::E4m3, 1.0, Round::Rn), 0x38);
        assert_eq!(f32_to(Ty::E5m2, -1.0, Round::Rn), 0xbc);
        assert_eq!(f32_to(Ty::E4m3, f32::NAN, Round::Rn), 0x7f);
    }

    #[test]
    fn large_integers_round_once() {
        let (x, rest) = decode(Ty::U64, (1 << 63) + (1 << 39) + 1, false);
        assert_eq!(encode(Ty::F32, (x, rest), Ty::U64, MODE) as u32, (2f32.powi(63) + 2f32.powi(40)).to_bits());
        assert_eq!(encode(Ty::F64, decode(Ty::U64, u64::MAX, false), Ty::U64, MODE), (2f64.powi(64)).to_bits());
        let down = Mode { round: Round::Rz, ..MODE };
        assert_eq!(encode(Ty::F32, decode(Ty::S64, i64::MAX as u64, false), Ty::S64, down) as u32, 0x5eff_ffff);
    }
}
