//! Reading NumPy's array files, of strangers: a matrix of floats, or an error that names what else it is.

use half::f16;
use regex::Regex;

use super::MAGIC;
use crate::printable::shortened;

/// The largest file that is read: 512 × 8,192 values of float64.
pub(crate) const MAX_BYTES: u64 = 32 << 20;

/// Bytes of a header's text, at most; a matrix's has 118.
const MAX_HEADER: usize = 4096;

/// `values` are `[rows, columns]`, one row after the other; there is at least one, and all are finite.
#[derive(Debug, PartialEq)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    /// The matrix of a whole file, of float16, float32 or float64 in C's or Fortran's order.
    ///
    /// # Errors
    /// What is wrong with the file, to stand behind its name.
    pub fn parse(file: &[u8]) -> Result<Matrix, String> {
        let (text, data) = parts(file)?;
        let Header { element, in_columns, shape } = Header::parse(text)?;
        let [rows, columns] = shape[..] else {
            return Err(format!("has the shape {shape:?}; expected two dimensions, [rows, columns]"));
        };
        if rows == 0 || columns == 0 {
            return Err(format!("has the shape {shape:?}; expected at least one row and one column"));
        }
        let each = element.bytes();
        if rows.checked_mul(columns).and_then(|count| count.checked_mul(each)) != Some(data.len()) {
            return Err(format!("has {} bytes of values; its shape {shape:?} needs {each} for each", data.len()));
        }
        let stored = element.values(data);
        let values = if in_columns { by_rows(&stored, rows, columns) } else { stored };
        if let Some(i) = values.iter().position(|value| !value.is_finite()) {
            let [row, column] = [i / columns, i % columns];
            return Err(format!(
                "has {} at row {row}, column {column}; expected numbers that float32 holds",
                values[i]
            ));
        }
        Ok(Matrix { rows, columns, values })
    }
}

