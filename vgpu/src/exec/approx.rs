//! The approximate operations, computed accurately in f64 and rounded; with jitter, moved within the error that the
//! PTX ISA documents for each.

use crate::ir::UnOp;

/// Moves results of approximate operations deterministically: a hash of where and when they run.
#[derive(Clone, Copy)]
pub(super) struct Jitter {
    pub on: bool,
    pub seed: u64,
}

impl Jitter {
    /// −1…1, of the lane.
    fn unit(self, lane: usize) -> f64 {
        let hash = mix(self.seed ^ (lane as u64) << 56);
        (hash >> 11) as f64 * 2f64.powi(-52) - 1.0
    }

    /// A value with at most `bound` of error before it is rounded to f32 (which costs 2⁻²⁴).
    pub fn relative(self, x: f64, bound: f64, lane: usize) -> f64 {
        if self.on { x + x * bound * self.unit(lane) } else { x }
    }

    fn absolute(self, x: f64, bound: f64, lane: usize) -> f64 {
        if self.on { x + bound * self.unit(lane) } else { x }
    }
}

/// A well-mixed 64-bit number (the finaliser of splitmix64).
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 2^x to about 1e-13, by a polynomial for the fraction and the exponent's bits for the rest. Vectorises.
#[inline(always)]
pub(super) fn exp2(x: f64) -> f64 {
    // Beyond these the result is 0 or infinity in every float up to 32 bits; NaN stays.
    let bounded = x.clamp(-1000.0, 1000.0);
    const MAGIC: f64 = 6755399441055744.0; // 1.5 · 2⁵²: adding it rounds to an integer in the low bits
    let shifted = bounded + MAGIC;
    let fraction = bounded - (shifted - MAGIC);
    // Taylor series of 2^f = e^(f ln 2), |f| ≤ 1/2.
    const C: [f64; 11] = [
        1.0,
        std::f64::consts::LN_2,
        0.240_226_506_959_100_7,
        0.055_504_108_664_821_58,
        0.009_618_129_107_628_477,
        0.001_333_355_814_642_844_3,
        0.000_154_035_303_933_816_1,
        0.000_015_252_733_804_059_84,
        0.000_001_321_548_679_014_431,
        1.017_808_600_923_97e-7,
        7.054_911_620_801_123e-9,
    ];
    let mut sum = C[10];
    for i in (0..10).rev() {
        sum = sum * fraction + C[i];
    }
    let exponent = (shifted.to_bits() << 52).wrapping_add(sum.to_bits());
    let value = f64::from_bits(exponent);
    if x.is_nan() { x } else { value }
}

/// An approximate function of f32 by its exact counterpart, each bound from its description in the PTX ISA.
pub(super) fn exact(op: UnOp, x: f32, jitter: Jitter, lane: usize) -> f32 {
    let wide = x as f64;
    let half_ulp = 2f64.powi(-24);
    let value = match op {
        UnOp::SqrtApprox => jitter.relative(wide.sqrt(), 2f64.powi(-23) - half_ulp, lane),
        UnOp::RsqrtApprox => jitter.relative(1.0 / wide.sqrt(), 2f64.powf(-22.9) - half_ulp, lane),
        UnOp::RcpApprox => jitter.relative(1.0 / wide, half_ulp, lane),
        UnOp::Ex2Approx => jitter.relative(exp2(wide), 2f64.powf(-22.5) - half_ulp, lane),
        // Absolute near 1, where the result is near 0.
        UnOp::Lg2Approx if (0.5..=2.0).contains(&x) => jitter.absolute(wide.log2(), 2f64.powi(-22) - half_ulp, lane),
        UnOp::Lg2Approx => jitter.relative(wide.log2(), 2f64.powi(-22) - half_ulp, lane),
        UnOp::SinApprox => jitter.absolute(wide.sin(), 2f64.powf(-20.5) - half_ulp, lane),
        UnOp::CosApprox => jitter.absolute(wide.cos(), 2f64.powf(-20.5) - half_ulp, lane),
        UnOp::TanhApprox => {
            let moved = jitter.relative(wide.tanh(), 2f64.powi(-11) - half_ulp, lane);
            if jitter.on { moved.clamp(-1.0, 1.0) } else { moved }
        }
        _ => wide,
    };
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_accurate() {
        for i in -1600..1600 {
            let x = i as f64 * 0.0937;
            let error = (exp2(x) / x.exp2() - 1.0).abs();
            assert!(error < 1e-12, "2^{x}: {error:e}");
        }
        assert_eq!(exp2(f64::NEG_INFINITY) as f32, 0.0);
        assert_eq!(exp2(f64::INFINITY) as f32, f32::INFINITY);
        assert!(exp2(f64::NAN).is_nan());
    }

    #[test]
    fn jitter_keeps_within_the_bound() {
        for lane in 0..32 {
            let jitter = Jitter { on: true, seed: 7 };
            let error = (jitter.relative(1.0, 1e-6, lane) - 1.0).abs();
            assert!(error <= 1e-6);
        }
    }
}
