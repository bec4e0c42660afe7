//! Cityscapes' validation photos, fine masks, the 19 classes that are evaluated.

use std::path::Path;

use super::dataset::{Dataset, Files, of_labels, pairs, words_or};
use super::truth::{Label, Truth};
use crate::Result;

/// Mask value (`labelIds`) and word of each train id, in their order.
const CLASSES: [(u16, &str); 19] = [
    (7, "road"),
    (8, "sidewalk"),
    (11, "building"),
    (12, "wall"),
    (13, "fence"),
    (17, "pole"),
    (19, "traffic light"),
    (20, "traffic sign"),
    (21, "vegetation"),
    (22, "terrain"),
    (23, "sky"),
    (24, "person"),
    (25, "rider"),
    (26, "car"),
    (27, "truck"),
    (28, "bus"),
    (31, "train"),
    (32, "motorcycle"),
    (33, "bicycle"),
];

/// `leftImg8bit/val` and `gtFine/val` in `dir`. Values that are no train id are ignored.
///
/// # Errors
/// As [`pairs`] and [`words_or`].
pub fn read(dir: &Path, words: Option<Vec<String>>) -> Result<Dataset> {
    let words = words_or(words, &CLASSES.map(|(_, word)| word))?;
    let [photos, masks] = ["leftImg8bit", "gtFine"].map(|name| dir.join(name).join("val"));
    let photos = Files { folder: &photos, ending: Some("_leftImg8bit.png") };
    let items = pairs(photos, Files { folder: &masks, ending: Some("_gtFine_labelIds.png") })?;
    let ids = (0..).zip(CLASSES).map(|(label, (id, _))| (id, Label::Is(label)));
    Ok(of_labels(words, Truth::none().ignoring_the_rest().with(ids), items))
}
