//! Several texts for one label (CLIP's prompt ensembling, 2103.00020, section 3.1.4).

use crate::error::{Error, Result};

/// Where the label goes in a template.
const PLACE: &str = "{}";

pub fn check(templates: &[String]) -> Result<()> {
    match templates.iter().find(|template| !template.contains(PLACE)) {
        Some(template) => Err(Error::Template(format!(
            "template \"{template}\" has no {PLACE}, where the label goes; write it such as \"a photo of a {PLACE}\""
        ))),
        None => Ok(()),
    }
}

/// The texts that stand for a label: every template filled in, the label itself where there is none.
pub fn fill(templates: &[String], label: &str) -> Vec<String> {
    if templates.is_empty() {
        return vec![label.to_owned()];
    }
    templates.iter().map(|template| template.replace(PLACE, label)).collect()
}

/// Divided by its length; a zero vector stays zero.
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let scale = if length == 0.0 { 0.0 } else { 1.0 / length };
    vector.iter().map(|v| (f64::from(*v) * scale) as f32).collect()
}

/// The unit vector in the direction of the mean of the unit vectors.
pub fn mean<'a>(texts: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum = Vec::new();
    for text in texts {
        sum.resize(text.len(), 0.0f32);
        sum.iter_mut().zip(unit(text)).for_each(|(s, v)| *s += v);
    }
    unit(&sum)
}
