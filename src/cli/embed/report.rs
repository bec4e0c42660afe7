//! What is said about a photo's embeddings.

use std::path::PathBuf;

use serde::Serialize;

use super::super::result::{self, Heading, SavedFile, StageTime, render_stages_and_files, shown};
use super::projection::Projection;

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub heading: Heading,
    /// Where photos are not taken in one pass of the model's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    pub at: &'static str,
    pub shape: Vec<usize>,
    pub channels: usize,
    pub dtype: &'static str,
    /// Before they were projected.
    pub normalized: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projected>,
    pub stages: Vec<StageTime>,
    pub files: Vec<SavedFile>,
}

/// How vectors were projected.
#[derive(Serialize)]
pub struct Projected {
    #[serde(serialize_with = "result::path")]
    file: PathBuf,
    /// Of the model's vectors.
    channels: usize,
    /// The part that is left, 0 to 1, of the vectors that it was fitted to.
    variance: Option<f64>,
}

impl From<&Projection> for Projected {
    fn from(projection: &Projection) -> Projected {
        let (file, channels) = (projection.path().to_owned(), projection.inputs());
        Projected { file, channels, variance: projection.variance() }
    }
}

impl Report {
    pub fn render(&self) -> String {
        let shape = self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let normalized = if self.normalized { ", each vector of length 1" } else { "" };
        let projected = self.projection.as_ref().map(|projected| self.render_projected(projected)).unwrap_or_default();
        let what = format!("  {shape}, {}, at {}{normalized}{projected}\n\n", self.dtype, self.at);
        format!("{}{what}{}", self.heading.render(), render_stages_and_files(&self.stages, &self.files))
    }

    fn render_projected(&self, Projected { file, channels, variance }: &Projected) -> String {
        let kept = variance.map(|part| format!(", {:.1} % of the variance", 100.0 * part)).unwrap_or_default();
        format!(", projected from {channels} channels on {} by {}{kept}", self.channels, shown(file))
    }
}
