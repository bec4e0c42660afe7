//! ADE20K's validation photos (SceneParsing challenge of 2016): label = mask value - 1, value 0 has none.

use std::path::Path;

use super::dataset::{self, Dataset, Files, lines, of_labels, pairs};
use super::truth::{Label, Truth};
use crate::labels::MAX_LABELS;
use crate::{Error, Result};

/// Its list of labels, which is not part of the archive of photos.
const LABELS: &str = "objectInfo150.txt";

/// `ADEChallengeData2016/{images,annotations}/validation` in `dir`; the words are those given, else of
/// `objectInfo150.txt`.
///
/// # Errors
/// As [`pairs`] and [`table`]; [`Error::Data`] where there are no words.
pub fn read(dir: &Path, words: Option<Vec<String>>) -> Result<Dataset> {
    let root = dataset::root(dir, "ADEChallengeData2016");
    let words = words.map_or_else(|| own_words(dir, &root), Ok)?;
    let [photos, masks] = ["images", "annotations"].map(|name| root.join(name).join("validation"));
    let items = pairs(Files { folder: &photos, ending: Some(".jpg") }, Files { folder: &masks, ending: Some(".png") })?;
    let truth = Truth::none().with([(0, Label::Ignored)]);
    let truth = truth.with((0..words.len() as u16).map(|label| (label + 1, Label::Is(label))));
    Ok(of_labels(words, truth, items))
}

fn own_words(dir: &Path, root: &Path) -> Result<Vec<String>> {
    let Some(file) = [root, dir].map(|folder| folder.join(LABELS)).into_iter().find(|file| file.is_file()) else {
        let dir = dir.display();
        return Err(Error::Data(format!("{dir}: no {LABELS} in it to take the labels from; give --labels @FILE")));
    };
    let words = table(&file)?;
    words.ok_or_else(|| Error::Data(format!("{}: expected a table whose first line begins with Idx", file.display())))
}

/// The words of a table of ADE20K's labels, with a word as often as it is there (LSeg's has "screen" twice): of the
/// last column, between commas as LSeg has it or between tabs as the archive of photos has it, the first name. `None`
/// of another file.
///
/// # Errors
/// As [`lines`].
pub fn table(file: &Path) -> Result<Option<Vec<String>>> {
    let rows = lines(file)?;
    let (column, names): (char, &[char]) = if rows[0].1.contains('\t') { ('\t', &[',', ';']) } else { (',', &[';']) };
    let name = |row: &str| row.rsplit(column).next()?.split(names).next().map(|name| name.trim().to_owned());
    let words = rows[1..].iter().filter_map(|(_, row)| name(row)).collect::<Vec<String>>();
    let is_table = rows[0].1.starts_with("Idx") && (1..=MAX_LABELS).contains(&words.len());
    Ok(is_table.then_some(words))
}
