//! Files of what was counted: the confusion matrix, and a table of the photos.

use std::io::{self, Write};
use std::path::Path;

use super::confusion::Confusion;
use super::dataset::Purpose;
use super::state::{Counted, Outcome, State};
use crate::atomic_file::{Durability, write_atomically};
use crate::image::{mask, npy};
use crate::{Error, Result};

/// The most words of a matrix that is written: 128 MiB of counts.
const MOST_WORDS: usize = 4096;

/// About how many pixels a picture of a matrix has on a side.
const SIDE: usize = 512;

/// How a matrix is written: by its file's ending.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// uint64 [labels, words].
    Npy,
    /// A row a label, a column a word, with their names.
    Csv,
    /// White where all pixels of a row's label got a column's word, black where none.
    Png,
}

/// An error where the confusion matrix of so many words cannot be written to this file.
///
/// # Errors
/// [`Error::Data`] for an ending that is no form of a matrix, and for too many words.
pub fn check(path: &Path, words: usize) -> Result<()> {
    form(path)?;
    if words > MOST_WORDS {
        let path = path.display();
        return Err(Error::Data(format!("{path}: a matrix of {words} words; at most {MOST_WORDS} are written")));
    }
    Ok(())
}

fn form(path: &Path) -> Result<Form> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("npy") => Ok(Form::Npy),
        Some("csv") => Ok(Form::Csv),
        Some("png") => Ok(Form::Png),
        _ => {
            let path = path.display();
            Err(Error::Data(format!(
                "{path}: a confusion matrix is written as .npy, .csv or .png; give such an ending"
            )))
        }
    }
}

/// Writes the confusion matrix: rows are what is true, columns what was predicted. Of several lists of words, the sum
/// over all of them.
///
/// # Errors
/// As [`check`]; [`Error::Output`].
pub fn write_confusion(state: &State, path: &Path) -> Result<()> {
    check(path, state.lists[0].words.len())?;
    let form = form(path)?;
    let mut words: Vec<&str> = state.lists[0].words.iter().map(String::as_str).collect();
    let mut sum = state.lists[0].confusion.clone();
    state.lists[1..].iter().for_each(|list| sum.merge(&list.confusion));
    if state.lists[0].purpose != Purpose::Labels {
        words = match state.lists[0].purpose {
            Purpose::Episode(_) => vec!["background", "foreground"],
            _ => [&words[..words.len() - 1], &["the rest"]].concat(),
        };
    }
    write_atomically(path, Durability::Renamed, |out| match form {
        Form::Npy => npy::write(out, &[sum.labels(), sum.words()], &sum.dense()),
        Form::Csv => write_csv(out, &sum, &words),
        Form::Png => write_png(out, &sum),
    })
}

fn write_csv(out: &mut dyn Write, sum: &Confusion, words: &[&str]) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record([&["true \\ predicted"], words].concat())?;
    for (counts, word) in sum.dense().chunks_exact(sum.words()).zip(words) {
        let counts = counts.iter().map(u64::to_string);
        table.write_record([(*word).to_owned()].into_iter().chain(counts))?;
    }
    table.flush()
}

fn write_png(out: &mut dyn Write, sum: &Confusion) -> io::Result<()> {
    let (dense, cell) = (sum.dense(), (SIDE / sum.words()).max(1));
    let shares = dense.chunks_exact(sum.words()).map(|counts| {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|count| (255.0 * *count as f64 / all).round() as u8).collect::<Vec<u8>>()
    });
    let row =
        |shares: Vec<u8>| shares.into_iter().flat_map(|share| vec![share; cell]).collect::<Vec<u8>>().repeat(cell);
    let grey: Vec<u8> = shares.flat_map(row).collect();
    mask::write_grey(out, &grey, cell * sum.words(), cell * sum.labels())
}

/// Writes a table of the photos: name, pixels with a label, right ones, both metrics; or why it was not measured.
///
/// # Errors
/// [`Error::Output`].
pub fn write_per_photo(state: &State, path: &Path) -> Result<()> {
    write_atomically(path, Durability::Renamed, |out| {
        let mut table = csv::Writer::from_writer(out);
        table.write_record(["photo", "label", "labelled", "right", "pixel_accuracy", "mean_iou", "error"])?;
        for row in &state.rows {
            // What distinguishes its list of words, where there are several.
            let Counted { words, purpose, .. } = &state.lists[row.list];
            let label = if *purpose == Purpose::Labels { "" } else { words.last().map_or("", String::as_str) };
            let [labelled, right, accuracy, iou, error] = match &row.outcome {
                Outcome::Measured { labelled, right, mean_iou } => {
                    let accuracy = (*labelled > 0).then(|| *right as f64 / *labelled as f64);
                    let share = |value: Option<f64>| value.map(|value| format!("{value:.6}")).unwrap_or_default();
                    [labelled.to_string(), right.to_string(), share(accuracy), share(*mean_iou), String::new()]
                }
                Outcome::Failed { error } => {
                    [String::new(), String::new(), String::new(), String::new(), error.clone()]
                }
            };
            table.write_record([&row.photo, label, &labelled, &right, &accuracy, &iou, &error])?;
        }
        table.flush()
    })
}
