//! Episodes of few-shot segmentation without shots: a photo is asked for one class, and all else is "others".

use std::path::{Path, PathBuf};

use super::dataset::{Class, Purpose, WordList};
use super::truth::Truth;
use crate::{Error, Result};

/// The folds of PASCAL-5i and COCO-20i.
pub const FOLDS: usize = 4;

/// Episodes of a fold.
pub const EPISODES: usize = 1000;

/// The word for all but the class: it comes first, and so wins where both fit equally.
const OTHERS: &str = "others";

/// Which episodes, and where their lists are.
pub struct Split {
    /// The folder with `pascal/val`, `coco/val` and `fss`.
    pub folder: PathBuf,
    /// The folds, each below [`FOLDS`].
    pub folds: Vec<usize>,
}

/// The words of one class's episodes.
pub fn word_list(fold: usize, class: usize, word: &str, truth: Truth) -> WordList {
    let purpose = Purpose::Episode(Class { fold, class });
    WordList { purpose, ..WordList::of_labels(vec![OTHERS.to_owned(), word.to_owned()], truth) }
}

/// An error for an entry of a list of episodes.
///
/// # Errors
/// [`Error::Data`].
pub fn refused<T>(list: &Path, entry: &str, what: &str) -> Result<T> {
    Err(Error::Data(format!("{}: {} {what}", list.display(), crate::printable::printable(entry))))
}
