//! Elements as a file holds them, little-endian: their sizes, floats from them, and the search for values that are no numbers,
//! with which a model computes nothing.
//!
//! ```
//! use torch_file::{Dtype, elements};
//! let halves = [0x00, 0x3c, 0x00, 0x7c]; // 1 and infinity
//! let mut floats = [0.0; 2];
//! elements::to_f32(Dtype::F16, &halves, &mut floats);
//! assert_eq!(floats, [1.0, f32::INFINITY]);
//! assert_eq!(elements::first_not_finite(Dtype::F16, &halves), Some((1, f64::INFINITY)));
//! ```

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::Dtype;

/// Elements looked at before the answer is asked for: without a branch inside, the loop over them is one of vectors.
const BLOCK: usize = 4096;

/// Bytes of one element; 0 for types of less than a byte, which no tensor that is read has.
pub fn size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// Whether a type is float16, bfloat16, float32 or float64.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

/// Converts floats; `bytes` holds exactly `out.len()` elements.
///
/// # Panics
/// Where `dtype` is not one of [`is_float`], or `bytes` has another length.
pub fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert!(
        is_float(dtype) && bytes.len() == out.len() * size(dtype),
        "{dtype}: {} bytes for {} floats",
        bytes.len(),
        out.len()
    );
    if dtype == Dtype::F16 {
        // By the slice: the processor's own conversion, which one element alone does not get.
        const PART: usize = 4096;
        let mut part = [f16::ZERO; PART];
        for (out, bytes) in out.chunks_mut(PART).zip(bytes.chunks(2 * PART)) {
            let part = &mut part[..out.len()];
            for (x, b) in part.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = f16::from_le_bytes([b[0], b[1]]);
            }
            part.convert_to_f32_slice(out);
        }
        return;
    }
    if dtype == Dtype::F32 {
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, bytes)| *x = f32::from_le_bytes(*bytes));
        return;
    }
    for (x, bytes) in out.iter_mut().zip(bytes.chunks_exact(size(dtype))) {
        *x = element_f32(dtype, bytes);
    }
}

/// One float, of any type without rounding.
///
/// # Panics
/// As [`to_f32`].
pub fn to_f64(dtype: Dtype, bytes: &[u8]) -> f64 {
    match (dtype, bytes) {
        (Dtype::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => element_f32(dtype, bytes).into(),
    }
}

/// One float.
pub(crate) fn element_f32(dtype: Dtype, bytes: &[u8]) -> f32 {
    match (dtype, bytes) {
        (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (Dtype::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (Dtype::F64, _) => to_f64(dtype, bytes) as f32,
        _ => unreachable!("only floats are read as float32"),
    }
}

/// The first NaN or infinity among little-endian floats, by its index and value. `None` for every type but those of
/// [`is_float`].
pub fn first_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f64)> {
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
pub fn first_beyond(values: &[f32], limit: f32) -> Option<(usize, f32)> {
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
