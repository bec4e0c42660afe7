//! `run --save heat`: each label's similarity over the photo, as pictures.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::engine::{Output, Results};
use crate::image::heat::{Heat, Range};
use crate::resample::edges;

/// What the colours span.
pub fn range(text: &str) -> Result<Range, String> {
    let fixed = || {
        let (low, high) = text.split_once(':')?;
        let (low, high): (f32, f32) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (low.is_finite() && high.is_finite() && low < high).then_some(Range::Fixed { low, high })
    };
    let range = if text == "own" { Some(Range::Own) } else { fixed() };
    range.ok_or_else(|| "expected own, or the least and the largest score, such as 10:30".to_owned())
}

/// Where all labels' scores are.
pub enum Scores<'a> {
    /// `[labels, height, width]` at the network's (height, width).
    Pass { values: &'a [f32], size: (usize, usize) },
    /// At the end of a file, `[labels, height, width]` at the mask's: memory would not hold them.
    Windows(&'a File),
}

impl<'a> Scores<'a> {
    /// Those of a photo in one pass, or of one in windows, which are in a file.
    pub fn of(results: &'a Results, windows: Option<&'a File>) -> Option<Scores<'a>> {
        if let Some(file) = windows {
            return Some(Scores::Windows(file));
        }
        let ([_, height, width], values) = results.shape(Output::Scores).zip(results.values(Output::Scores, 0))?;
        Some(Scores::Pass { values, size: (height, width) })
    }

    /// The picture of one of so many labels, of the mask's (height, width).
    ///
    /// # Errors
    /// What reading a file of scores yields.
    pub fn heat(&self, label: usize, labels: usize, size: (usize, usize), range: Range) -> io::Result<Heat> {
        let (height, width) = size;
        match *self {
            Scores::Pass { values, size: from } => {
                let plane = &values[label * from.0 * from.1..][..from.0 * from.1];
                Heat::new(size, range, resized(plane, from, size))
            }
            Scores::Windows(mut file) => {
                let rows = (labels - label) * height;
                Heat::new(size, range, move |y, row| {
                    let left = ((rows - y) * width * size_of::<f32>()) as i64;
                    file.seek(SeekFrom::End(-left))?;
                    file.read_exact(bytemuck::cast_slice_mut(row))
                })
            }
        }
    }
}

/// Rows of a plane of (height, width) at another size: bilinear, edges aligned, as the mask is made.
fn resized(
    plane: &[f32],
    (from_height, from_width): (usize, usize),
    (height, width): (usize, usize),
) -> impl FnMut(usize, &mut [f32]) -> io::Result<()> {
    let columns: Vec<_> = (0..width).map(|x| edges(x, from_width, width)).collect();
    move |y, row| {
        let rows = edges(y, from_height, height);
        let [upper, lower] = [rows.low, rows.high].map(|y| &plane[y * from_width..][..from_width]);
        for (score, x) in row.iter_mut().zip(&columns) {
            let across = |row: &[f32]| row[x.low] + x.t * (row[x.high] - row[x.low]);
            *score = across(upper) + rows.t * (across(lower) - across(upper));
        }
        Ok(())
    }
}
