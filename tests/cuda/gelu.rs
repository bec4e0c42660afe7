//! The GELU of the products' epilogue, whose error function is an approximation, and the QuickGELU, whose quotient is one, on every
//! value that float16 has.

use half::f16;
use lseg_fast::ops::{Element, Epilogue, Func, Linear, Upload};

use crate::gpu::device;
use testing::cases::reference::erf;
use testing::cases::{Values, pass};

/// A product with the unit matrix, which leaves the values as they are for the epilogue.
const WIDTH: usize = 8;
/// Largest error: half a unit is the result's rounding.
const LIMIT: f64 = 0.65;

/// The distance of neighbouring float16 values of this size.
fn unit(value: f64) -> f64 {
    2f64.powf(value.abs().max(2f64.powi(-14)).log2().floor() - 10.0)
}

/// The largest error of this function on every float16, and where: of a float16 of the right value's size, in units of the last
/// place.
fn worst(func: Func, right: impl Fn(f64) -> f64) -> Option<(f64, f64)> {
    let mut cuda = device()?;
    let finite = |value: &f16| value.is_finite();
    let mut halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(finite).collect();
    halves.resize(halves.len().next_multiple_of(WIDTH), f16::ZERO);
    let (rows, values) = (halves.len() / WIDTH, Values::F32(halves.iter().map(|value| value.to_f32()).collect()));
    let unit_matrix: Vec<f32> = (0..WIDTH * WIDTH).map(|i| f32::from(u8::from(i % WIDTH == i / WIDTH))).collect();
    let weight = cuda.matrix(WIDTH, WIDTH, &unit_matrix).unwrap();
    let got = pass(&mut cuda, &[&values], |d| {
        let x = d.buffer("x", [1, 1, rows, WIDTH], Element::Activation);
        let out = d.buffer("out", [1, 1, rows, WIDTH], Element::Activation);
        d.gemm(x.all(), &Linear { weight, bias: None }, Epilogue::func(func), out.all());
        (vec![x], out)
    });
    let mut worst = (0.0, 0.0);
    for (x, got) in halves.iter().map(|x| x.to_f64()).zip(got) {
        let right = right(x);
        let error = (f64::from(got) - right).abs() / unit(right);
        // NaN must not pass.
        assert!(error <= LIMIT, "{func:?} of {x} is {got}, not {right}: off by {error} units");
        if error > worst.0 {
            worst = (error, x);
        }
    }
    Some(worst)
}

#[test]
fn gelu_is_right_to_the_last_place_of_every_half() {
    // x/2·(1 + erf(x/√2)) without its cancellation on the left.
    let gelu = |x: f64| if x < 0.0 { 0.5 * x * erfc(-x / 2f64.sqrt()) } else { 0.5 * x * (1.0 + erf(x / 2f64.sqrt())) };
    let Some(worst) = worst(Func::Gelu, gelu) else { return };
    // The bound is no looser than it must be.
    assert!(worst.0 > 0.5, "{worst:?}");
}

#[test]
fn quick_gelu_is_right_to_the_last_place_of_every_half() {
    let Some(worst) = worst(Func::QuickGelu, |x| x / (1.0 + (-1.702 * x).exp())) else { return };
    assert!(worst.0 > 0.49, "{worst:?}");
}

/// 1 − erf of what is not negative: a continued fraction (Lentz) where erf is near 1.
fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        return 1.0 - erf(x);
    }
    // x + (1/2)/(x + 1/(x + (3/2)/(x + 2/(x + …)))), Abramowitz and Stegun 7.1.14.
    let fraction = (1..=60).rev().fold(x, |below, k| x + 0.5 * f64::from(k) / below);
    (-x * x).exp() / (std::f64::consts::PI.sqrt() * fraction)
}
