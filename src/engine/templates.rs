//! Several texts for one label (CLIP's prompt ensembling, 2103.00020, section 3.1.4).

use super::types::LabelOptions;
use crate::error::{Error, Result};
use crate::labels::List;
use crate::tokenizer::Tokenizer;
use crate::unit_vector::unit;

/// Where the label goes in a template.
const PLACE: &str = "{}";

/// The longest template, in bytes.
const LONGEST: usize = 1024;

/// The most texts of one list: labels times templates. Of each 2 KB and more are kept.
const MOST_TEXTS: usize = 1 << 20;

/// The most bytes of all texts of a list.
const MOST_BYTES: usize = 64 << 20;

pub fn check(templates: &[String]) -> Result<()> {
    if let Some(template) = templates.iter().find(|template| template.len() > LONGEST) {
        let (start, bytes) = (template.chars().take(40).collect::<String>(), template.len());
        return Err(Error::Template(format!(
            "template {start:?}… is {bytes} bytes long, but at most {LONGEST} are read; shorten it"
        )));
    }
    match templates.iter().find(|template| !template.contains(PLACE)) {
        Some(template) => Err(Error::Template(format!(
            "template \"{template}\" has no {PLACE}, where the label goes; write it such as \"a photo of a {PLACE}\""
        ))),
        None => Ok(()),
    }
}

/// The texts that stand for each label: every template filled in, the label itself where there is none or it is the last and spared.
pub fn fill(LabelOptions { templates, spares_last, .. }: &LabelOptions, list: &List) -> Result<Vec<Vec<String>>> {
    if templates.is_empty() {
        return Ok(list.texts().map(|label| vec![label.to_owned()]).collect());
    }
    let (labels, texts) = (list.len(), list.len().saturating_mul(templates.len()));
    if texts > MOST_TEXTS {
        return Err(Error::Template(format!(
            "{labels} labels in {} templates are {texts} texts, more than {MOST_TEXTS}; give fewer of them",
            templates.len()
        )));
    }
    let mut bytes = 0;
    let mut filled = |template: &String, label: &str| {
        let long = template.len() + template.matches(PLACE).count() * label.len();
        bytes += long;
        if long > Tokenizer::MAX_BYTES || bytes > MOST_BYTES {
            return Err(Error::Template(format!(
                "the labels fill template {template:?} with {long} bytes, and all of them with {bytes} or more; at most {} and \
                 {MOST_BYTES} are read: shorten the template or the labels",
                Tokenizer::MAX_BYTES
            )));
        }
        Ok(template.replace(PLACE, label))
    };
    let spared = spares_last.then(|| labels - 1);
    let texts_of = |(i, label): (usize, &str)| match spared == Some(i) {
        true => Ok(vec![label.to_owned()]),
        false => templates.iter().map(|template| filled(template, label)).collect(),
    };
    list.texts().enumerate().map(texts_of).collect()
}

/// The unit vector in the direction of the mean of the unit vectors, or where that `keeps_length` the mean itself.
pub fn mean<'a>(texts: impl Iterator<Item = &'a [f32]>, keeps_length: bool) -> Vec<f32> {
    let (mut sum, mut count) = (Vec::new(), 0);
    for text in texts {
        count += 1;
        sum.resize(text.len(), 0.0f32);
        sum.iter_mut().zip(unit(text)).for_each(|(s, v)| *s += v);
    }
    if keeps_length { sum.into_iter().map(|value| value / count as f32).collect() } else { unit(&sum) }
}
