//! Values that are no numbers, found by their exponents' bits: a model with one of them computes nothing.

use half::{bf16, f16};
use safetensors::Dtype;

/// Elements looked at before the answer is asked for: without a branch inside, the loop over them is one of vectors.
const BLOCK: usize = 4096;

/// The first NaN or infinity among little-endian floats, by its index and value. `None` for types that have neither.
pub(crate) fn first_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f64)> {
    match dtype {
        Dtype::F16 => first(bytes.as_chunks().0, |&b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00)
            .map(|(i, &b)| (i, f16::from_le_bytes(b).to_f64())),
        Dtype::BF16 => first(bytes.as_chunks().0, |&b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80)
            .map(|(i, &b)| (i, bf16::from_le_bytes(b).to_f64())),
        Dtype::F32 => first(bytes.as_chunks().0, |&b| !is_finite(u32::from_le_bytes(b)))
            .map(|(i, &b)| (i, f32::from_le_bytes(b).into())),
        Dtype::F64 => first(bytes.as_chunks().0, |&b| u64::from_le_bytes(b) & (0x7ff << 52) == 0x7ff << 52)
            .map(|(i, &b)| (i, f64::from_le_bytes(b))),
        _ => None,
    }
}

/// The first value that is NaN or larger than `limit` in size, by its index and value.
pub(crate) fn first_beyond(values: &[f32], limit: f32) -> Option<(usize, f32)> {
    // As whole numbers: sizes in their order, infinity above them, NaN above all.
    let size = |x: f32| x.to_bits() & 0x7fff_ffff;
    first(values, |x| size(*x) > size(limit)).map(|(i, &x)| (i, x))
}

fn is_finite(bits: u32) -> bool {
    bits & 0x7f80_0000 != 0x7f80_0000
}

/// The first element that is `bad`, with its index.
fn first<T>(elements: &[T], bad: impl Fn(&T) -> bool) -> Option<(usize, &T)> {
    let blocks = elements.chunks(BLOCK).enumerate();
    let mut bad_blocks = blocks.filter(|(_, block)| block.iter().fold(false, |any, element| any | bad(element)));
    let (block, elements) = bad_blocks.next()?;
    let (i, element) = elements.iter().enumerate().find(|(_, element)| bad(element))?;
    Some((block * BLOCK + i, element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_type_is_found_at_any_place() {
        let types = [
            (Dtype::F16, f16::INFINITY.to_le_bytes().to_vec(), f16::MAX.to_le_bytes().to_vec()),
            (Dtype::BF16, bf16::NEG_INFINITY.to_le_bytes().to_vec(), bf16::MIN.to_le_bytes().to_vec()),
            (Dtype::F32, f32::INFINITY.to_le_bytes().to_vec(), f32::MIN.to_le_bytes().to_vec()),
            (Dtype::F64, f64::NEG_INFINITY.to_le_bytes().to_vec(), f64::MAX.to_le_bytes().to_vec()),
        ];
        for (dtype, infinite, finite) in types {
            for count in [1, 7, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
                let good = finite.repeat(count);
                assert_eq!(first_not_finite(dtype, &good), None, "{dtype:?}");
                for at in [0, count / 2, count - 1] {
                    let mut bytes = good.clone();
                    bytes[at * infinite.len()..][..infinite.len()].copy_from_slice(&infinite);
                    let (index, value) = first_not_finite(dtype, &bytes).unwrap();
                    assert!(index == at && value.is_infinite(), "{dtype:?}: {index}, {value}");
                }
            }
        }
        assert_eq!(first_not_finite(Dtype::U8, &[0xff; 8]), None);
    }

    #[test]
    fn every_nan_and_no_number_is_told() {
        assert!((0..=u16::MAX).all(|bits| {
            let [half, brain] = [Dtype::F16, Dtype::BF16].map(|d| first_not_finite(d, &bits.to_le_bytes()).is_none());
            half == f16::from_bits(bits).is_finite() && brain == bf16::from_bits(bits).is_finite()
        }));
        for x in [0.0, -0.0, 1e-45, f32::MAX, f32::NAN, -f32::NAN, f32::INFINITY, f32::from_bits(0x7f80_0001)] {
            assert_eq!(first_beyond(&[1.0, x], f32::MAX).is_none(), x.is_finite(), "{x}");
            assert_eq!(first_beyond(&[1.0, -x], 65504.0).is_none(), x.abs() <= 65504.0, "{x}");
            assert_eq!(first_not_finite(Dtype::F32, &x.to_le_bytes()).is_none(), x.is_finite(), "{x}");
        }
    }
}
