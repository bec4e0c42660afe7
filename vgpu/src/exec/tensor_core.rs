//! One dot product as a tensor core computes it, bit for bit.
//!
//! The terms of a block of products and the addend are aligned to the largest exponent among them, cut to a fixed number
//! of bits, and added as integers; the sum is cut to 24 bits (of 8-bit floats, where the tensor cores multiply them, to 14) and
//! is the next block's addend. Sums in f16 are rounded to nearest. Found by numerical probing of the hardware (Fasi, Higham,
//! Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores, 2021; Xie et al.: MMA-Sim, 2025); 225,000 captured results of
//! seven GPUs agree in every bit (`tests/it/tensor_core.rs`), those of 8-bit floats by wgmma without addend.
//!
//! wgmma adds as the Hopper mma.sync does: one block for the whole k. No result of f16 by wgmma was captured yet.

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
    pub fn value(self, bits: u32) -> f64 {
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

    /// An 8-bit float as f16, which holds it exactly.
    fn as_f16(self, bits: u32) -> u32 {
        if self.finite { F16.encode(self.value(bits)) } else { bits << (F16.fraction_bits - self.fraction_bits) }
    }

    /// The bits of a number that the format holds exactly; NaN as all ones below the sign.
    pub fn encode(self, x: f64) -> u32 {
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

/// The factors of a dot product: bit patterns, and of which format they are.
pub type Terms<'t> = [(Small, &'t [u32]); 2];

/// The blocks of a dot product's terms.
fn blocks<'t>(core: TensorCore, [(f, a), (g, b)]: Terms<'t>) -> impl Iterator<Item = Terms<'t>> {
    let group = core.group.max(1);
    a.chunks(group).zip(b.chunks(group)).map(move |(a, b)| [(f, a), (g, b)])
}

/// d = c + Σ a·b: bit patterns, of c and d of float32.
pub fn dot(core: TensorCore, terms: Terms<'_>, c: u32) -> u32 {
    let finish = |sum, scale| to_f32_truncated(sum, scale, core.result_bits);
    blocks(core, terms).fold(c, |sum, terms| block(core, terms, sum, finish))
}

/// The same with an f16 addend and result, rounded to nearest after each block.
pub fn dot_f16(core: TensorCore, terms: Terms<'_>, c: u16) -> u16 {
    let finish = |sum, scale| half::f16::from_f32(odd(sum, scale)).to_f32().to_bits();
    let sum = blocks(core, terms).fold(half::f16::from_bits(c), |sum, terms| {
        half::f16::from_f32(f32::from_bits(block(core, terms, sum.to_f32().to_bits(), finish)))
    });
    if sum.is_nan() { 0x7fff } else { sum.to_bits() }
}

/// c + Σ a·b of 8-bit floats as compute capability 9.0 and later do `mma.sync`: as two products of f16, k mod 4 < 2 first, then
/// the others, and c added last, rounded to nearest. `to_half`: sums and result in f16.
pub fn dot_by_halves(core: TensorCore, [(f, a), (g, b)]: Terms<'_>, c: f32, to_half: bool) -> f32 {
    let part = |format: Small, row: &[u32], odd: bool| -> Vec<u32> {
        let own = row.iter().enumerate().filter(|(k, _)| (k % 4 >= 2) == odd);
        own.map(|(_, &bits)| format.as_f16(bits)).collect()
    };
    let mut sum = 0;
    for odd in [false, true] {
        let (a, b) = (part(f, a, odd), part(g, b, odd));
        let terms = [(F16, &a[..]), (F16, &b[..])];
        sum = if to_half { u32::from(dot_f16(core, terms, sum as u16)) } else { dot(core, terms, sum) };
    }
    if to_half { (half::f16::from_bits(sum as u16) + half::f16::from_f32(c)).to_f32() } else { f32::from_bits(sum) + c }
}

/// sum · 2^scale as f32, truncated but for its last bit, which is one if something was cut off.
fn odd(sum: i64, scale: i32) -> f32 {
    let magnitude = sum.unsigned_abs();
    let extra = (64 - magnitude.leading_zeros()).saturating_sub(24);
    let cut = magnitude >> extra | (magnitude & ((1 << extra) - 1) != 0) as u64;
    let value = (cut as f64 * 2f64.powi(scale + extra as i32)) as f32;
    if sum < 0 { -value } else { value }
}

fn block(core: TensorCore, [(left, a), (right, b)]: Terms<'_>, c: u32, finish: impl Fn(i64, i32) -> u32) -> u32 {
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
        match (left.parts(a), right.parts(b)) {
            (Parts::Finite { significand: x, exponent: e }, Parts::Finite { significand: y, exponent: f }) => {
                terms[count] = (x * y, e + f, (left.fraction_bits + right.fraction_bits) as i32);
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
    let kept = core.fraction_bits as i32;
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

/// sum · 2^scale, cut to a float32 whose fraction has `bits` bits.
fn to_f32_truncated(sum: i64, scale: i32, bits: u32) -> u32 {
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
    let fraction = fraction & (u32::MAX << (23 - bits.min(23)));
    let field = if exponent < -126 { 0 } else { (exponent + 127) as u32 - 1 };
    if exponent < -126 { sign | fraction } else { sign | ((field << 23) + fraction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: TensorCore = TensorCore { group: 8, fraction_bits: 24, result_bits: 23 };

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
        let dot = |a: &[u32], c: f32| f32::from_bits(dot(CORE, [(F16, a), (F16, &[one; 8])], c.to_bits()));
        assert_eq!(dot(&[one; 8], 0.5), 8.5);
        // 2⁻²⁴ · 3 of the addend's last place: cut off below one extra bit.
        assert_eq!(dot(&[1, 0, 0, 0, 0, 0, 0, 0], 1.0), 1.0);
        assert_eq!(dot(&[0; 8], -0.0).to_bits(), 0);
        assert!(dot(&[0x7c00, 0xfc00], 0.0).is_nan());
        assert_eq!(dot(&[0x7c00, 1], 0.0), f32::INFINITY);
    }
}