/// The header's text, and the values behind it.
fn parts(file: &[u8]) -> Result<(&str, &[u8]), String> {
    let cut = || "ends within its header; it was cut short".to_owned();
    let rest = file.strip_prefix(MAGIC).ok_or("does not begin as a NumPy file does")?;
    let ([version, _], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, rest) = match version {
        1 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        _ => return Err(format!("is of version {version} of NumPy's format; expected 1, 2 or 3")),
    }
    .ok_or_else(cut)?;
    if length > MAX_HEADER {
        return Err(format!("has a header of {length} bytes; expected at most {MAX_HEADER}"));
    }
    let (text, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((std::str::from_utf8(text).map_err(|_| "has a header that is no text")?, data))
}

struct Header {
    element: Element,
    /// Fortran's order: one column after the other.
    in_columns: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Of a dictionary as NumPy writes it: its keys in this order.
    fn parse(text: &str) -> Result<Header, String> {
        let form = r"^\{'descr': ?'([^']*)', ?'fortran_order': ?(True|False), ?'shape': ?\(([0-9, ]*)\),? ?\}\s*$";
        let found = Regex::new(form).expect("a constant").captures(text);
        let Some((_, [element, in_columns, shape])) = found.map(|found| found.extract()) else {
            return Err(format!("has the header {}; expected that of an array of floats", shortened(text.trim_end())));
        };
        let shape: Result<Vec<usize>, _> =
            shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(str::parse).collect();
        let shape = shape.map_err(|_| "has a shape that no memory holds")?;
        Ok(Header { element: Element::named(element)?, in_columns: in_columns == "True", shape })
    }
}

#[derive(Clone, Copy)]
enum Element {
    F16,
    F32,
    F64,
}

impl Element {
    fn named(name: &str) -> Result<Element, String> {
        match name {
            "<f2" => Ok(Element::F16),
            "<f4" => Ok(Element::F32),
            "<f8" => Ok(Element::F64),
            _ => Err(format!(
                "has values of type {}; expected float16, float32 or float64, little-endian (<f2, <f4, <f8)",
                shortened(name)
            )),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Element::F16 => 2,
            Element::F32 => 4,
            Element::F64 => 8,
        }
    }

    fn values(self, data: &[u8]) -> Vec<f32> {
        match self {
            Element::F16 => data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Element::F32 => data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Element::F64 => data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        }
    }
}

/// What lies one column after the other, one row after the other.
fn by_rows(stored: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| stored[i % columns * rows + i / columns]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of version 1.
    fn file(dictionary: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(dictionary.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &length, dictionary.as_bytes(), data].concat()
    }

    fn dictionary(element: &str, in_columns: &str, shape: &str) -> String {
        format!("{{'descr': '{element}', 'fortran_order': {in_columns}, 'shape': {shape}, }}\n")
    }

    fn bytes(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read_in_each_type() {
        let values = [1.0, -2.5, 3.0, 0.0, 65_504.0, 1e-3_f32];
        let mut plain = Vec::new();
        super::super::write(&mut plain, &[2, 3], &values).unwrap();
        let single = Matrix { rows: 2, columns: 3, values: values.to_vec() };
        assert_eq!(Matrix::parse(&plain).unwrap(), single);
        let double = bytes(&values.map(f64::from));
        assert_eq!(Matrix::parse(&file(&dictionary("<f8", "False", "(2, 3)"), &double)).unwrap(), single);
        let mut halves = Vec::new();
        super::super::write(&mut halves, &[2, 3], &values.map(f16::from_f32)).unwrap();
        let rounded = values.map(|value| f16::from_f32(value).to_f32()).to_vec();
        assert_eq!(Matrix::parse(&halves).unwrap().values, rounded);
    }

    #[test]
    fn columns_one_after_the_other_are_put_in_rows() {
        let stored = bytes(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let matrix = Matrix::parse(&file(&dictionary("<f8", "True", "(2, 3)"), &stored)).unwrap();
        assert_eq!(matrix.values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn what_is_no_matrix_of_numbers_is_named() {
        let good = bytes(&[1.0, 2.0]);
        for (element, in_columns, shape, data, words) in [
            ("<i8", "False", "(1, 2)", &good, "type <i8"),
            (">f8", "False", "(1, 2)", &good, "type >f8"),
            ("|O", "False", "(1, 2)", &good, "type |O"),
            ("<f8", "False", "(2,)", &good, "shape [2]"),
            ("<f8", "False", "()", &good, "shape []"),
            ("<f8", "False", "(1, 1, 2)", &good, "shape [1, 1, 2]"),
            ("<f8", "False", "(0, 2)", &good, "at least one row"),
            ("<f8", "False", "(1, 3)", &good, "16 bytes of values"),
            ("<f4", "False", "(1, 2)", &good, "16 bytes of values"),
            ("<f8", "False", "(4294967296, 4294967296)", &good, "16 bytes of values"),
            ("<f8", "False", "(99999999999999999999, 1)", &good, "no memory holds"),
            ("<f8", "Maybe", "(1, 2)", &good, "Maybe"),
            ("<f8", "False", "(1, -2)", &good, "-2"),
            ("<f8", "False", "(2, 1)", &bytes(&[0.0, f64::NAN]), "NaN at row 1, column 0"),
            ("<f8", "True", "(2, 1)", &bytes(&[0.0, 1e39]), "inf at row 1, column 0"),
        ] {
            let error = Matrix::parse(&file(&dictionary(element, in_columns, shape), data)).unwrap_err();
            assert!(error.contains(words), "{element} {in_columns} {shape}: {error}");
        }
        let structured = "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1, 2), }";
        assert!(Matrix::parse(&file(structured, &good)).unwrap_err().contains("descr"));
        assert!(Matrix::parse(&file(&" ".repeat(5000), &good)).unwrap_err().contains("5000 bytes"));
        assert!(Matrix::parse(b"\x93NUMPY\x09\x00\x00\x00").unwrap_err().contains("version 9"));
        assert!(Matrix::parse(b"\x93NUMPY\x02\x00\xFF\xFF\xFF\xFF").unwrap_err().contains("4294967295 bytes"));
    }

    /// Cut at every byte and with every byte changed: an error or a matrix, and no panic.
    #[test]
    fn damaged_files_are_errors() {
        let whole = file(&dictionary("<f8", "True", "(1, 2)"), &bytes(&[1.0, 2.0]));
        for length in 0..whole.len() {
            assert!(Matrix::parse(&whole[..length]).is_err(), "{length}");
        }
        for (i, byte) in (0..whole.len()).flat_map(|i| (0..=255).map(move |byte| (i, byte))) {
            let mut changed = whole.clone();
            changed[i] = byte;
            if let Ok(matrix) = Matrix::parse(&changed) {
                assert_eq!(matrix.values.len(), 2);
            }
        }
    }
}
