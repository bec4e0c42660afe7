//! A folder of photos and one of masks, whose values are the labels' indices unless a map says otherwise.

use std::path::Path;

use super::dataset::{Dataset, Files, of_labels, pairs};
use super::truth::{Label, Truth};
use crate::Result;

/// Photos of any format, masks `<stem>.png`.
///
/// # Errors
/// As [`pairs`].
pub fn read(images: &Path, masks: &Path, words: Vec<String>) -> Result<Dataset> {
    let items = pairs(Files { folder: images, ending: None }, Files { folder: masks, ending: Some(".png") })?;
    let truth = Truth::none().with((0..words.len() as u16).map(|label| (label, Label::Is(label))));
    Ok(of_labels(words, truth, items))
}
