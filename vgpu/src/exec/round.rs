//! Directed rounding: the exact result as a float near it and the side on which it lies.

use crate::ir::Round;

/// A float and its neighbours.
pub(super) trait Float: Copy + PartialOrd {
    const ZERO: Self;
    fn up(self) -> Self;
    fn down(self) -> Self;
}

impl Float for f32 {
    const ZERO: f32 = 0.0;
    fn up(self) -> f32 {
        self.next_up()
    }
    fn down(self) -> f32 {
        self.next_down()
    }
}

impl Float for f64 {
    const ZERO: f64 = 0.0;
    fn up(self) -> f64 {
        self.next_up()
    }
    fn down(self) -> f64 {
        self.next_down()
    }
}

/// `near` is the exact value rounded to nearest; `rest` has the sign of exact − near.
pub(super) fn directed<F: Float>(near: F, rest: f64, round: Round) -> F {
    let above = rest > 0.0;
    if rest == 0.0 || rest.is_nan() {
        return near;
    }
    match round {
        Round::Rm if !above => near.down(),
        Round::Rp if above => near.up(),
        Round::Rz if above && near < F::ZERO => near.up(),
        Round::Rz if !above && near > F::ZERO => near.down(),
        _ => near,
    }
}

/// a + b as their rounded sum and what is missing from it (Knuth's two-sum).
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    if !sum.is_finite() {
        return (sum, 0.0);
    }
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// The f32 of sum + rest, an exact value as [`two_sum`] leaves it, rounded once.
pub(super) fn to_f32(sum: f64, rest: f64, round: Round) -> f32 {
    // Odd: a rounding to 53 bits that a second one to 24 cannot tell from the exact value.
    let odd = to_odd(sum, rest);
    let near = odd as f32;
    if !sum.is_finite() {
        return near;
    }
    directed(near, odd - near as f64, round)
}

/// sum + rest rounded to the neighbouring float whose last bit is odd, unless it is exact.
pub(super) fn to_odd(sum: f64, rest: f64) -> f64 {
    if rest == 0.0 || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    if rest > 0.0 { sum.next_up() } else { sum.next_down() }
}

/// f64 → f32 by rounding to odd, for a later rounding to fewer bits (22 at most).
#[inline(always)]
pub(super) fn odd_f32(x: f64) -> f32 {
    let near = x as f32;
    let back = near as f64;
    if back == x || !near.is_finite() || near.to_bits() & 1 == 1 {
        // An overflow stays one: 16-bit floats overflow far below, bf16 at the same place.
        return near;
    }
    let magnitude_above = x.abs() > back.abs();
    f32::from_bits(if magnitude_above { near.to_bits() + 1 } else { near.to_bits() - 1 })
}

/// Sum by sign rules: an exact zero of unlike signs is −0 only when rounding down.
pub(super) fn zero_sign(sum: f32, a: f64, b: f64, round: Round) -> f32 {
    let unlike = a.is_sign_negative() != b.is_sign_negative();
    if sum == 0.0 && a == -b && unlike && round == Round::Rm { -0.0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_each_side() {
        let (sum, rest) = two_sum(1.0, 2f64.powi(-80));
        assert_eq!(to_f32(sum, rest, Round::Rp), 1f32.next_up());
        assert_eq!(to_f32(sum, rest, Round::Rm), 1.0);
        assert_eq!(to_f32(sum, rest, Round::Rz), 1.0);
        let (sum, rest) = two_sum(-1.0, 2f64.powi(-80));
        assert_eq!(to_f32(sum, rest, Round::Rz), (-1f32).next_up());
        assert_eq!(to_f32(sum, rest, Round::Rn), -1.0);
        assert_eq!(to_f32(1e300, 0.0, Round::Rz), f32::MAX);
        assert_eq!(to_f32(1e300, 0.0, Round::Rp), f32::INFINITY);
        assert_eq!(to_f32(1e300, 0.0, Round::Rn), f32::INFINITY);
    }

    #[test]
    fn a_tie_with_a_rest_is_no_tie() {
        let tie = 1.0 + 2f64.powi(-24);
        let (sum, rest) = two_sum(tie, 2f64.powi(-90));
        assert_eq!(to_f32(sum, rest, Round::Rn), 1f32.next_up());
        let (sum, rest) = two_sum(tie, -2f64.powi(-90));
        assert_eq!(to_f32(sum, rest, Round::Rn), 1.0);
    }
}
