//! One dot product as a tensor core computes it, bit for bit.
//!
//! The terms of a block of products and the addend are aligned to the largest exponent among them, cut to a fixed number
//! of bits, and added as integers; the sum is cut to 24 bits and is the next block's addend. Found by numerical probing
//! of the hardware (Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores, 2021); the captured
//! results of six GPUs agree in every bit. Formats other than f16 are assumed to follow the same rule.

use crate::profile::TensorCore;

/// A binary float format.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    pub exponent_bits: u32,
    pub fraction_bits: u32,
    /// No infinities, and one NaN: all ones (e4m3).
    pub finite: bool,
}

pub const F16: Small = Small { exponent_bits: 5, fraction_bits: 10, finite: false };
pub const BF16: Small = Small { exponent_bits: 8, fraction_bits: 7, finite: false };
/// The upper 19 of 32 bits.
pub const TF32: Small = Small { exponent_bits: 8, fraction_bits: 10, finite: false };
pub const E4M3: Small = Small { exponent_bits: 4, fraction_bits: 3, finite: true };
pub const E5M2: Small = Small { exponent_bits: 5, fraction_bits: 2, finite: false };
const F32: Small = Small { exponent_bits: 8, fraction_bits: 23, finite: false };

/// A number taken apart: significand · 2^(exponent − fraction bits), or none of that.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Parts {
    Finite { significand: i64, exponent: i32 },
    Infinite { negative: bool },
    Nan,
}

impl Small {
    fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// Subnormal numbers keep the least exponent and have no leading one.
    fn parts(self, bits: u32) -> Parts {
        let fraction = (bits & ((1 << self.fraction_bits) - 1)) as i64;
        let top = (1 << self.exponent_bits) - 1;
        let exponent = (bits >> self.fraction_bits & top) as i32;
        let negative = bits >> (self.fraction_bits + self.exponent_bits) & 1 == 1;
        let all_ones = fraction == (1 << self.fraction_bits) - 1;
        if exponent == top as i32 && (!self.finite || all_ones) {
            return if fraction != 0 { Parts::Nan } else { Parts::Infinite { negative } };
        }
        let significand = if exponent == 0 { fraction } else { fraction | 1 << self.fraction_bits };
        let significand = if negative { -significand } else { significand };
        Parts::Finite { significand, exponent: exponent.max(1) - self.bias() }
    }

    /// The number of these bits.
    pub(super) fn value(self, bits: u32) -> f64 {
        match self.parts(bits) {
            Parts::Finite { significand: 0, .. } if bits >> (self.fraction_bits + self.exponent_bits) & 1 == 1 => -0.0,
            Parts::Finite { significand, exponent } => {
                significand as f64 * 2f64.powi(exponent - self.fraction_bits as i32)
            }
            Parts::Infinite { negative: true } => f64::NEG_INFINITY,
            Parts::Infinite { negative: false } => f64::INFINITY,
            Parts::Nan => f64::NAN,
        }
    }

    /// The bits of a number that the format holds exactly; NaN as all ones below the sign.
    pub(super) fn encode(self, x: f64) -> u32 {
        let width = self.fraction_bits + self.exponent_bits;
        if x.is_nan() {
            return (1 << width) - 1;
        }
        let sign = (x.is_sign_negative() as u32) << width;
        let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(1 - self.bias());
        let steps = (x.abs() / 2f64.powi(exponent - self.fraction_bits as i32)) as u32;
        let field = (exponent + self.bias() - 1) as u32;
        sign | ((field << self.fraction_bits) + steps)
    }
}

/// d = c + Σ a·b: bit patterns of the format and of float32.
pub fn dot(core: TensorCore, format: Small, a: &[u32], b: &[u32], c: u32) -> u32 {
    let group = core.group.max(1);
    let mut sum = c;
    for (a, b) in a.chunks(group).zip(b.chunks(group)) {
        sum = block(core, format, a, b, sum, to_f32_truncated);
    }
    sum
}

/// The same with an f16 addend and result, rounded to nearest after each block.
pub fn dot_f16(core: TensorCore, a: &[u32], b: &[u32], c: u16) -> u16 {
    let group = core.group.max(1);
    let mut sum = half::f16::from_bits(c);
    for (a, b) in a.chunks(group).zip(b.chunks(group)) {
        let bits = block(core, F16, a, b, sum.to_f32().to_bits(), |sum, scale| {
            half::f16::from_f32(odd(sum, scale)).to_f32().to_bits()
        });
        sum = half::f16::from_f32(f32::from_bits(bits));
    }
    if sum.is_nan() { 0x7fff } else { sum.to_bits() }
}

