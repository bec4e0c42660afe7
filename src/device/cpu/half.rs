//! Weights in half the memory, where that loses nothing: as bits of float16.
//!
//! Both conversions are shifts and one product by a power of two, which moves the exponents' origins (15 and 127) over
//! each other, subnormals included; the compiler makes vectors of them. The largest exponent is one like the others
//! here: what float16 has for infinities and NaN would come back as numbers, and so those stay float32.

/// 2¹¹² and its inverse: 112 = 127 − 15.
const UP: f32 = f32::from_bits((127 + 112) << 23);
const DOWN: f32 = f32::from_bits((127 - 112) << 23);

/// Bits of float16 → float32.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    // Sign, five bits of exponent and ten of mantissa, each to where float32 has them.
    let placed = (i32::from(bits as i16) << 13) as u32 & 0x8fff_ffff;
    f32::from_bits(placed) * UP
}

/// The bits that [`widen`] makes `value` of, where such bits exist.
#[inline(always)]
pub fn narrow(value: f32) -> u16 {
    let magnitude = (value.abs() * DOWN).to_bits() >> 13;
    (value.to_bits() >> 16 & 0x8000 | magnitude & 0x7fff) as u16
}

/// Whether every value comes back from [`narrow`] as it was, to the bit.
pub fn exact(values: &[f32]) -> bool {
    values.iter().fold(0, |differences, value| differences | (widen(narrow(*value)).to_bits() ^ value.to_bits())) == 0
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_float16_is_kept_to_the_bit() {
        for bits in 0..=u16::MAX {
            let (want, value) = (f16::from_bits(bits), f16::from_bits(bits).to_f32());
            assert_eq!(exact(&[1.0, value]), want.is_finite(), "{want:?}");
            if want.is_finite() {
                assert_eq!(widen(bits).to_bits(), value.to_bits(), "{want:?}");
                assert_eq!(narrow(value), bits, "{want:?}");
            }
        }
    }

    /// The neighbours of every float16, values beyond its range, and float32's own subnormals.
    #[test]
    fn nothing_else_passes_for_float16() {
        let between = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).filter(|value| value.is_finite());
        for value in between.flat_map(|value| [value.next_up(), value.next_down(), value * 1.000_244_1]) {
            let is_half = f16::from_f32(value).to_f32() == value;
            assert!(is_half || !exact(&[value]), "{value:e}");
        }
        for value in [1e30, -131_072.0, f32::MIN_POSITIVE, f32::from_bits(1), -1e-40, f32::INFINITY, f32::NAN] {
            assert!(!exact(&[value]), "{value:e}");
        }
    }
}
