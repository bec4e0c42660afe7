//! What was predicted of one photo against what is true of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::confusion::Confusion;
use super::ids::Ids;
use super::truth::{Label, Truth};
use crate::{Error, Result};

/// Counts a photo's pixels [height, width], of `words` words that may be predicted, the first `labels` of which may be
/// true.
///
/// # Errors
/// [`Error::Photo`], named after the mask or the prediction, where one has an id that no label has.
pub fn count(
    (truth, mask): (&Ids, &Path),
    (prediction, predicted_by): (&[u16], &Path),
    rule: &Truth,
    (labels, words): (usize, usize),
) -> Result<Confusion> {
    let mut unknown = Unknown::default();
    let mut beyond = Unknown::default();
    let mut confusion = Confusion::new(labels, words);
    // Neighbours mostly have one id and one prediction: they are counted together.
    let mut start = 0;
    while start < truth.values.len() {
        let (id, predicted) = (truth.values[start], prediction[start]);
        let alike = truth.values[start..].iter().zip(&prediction[start..]);
        let run = alike.take_while(|(other, said)| **other == id && **said == predicted).count();
        match rule.label(id) {
            Label::Is(_) if usize::from(predicted) >= words => beyond.add(predicted, run),
            Label::Is(label) => confusion.add(label, predicted, run as u64),
            Label::Ignored => {}
            Label::Unknown => unknown.add(id, run),
        }
        start += run;
    }
    unknown.refuse(mask, "--ignore leaves it out, --map gives it a label", labels)?;
    beyond.refuse(predicted_by, "predictions are the labels' indices, from 0", words)?;
    Ok(confusion)
}

/// An error where a mask is of another size than its photo.
///
/// # Errors
/// [`Error::Photo`].
pub fn check_size(mask: &Path, truth: &Ids, of: &Path, (width, height): (usize, usize)) -> Result<()> {
    if (truth.width, truth.height) == (width, height) {
        return Ok(());
    }
    let (own_width, own_height, of) = (truth.width, truth.height, of.display());
    Err(Error::photo(mask, format!("a mask of {own_width}×{own_height} pixels, but {of} has {width}×{height}")))
}

/// Pixels by id, of ids that no label has.
#[derive(Default)]
struct Unknown(BTreeMap<u16, usize>);

impl Unknown {
    fn add(&mut self, id: u16, pixels: usize) {
        *self.0.entry(id).or_default() += pixels;
    }

    fn refuse(&self, path: &Path, remedy: &str, labels: usize) -> Result<()> {
        let Some((id, pixels)) = self.0.first_key_value() else { return Ok(()) };
        let more = match self.0.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more ids"),
        };
        Err(Error::photo(
            path,
            format!("id {id} ({pixels} pixels){more} belongs to none of the {labels} labels; {remedy}"),
        ))
    }
}
