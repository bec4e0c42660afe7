//! Points of a photo, from a file: `x,y` a line, in photo pixels.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Terminator};

use crate::{Error, Result};

/// The most points of one file: their embeddings are formed at once.
pub const MAX_POINTS: usize = 1 << 18;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Points in the order of their file.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    path: PathBuf,
    /// (x, y), the centre of pixel 0 at 0.
    values: Vec<[f32; 2]>,
    /// The line of the file that each stands in, from 1.
    lines: Vec<usize>,
}

impl Points {
    /// Reads a file: the header `x,y`, then two numbers a line. Spaces around them, empty lines, CRLF and a byte order
    /// mark make no difference.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Points`], with the line, for another header, a line that is
    /// not two finite numbers, no point at all, more than [`MAX_POINTS`], or what is not UTF-8.
    pub fn read(path: &Path) -> Result<Points> {
        let file = File::open(path).map_err(|e| Error::io("open the points", path, e))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read the points", path, e))?;
        Points::parse(path, &bytes).map_err(|reason| Error::Points(format!("{}: {reason}", path.display())))
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Points, String> {
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("more than {} MiB; expected at most {MAX_POINTS} points", MAX_FILE_BYTES >> 20));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = 1 + bytes.iter().take(e.valid_up_to()).filter(|byte| **byte == b'\n').count();
            format!("line {line} is not UTF-8; save the file as plain text")
        })?;
        let mut records = records(text);
        match records.next() {
            Some((_, header)) if header.iter().map(str::trim).eq(["x", "y"]) => {}
            Some((line, other)) => {
                return Err(format!("line {line}: expected the header x,y, found {}", shown(&other)));
            }
            None => return Err("an empty file; expected the header x,y and a point a line".into()),
        }
        let mut points = Points { path: path.to_owned(), values: Vec::new(), lines: Vec::new() };
        for (line, pair) in records {
            let value = point(&pair)
                .ok_or_else(|| format!("line {line}: expected two numbers such as 12.5,40, found {}", shown(&pair)))?;
            if points.values.len() == MAX_POINTS {
                return Err(format!("line {line}: more than {MAX_POINTS} points; split the file"));
            }
            points.values.push(value);
            points.lines.push(line);
        }
        if points.values.is_empty() {
            return Err("no points; expected one a line after the header x,y".into());
        }
        Ok(points)
    }

    /// (x, y) of each.
    pub fn values(&self) -> &[[f32; 2]] {
        &self.values
    }

    /// Whether all lie in a photo of this size.
    ///
    /// # Errors
    /// [`Error::Points`] with the line of the first that does not.
    pub fn check(&self, height: usize, width: usize) -> Result<()> {
        match self.values.iter().zip(&self.lines).find(|(point, _)| !inside(**point, height, width)) {
            Some((point, line)) => {
                Err(outside(&format!("{}: line {line}", self.path.display()), *point, height, width))
            }
            None => Ok(()),
        }
    }
}

/// The lines that are not blank, with their numbers.
fn records(text: &str) -> impl Iterator<Item = (usize, StringRecord)> {
    let mut lines = ReaderBuilder::new();
    lines.has_headers(false).flexible(true).quoting(false).terminator(Terminator::Any(b'\n'));
    // Every record then ends with its line, the last one too.
    let mut reader = lines.from_reader(text.as_bytes().chain(&b"\n"[..]));
    let next = move || {
        let mut record = StringRecord::new();
        let there = reader.read_record(&mut record).expect("UTF-8 in memory, any number of fields");
        // The number of the record's own position is that of the first blank line before it.
        there.then(|| (reader.position().line() as usize - 1, record))
    };
    std::iter::from_fn(next).filter(|(_, record)| record.len() > 1 || !record[0].trim().is_empty())
}

fn point(pair: &StringRecord) -> Option<[f32; 2]> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|value| value.is_finite());
    if pair.len() != 2 {
        return None;
    }
    Some([number(&pair[0])?, number(&pair[1])?])
}

