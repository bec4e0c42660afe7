//! A file that says which value of a mask has which label.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::dataset::lines;
use super::truth::Label;
use crate::printable::printable;
use crate::{Error, Result};

/// A value and a label on each line, such as `7 road`; lines that start with # are comments. A label of several values
/// is true where any of them is.
///
/// # Errors
/// As [`lines`]; [`Error::Data`] for a line of another form, a label that is none of `words`, and a value that is there
/// twice.
pub fn read(path: &Path, words: &[String]) -> Result<BTreeMap<u16, Label>> {
    let labels: HashMap<&str, u16> = words.iter().map(String::as_str).zip(0..).collect();
    let mut ids = BTreeMap::new();
    for (number, line) in lines(path)?.into_iter().filter(|(_, line)| !line.starts_with('#')) {
        let refused = |what: &str| {
            let (path, line) = (path.display(), printable(&line));
            Err(Error::Data(format!("{path}: line {number} \"{line}\" {what}")))
        };
        let parts = line.split_once(|c: char| c.is_whitespace() || c == ',');
        let Some((Ok(id), word)) = parts.map(|(id, word)| (id.parse(), word.trim())) else {
            return refused("is no mask's value (0 to 65535) and a label, such as \"7 road\"");
        };
        let Some(label) = labels.get(word) else {
            return refused("has a label that is not in the list of labels (--labels)");
        };
        if ids.insert(id, Label::Is(*label)).is_some() {
            return refused("repeats a value of an earlier line; keep one of them");
        }
    }
    Ok(ids)
}
