//! PASCAL VOC 2012's validation photos: 21 labels, background first, value 255 ignored.

use std::path::{Path, PathBuf};

use super::dataset::{self, Dataset, Item, lines, listed, of_labels, words_or};
use super::truth::{Label, Truth};
use crate::{Error, Result};

/// The words, in the order of the masks' values.
pub const WORDS: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// The value of borders and of what is too difficult.
pub const IGNORED: u16 = 255;

/// `JPEGImages`, `SegmentationClass` (or `SegmentationClassAug`) and `ImageSets/Segmentation/val.txt` in `dir`.
///
/// # Errors
/// As [`lines`], [`listed`] and [`words_or`]; [`Error::Data`] where there are no masks.
pub fn read(dir: &Path, words: Option<Vec<String>>) -> Result<Dataset> {
    let words = words_or(words, &WORDS)?;
    let root = dataset::root(dir, "VOC2012");
    let masks = masks(&root, ["SegmentationClass", "SegmentationClassAug"])?;
    let list = root.join("ImageSets/Segmentation/val.txt");
    let items = lines(&list)?.iter().map(|(_, name)| item(&root, &masks, &list, name, name)).collect::<Result<_>>()?;
    let labels = (0..WORDS.len() as u16).map(|label| (label, Label::Is(label)));
    Ok(of_labels(words, Truth::none().with(labels).with([(IGNORED, Label::Ignored)]), items))
}

/// The first of these folders that is there.
///
/// # Errors
/// [`Error::Data`] where none is.
pub fn masks(root: &Path, names: [&str; 2]) -> Result<PathBuf> {
    let found = names.map(|name| root.join(name)).into_iter().find(|folder| folder.is_dir());
    found.ok_or_else(|| {
        Error::Data(format!("{}: neither {} nor {} is in this folder", root.display(), names[0], names[1]))
    })
}

/// The photo `photo` of a line `name`.
///
/// # Errors
/// As [`listed`].
pub fn item(root: &Path, masks: &Path, list: &Path, name: &str, photo: &str) -> Result<Item> {
    let files = [root.join("JPEGImages").join(format!("{photo}.jpg")), masks.join(format!("{photo}.png"))];
    listed(list, name, name.into(), files)
}