/// The line in quotes, cut where it is long.
fn shown(record: &StringRecord) -> String {
    const LONGEST: usize = 40;
    let line = record.iter().collect::<Vec<_>>().join(",");
    let text = line.trim();
    let mut start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// A photo's pixels reach half a pixel beyond their centres.
pub(crate) fn inside([x, y]: [f32; 2], height: usize, width: usize) -> bool {
    let within = |value: f32, size: usize| value >= -0.5 && f64::from(value) <= size as f64 - 0.5;
    within(x, width) && within(y, height)
}

pub(crate) fn outside(place: &str, [x, y]: [f32; 2], height: usize, width: usize) -> Error {
    let (right, bottom) = (width as f64 - 0.5, height as f64 - 0.5);
    Error::Points(format!(
        "{place}: ({x}, {y}) is outside the photo of {width}×{height}; expected x from -0.5 to {right}, y from -0.5 to \
         {bottom}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: impl AsRef<[u8]>) -> Result<Vec<[f32; 2]>, String> {
        Points::parse(Path::new("p.csv"), text.as_ref()).map(|points| points.values)
    }

    #[test]
    fn a_header_and_two_numbers_a_line() {
        let expected = vec![[1.0, 2.0], [-0.5, 1e2], [3.25, 0.0]];
        assert_eq!(parse("x,y\n1,2\n-0.5,1e2\n3.25,0\n").unwrap(), expected);
        assert_eq!(parse("\u{FEFF} x , y \r\n\r\n 1 ,2\r\n-.5,100.0 \r\n\t3.25,0").unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line_and_what_stands_there() {
        for (text, words) in [
            ("", &["empty file", "x,y"][..]),
            ("x,y\n", &["no points"]),
            ("1,2\n", &["line 1", "header x,y", "1,2"]),
            ("y,x\n1,2\n", &["line 1", "y,x"]),
            ("x,y\n1,2\n\n3\n", &["line 4", "\"3\""]),
            ("\r\n \n x,y\r\n1,2\r\n\t\r\n\r\n 3 , 4 ,5 \r\n", &["line 7", "\"3 , 4 ,5\""]),
            ("x,y\n\"1\",2", &["line 2", "\\\"1"]),
            ("x,y\n1,2,3\n", &["line 2", "1,2,3"]),
            ("x,y\n1;2\n", &["line 2"]),
            ("x,y\nNaN,1\n", &["line 2", "NaN"]),
            ("x,y\n1,inf\n", &["line 2"]),
            ("x,y\n1,1e99\n", &["line 2"]),
        ] {
            let error = parse(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
        }
        assert!(parse(b"x,y\n1,2\n\xFF,3\n").unwrap_err().contains("line 3 is not UTF-8"));
        assert!(parse(format!("x,y\n{}", "a".repeat(9000))).unwrap_err().len() < 200);
    }

    #[test]
    fn the_size_is_bounded() {
        let many = |n: usize| format!("x,y\n{}", "1,2\n".repeat(n));
        assert_eq!(parse(many(MAX_POINTS)).unwrap().len(), MAX_POINTS);
        assert!(parse(many(MAX_POINTS + 1)).unwrap_err().contains("line 262146"));
        assert!(parse(vec![b' '; (16 << 20) + 1]).unwrap_err().contains("16 MiB"));
    }

    #[test]
    fn points_outside_the_photo_are_named() {
        let points = Points::parse(Path::new("p.csv"), b"x,y\n0,0\n9.5,4.5\n\n9.6,0\n").unwrap();
        assert!(points.check(5, 11).is_ok());
        let error = points.check(5, 10).unwrap_err().to_string();
        assert!(error.contains("p.csv: line 5: (9.6, 0)") && error.contains("10×5"), "{error}");
        assert!(points.check(4, 11).unwrap_err().to_string().contains("line 3"));
        assert!(inside([-0.5, -0.5], 1, 1) && !inside([-0.51, 0.0], 1, 1) && !inside([f32::NAN, 0.0], 1, 1));
    }
}
