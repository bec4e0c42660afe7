//! What several commands say about a photo.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::printable::printable;
use serde::{Serialize, Serializer};

use super::table::{Align, Table};

/// Sizes of a photo and of the network's input for it, and where it was computed.
#[derive(Serialize)]
pub struct Heading {
    #[serde(serialize_with = "path")]
    pub photo: PathBuf,
    pub height: usize,
    pub width: usize,
    pub network_height: usize,
    pub network_width: usize,
    pub device: String,
}

impl Heading {
    pub fn render(&self) -> String {
        let Heading { photo, height, width, network_height, network_width, device } = self;
        let photo = shown(photo);
        format!("{photo}: {width} wide, {height} high; network {network_width} wide, {network_height} high; {device}\n")
    }
}

#[derive(Serialize)]
pub struct StageTime {
    pub stage: &'static str,
    pub milliseconds: f64,
}

impl From<(&'static str, Duration)> for StageTime {
    fn from((stage, time): (&'static str, Duration)) -> Self {
        StageTime { stage, milliseconds: milliseconds(time) }
    }
}

/// How much of a photo a label has.
#[derive(Serialize)]
pub struct Share {
    pub index: usize,
    pub label: String,
    /// Fraction of the photo.
    pub share: f64,
}

/// The pixels below the threshold.
#[derive(Serialize)]
pub struct Unlabelled {
    /// In the mask's file.
    pub value: u16,
    /// Fraction of the photo.
    pub share: f64,
}

#[derive(Serialize)]
pub struct SavedFile {
    pub kind: &'static str,
    /// The label's index, where the file is of one label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    #[serde(serialize_with = "path")]
    pub path: PathBuf,
}

/// The stages and their sum, then the files.
pub fn render_stages_and_files(stages: &[StageTime], files: &[SavedFile]) -> String {
    let mut table = Table::headed([Align::Left, Align::Right], ["stage", "ms"]);
    let total = StageTime { stage: "total", milliseconds: stages.iter().map(|stage| stage.milliseconds).sum() };
    for StageTime { stage, milliseconds } in stages.iter().chain([&total]) {
        table.row([(*stage).into(), format!("{milliseconds:.1}")]);
    }
    let files: String = files.iter().map(|file| format!("  {}\n", shown(&file.path))).collect();
    format!("{}\n{files}\n", table.render())
}

pub fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

/// A path as one line of text.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

/// A path as JSON can hold it: what is not Unicode in it becomes U+FFFD.
pub fn path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}
