//! Elementary functions as straight-line float32 arithmetic, so that loops over them become vectors.

use super::simd::mul_add;
use crate::ops::Func;

/// Adding and subtracting this rounds a float32 of small magnitude to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// 1/√x; NaN, not 0, where x is infinite: a sum of squares that overflowed must not end as a number.
#[inline(always)]
pub fn inverse_root(x: f32) -> f32 {
    if x == f32::INFINITY { f32::NAN } else { 1.0 / x.sqrt() }
}

/// eˣ, relative error below 2e-7; 1.2e-38 (not 0) below −87, infinity is out of reach above 88.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Comparisons in this order keep a NaN.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the reduced argument keeps its digits (Cody & Waite).
    let r = mul_add::<FMA>(n, -0.693_359_4, x);
    let r = mul_add::<FMA>(n, 2.121_944_4e-4, r);
    // Minimax on ±ln2/2, relative error 3e-9 before rounding.
    let p = 0.001_381_460_8;
    let p = mul_add::<FMA>(p, r, 0.008_368_711);
    let p = mul_add::<FMA>(p, r, 0.041_668_39);
    let p = mul_add::<FMA>(p, r, 0.166_665_21);
    let p = mul_add::<FMA>(p, r, 0.499_999_94);
    let p = mul_add::<FMA>(p * r, r, r) + 1.0;
    // The low bits of `shifted` hold n: moved into the exponent they multiply by 2ⁿ.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    p * scale
}

/// erf(x), absolute error below 4e-7.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let z = x * x;
    // Rational minimax in x² on [0, 16], relative error 2.5e-8 before rounding.
    let p = 1.986_849_2e-6;
    let p = mul_add::<FMA>(p, z, 2.845_591_5e-4);
    let p = mul_add::<FMA>(p, z, 3.883_008_8e-3);
    let p = mul_add::<FMA>(p, z, 5.310_07e-2);
    let p = mul_add::<FMA>(p, z, 0.193_537_09);
    let p = mul_add::<FMA>(p, z, std::f32::consts::FRAC_2_SQRT_PI);
    let q = 3.742_052_6e-5;
    let q = mul_add::<FMA>(q, z, 1.185_491_8e-3);
    let q = mul_add::<FMA>(q, z, 1.520_657_5e-2);
    let q = mul_add::<FMA>(q, z, 0.115_346_715);
    let q = mul_add::<FMA>(q, z, 0.504_850_3);
    let q = mul_add::<FMA>(q, z, 1.0);
    let inside = x * p / q;
    // Beyond 4 it is 1 to within 2e-8; exactly 1, so that large negative inputs of GELU become 0.
    let y = if x < -4.0 { -1.0 } else { inside };
    if x > 4.0 { 1.0 } else { y }
}

#[inline(always)]
pub fn gelu<const FMA: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
pub fn quick_gelu<const FMA: bool>(x: f32) -> f32 {
    x / (1.0 + exp::<FMA>(-1.702 * x))
}

/// A ReLU that lets NaN through, as PyTorch's does.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `func` on every value of `v`.
#[inline(always)]
pub fn apply<const FMA: bool, const N: usize>(func: Func, v: &mut [f32; N]) {
    match func {
        Func::Identity => {}
        Func::Relu => v.iter_mut().for_each(|x| *x = relu(*x)),
        Func::Gelu => v.iter_mut().for_each(|x| *x = gelu::<FMA>(*x)),
        Func::QuickGelu => v.iter_mut().for_each(|x| *x = quick_gelu::<FMA>(*x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its Maclaurin series in float64 (converges for every |x| ≤ 6).
    fn erf64(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn elementary_functions_against_float64() {
        for i in -80_000..=80_000 {
            let x = i as f32 * 1e-3;
            let want = (x as f64).exp();
            for got in [exp::<true>(x), exp::<false>(x)] {
                assert!(((got as f64 - want) / want).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
        }
        for i in -5_000..=5_000 {
            let x = i as f32 * 1e-3;
            for got in [erf::<true>(x), erf::<false>(x)] {
                assert!((got as f64 - erf64(x as f64)).abs() < 5e-7, "erf({x}) = {got}");
            }
        }
        assert!(exp::<true>(f32::NEG_INFINITY) < 2e-38 && exp::<false>(-1e30) < 2e-38);
        assert!(exp::<true>(f32::NAN).is_nan() && gelu::<true>(f32::NAN).is_nan() && relu(f32::NAN).is_nan());
        assert_eq!((gelu::<true>(100.0), gelu::<true>(-100.0), relu(-1.0)), (100.0, 0.0, 0.0));
        assert_eq!((gelu::<false>(f32::MAX), erf::<true>(f32::INFINITY)), (f32::MAX, 1.0));
    }
}