/// sum · 2^scale as f32, truncated but for its last bit, which is one if something was cut off.
fn odd(sum: i64, scale: i32) -> f32 {
    let magnitude = sum.unsigned_abs();
    let extra = (64 - magnitude.leading_zeros()).saturating_sub(24);
    let cut = magnitude >> extra | (magnitude & ((1 << extra) - 1) != 0) as u64;
    let value = (cut as f64 * 2f64.powi(scale + extra as i32)) as f32;
    if sum < 0 { -value } else { value }
}

fn block(core: TensorCore, format: Small, a: &[u32], b: &[u32], c: u32, finish: impl Fn(i64, i32) -> u32) -> u32 {
    const TERMS: usize = 65;
    let mut terms = [(0i64, 0i32, 0i32); TERMS];
    let mut count = 0;
    let mut infinite: Option<bool> = None;
    let mut nan = false;
    let mut see = |negative: bool, nan: &mut bool| {
        *nan |= infinite.is_some_and(|was| was != negative);
        infinite = Some(negative);
    };
    for (&a, &b) in a.iter().zip(b).take(TERMS - 1) {
        match (format.parts(a), format.parts(b)) {
            (Parts::Finite { significand: x, exponent: e }, Parts::Finite { significand: y, exponent: f }) => {
                terms[count] = (x * y, e + f, 2 * format.fraction_bits as i32);
                count += 1;
            }
            (Parts::Infinite { negative }, Parts::Finite { significand, .. })
            | (Parts::Finite { significand, .. }, Parts::Infinite { negative })
                if significand != 0 =>
            {
                see(negative != (significand < 0), &mut nan);
            }
            (Parts::Infinite { negative: x }, Parts::Infinite { negative: y }) => see(x != y, &mut nan),
            _ => nan = true,
        }
    }
    match F32.parts(c) {
        Parts::Finite { significand, exponent } => {
            terms[count] = (significand, exponent, F32.fraction_bits as i32);
            count += 1;
        }
        Parts::Infinite { negative } => see(negative, &mut nan),
        Parts::Nan => nan = true,
    }
    match infinite {
        _ if nan => return super::registers::NAN,
        Some(true) => return f32::NEG_INFINITY.to_bits(),
        Some(false) => return f32::INFINITY.to_bits(),
        None => {}
    }
    let terms = &terms[..count];
    let Some(top) = terms.iter().filter(|t| t.0 != 0).map(|t| t.1).max() else {
        return 0;
    };
    let kept = 23 + core.extra_bits as i32;
    let sum: i64 = terms.iter().map(|&(x, exponent, fraction)| align(x, kept + exponent - top - fraction)).sum();
    finish(sum, top - kept)
}

/// x · 2^shift, cut towards zero.
fn align(x: i64, shift: i32) -> i64 {
    match shift {
        0.. => x << shift.min(30),
        -62..0 => x / (1i64 << -shift),
        _ => 0,
    }
}

/// sum · 2^scale, cut to the 24 bits of a float32.
fn to_f32_truncated(sum: i64, scale: i32) -> u32 {
    let magnitude = sum.unsigned_abs();
    if magnitude == 0 {
        return 0;
    }
    let sign = if sum < 0 { 1 << 31 } else { 0 };
    let top = 63 - magnitude.leading_zeros() as i32;
    let exponent = top + scale;
    if exponent > 127 {
        return sign | f32::INFINITY.to_bits();
    }
    // Bits below the last one that float32 has at this exponent are cut.
    let last = (exponent.max(-126) - 23) - scale;
    let fraction = match last {
        ..=0 => magnitude << -last,
        1..64 => magnitude >> last,
        _ => 0,
    } as u32;
    let field = if exponent < -126 { 0 } else { (exponent + 127) as u32 - 1 };
    if exponent < -126 { sign | fraction } else { sign | ((field << 23) + fraction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: TensorCore = TensorCore { group: 8, extra_bits: 1 };

    #[test]
    fn formats_there_and_back() {
        for format in [F16, E4M3, E5M2] {
            for bits in 0..1 << (1 + format.exponent_bits + format.fraction_bits) {
                let x = format.value(bits);
                if x.is_finite() {
                    assert_eq!(format.encode(x), bits, "{x}");
                }
            }
        }
    }

    #[test]
    fn sums_are_cut_not_rounded() {
        let one = 0x3c00;
        let dot = |a: &[u32], c: f32| f32::from_bits(dot(CORE, F16, a, &[one; 8], c.to_bits()));
        assert_eq!(dot(&[one; 8], 0.5), 8.5);
        // 2⁻²⁴ · 3 of the addend's last place: cut off below one extra bit.
        assert_eq!(dot(&[1, 0, 0, 0, 0, 0, 0, 0], 1.0), 1.0);
        assert_eq!(dot(&[0; 8], -0.0).to_bits(), 0);
        assert!(dot(&[0x7c00, 0xfc00], 0.0).is_nan());
        assert_eq!(dot(&[0x7c00, 1], 0.0), f32::INFINITY);
    }
}
