//! NumPy's array files (.npy, version 1.0: a magic number, a header in Python's notation, then the raw values).
//!
//! By hand, not by the crate npyz: that aligns the values to 16 bytes where NumPy itself writes 64, takes value by value where
//! here whole planes go out as they lie in memory, and brings a parser of Python's literals (20 crates) for the one header that is
//! read here, a matrix's.

#[cfg(feature = "cli")]
pub(crate) mod read;

use std::io::{self, Write};

use bytemuck::NoUninit;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// What all of these files begin with.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// The element type of a written array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// float16, rounded to the nearest even.
    F16,
    /// float32.
    F32,
}

/// An element type that NumPy knows. Values are written as they lie in memory; the header names their byte order.
pub trait Element: NoUninit {
    /// NumPy's name of the type, without the byte order.
    const NAME: &'static str;
}

impl Element for f32 {
    const NAME: &'static str = "f4";
}

impl Element for f16 {
    const NAME: &'static str = "f2";
}

impl Element for u64 {
    const NAME: &'static str = "u8";
}

/// Writes `data`, a dense array of `shape` in C order, without copying it.
///
/// # Errors
/// What writing to `out` yields, and `InvalidInput` if the shape does not have as many elements as `data`.
pub fn write<T: Element>(mut out: impl Write, shape: &[usize], data: &[T]) -> io::Result<()> {
    if shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)) != Some(data.len()) {
        let what = format!("{} values for an array of shape {shape:?}", data.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    out.write_all(&header(T::NAME, shape)?)?;
    out.write_all(bytemuck::cast_slice(data))
}

/// Writes the header of an array whose values follow by [`write_values`].
///
/// # Errors
/// What writing to `out` yields, and `InvalidInput` for too many dimensions.
pub fn write_header(out: &mut impl Write, dtype: Dtype, shape: &[usize]) -> io::Result<()> {
    let name = match dtype {
        Dtype::F16 => f16::NAME,
        Dtype::F32 => f32::NAME,
    };
    out.write_all(&header(name, shape)?)
}

/// Writes values after [`write_header`], converted to its element type.
///
/// # Errors
/// What writing to `out` yields.
pub fn write_values(out: &mut impl Write, dtype: Dtype, values: &[f32]) -> io::Result<()> {
    const BLOCK: usize = 4096;
    if dtype == Dtype::F32 {
        return out.write_all(bytemuck::cast_slice(values));
    }
    let mut halves = [f16::ZERO; BLOCK];
    for block in values.chunks(BLOCK) {
        let halves = &mut halves[..block.len()];
        halves.convert_from_f32_slice(block);
        out.write_all(bytemuck::cast_slice(halves))?;
    }
    Ok(())
}

/// Magic number, version, length and header text, padded with spaces so that the values start at a multiple of 64.
fn header(element: &str, shape: &[usize]) -> io::Result<Vec<u8>> {
    const BEFORE_TEXT: usize = 10;
    let order = if cfg!(target_endian = "little") { '<' } else { '>' };
    let dimensions: Vec<String> = shape.iter().map(usize::to_string).collect();
    // Python's tuple of one element has a trailing comma.
    let comma = if shape.len() == 1 { "," } else { "" };
    let text = format!(
        "{{'descr': '{order}{element}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        dimensions.join(", ")
    );
    let total = (BEFORE_TEXT + text.len() + 1).next_multiple_of(64);
    let length = u16::try_from(total - BEFORE_TEXT)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many dimensions for an array file"))?;
    let mut bytes = [MAGIC, &[1, 0]].concat();
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.bytes());
    bytes.resize(total - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_file_is_what_numpy_writes() {
        // numpy.save(f, numpy.array([[1, 2, 3]], "f4")) of NumPy 2, in hexadecimal but for the header's text.
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }");
        expected.resize(127, b' ');
        expected.push(b'\n');
        expected.extend([0, 0, 0x80, 0x3F, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40]);
        let mut file = Vec::new();
        write(&mut file, &[1, 3], &[1.0_f32, 2.0, 3.0]).unwrap();
        assert_eq!(file, expected);
    }

    #[test]
    fn shapes_are_python_tuples() {
        for (shape, tuple) in [(&[][..], "()"), (&[7], "(7,)"), (&[2, 0, 3], "(2, 0, 3)")] {
            let header = header("f2", shape).unwrap();
            assert!(String::from_utf8_lossy(&header).contains(&format!("'shape': {tuple}, }}")));
            assert_eq!(header.len() % 64, 0);
        }
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        for shape in [&[2, 2][..], &[usize::MAX, 3], &[]] {
            assert_eq!(write(io::sink(), shape, &[0.0_f32; 3]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
