//! The golden networks: small seeded networks of every kind in the published format, a photo each, and what PyTorch makes of it in
//! float64 (`tests/golden/`). The build feature `golden` puts them into the program (`crates/golden`).

use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::convert::{self, convert};
use crate::engine::{Engine, Options, Output, Wanted};
use crate::error::{Error, Result};
use crate::image::decode::{DEFAULT_MAX_PIXELS, decode};
use crate::model::config::{Activation, HeadBlockKind};
use crate::model::detect::{HeadBlockOverride, detect};
use crate::pixels::Image;
use crate::protocol::Size;

/// How far scores may be from PyTorch's, over their range; pixels are decided whose two best labels differ by more.
const SCORES: f32 = 0.01;
/// Of the network with planted outliers, whose decoder takes differences of large values: float16 leaves 0.0096 of it on the virtual
/// GPU, and the order of sums is another on every GPU.
const OUTLIERS: f32 = 0.03;
/// Of the decided pixels, those that must have PyTorch's label.
const AGREE: f64 = 0.995;

/// A network, and how far float16 takes it from PyTorch.
pub struct Network {
    pub name: &'static str,
    limit: f32,
}

#[derive(Deserialize)]
struct Case {
    labels: Vec<String>,
}

const MODEL: &str = "model.ckpt";
const PHOTO: &str = "photo_0.png";
/// Its labels, among other things.
const CASE: &str = "case.json";
/// PyTorch's `scores`, among other things.
const EXPECTED: &str = "expected_0.safetensors";

pub const NETWORKS: &[Network] = &[
    Network { name: "vit16", limit: SCORES },
    Network { name: "vit32", limit: SCORES },
    Network { name: "resnet", limit: SCORES },
    Network { name: "vit16_relu", limit: OUTLIERS },
];

/// The files of a network that the program holds: none where the build left them out.
fn embedded(name: &str) -> &'static [(&'static str, &'static [u8])] {
    #[cfg(feature = "golden")]
    let networks = lseg_fast_golden::NETWORKS;
    #[cfg(not(feature = "golden"))]
    let networks: &[(&str, &'static [_])] = &[];
    networks.iter().find(|network| network.0 == name).map_or(&[], |network| network.1)
}

impl Network {
    /// Whether its files are at hand: in the program, or in a folder that was given.
    pub fn is_there(&self, folder: Option<&Path>) -> bool {
        folder.is_some() || !embedded(self.name).is_empty()
    }

    /// Runs it: how far its scores are from PyTorch's, over their range. Its files are those of `folder/name`, or the program's.
    ///
    /// # Errors
    /// Files that are not there; scores or labels that are too far away; whatever the device answers.
    pub fn check(&self, folder: Option<&Path>, options: &Options) -> Result<f64> {
        let wrong = |what: String| Error::Device(format!("golden network {}: {what}", self.name));
        let scratch = tempfile::tempdir().map_err(|e| wrong(format!("no temporary folder: {e}")))?;
        let folder = match folder {
            Some(folder) => folder.join(self.name),
            None => {
                for (file, bytes) in embedded(self.name) {
                    let path = scratch.path().join(file);
                    std::fs::write(&path, bytes).map_err(|e| wrong(format!("{}: {e}", path.display())))?;
                }
                scratch.path().to_path_buf()
            }
        };
        let mut engine = self.engine(&folder, scratch.path(), options)?;
        let photo = decode(&folder.join(PHOTO), DEFAULT_MAX_PIXELS)?;
        let frame = Image::rgb8(photo.width, photo.height, &photo.rgb);
        let results = engine.run(&[frame], Wanted::MASK.and(Output::Scores))?;
        let (shape, scores) = (results.shape(Output::Scores), results.values(Output::Scores, 0));
        let ((shape, scores), mask) = shape.zip(scores).zip(results.mask(0)).expect("what was wanted is there");
        let expected = Checkpoint::open(&folder.join(EXPECTED))?;
        let mut right = Vec::new();
        expected.read_f32("scores", &shape, &mut right)?;
        let (error, agree) = compare(scores, mask, &right, self.limit);
        // Not `>`: NaN must not pass.
        if error <= f64::from(self.limit) && agree >= AGREE {
            return Ok(error);
        }
        Err(wrong(format!(
            "its scores are off by {:.2} % of their range from PyTorch's (at most {:.1} %), and {:.2} % of the decided pixels have \
             its labels (at least {:.1} %)",
            100.0 * error,
            100.0 * self.limit,
            100.0 * agree,
            100.0 * AGREE
        )))
    }

    fn engine(&self, folder: &Path, scratch: &Path, options: &Options) -> Result<Engine> {
        let checkpoint = Checkpoint::open(&folder.join(MODEL))?;
        // Its file does not tell its head blocks.
        let relu = HeadBlockOverride {
            head_block: Some(HeadBlockKind::Depthwise),
            depth: Some(0),
            activation: Some(Activation::Relu),
        };
        let flags = if self.name == "vit16_relu" { relu } else { HeadBlockOverride::default() };
        let out = scratch.join("converted.safetensors");
        let config = detect(&checkpoint, &flags)?;
        let target = convert::Options { out: out.clone(), dtype: convert::TargetDtype::Source };
        convert(&checkpoint, &config, &target, &mut |_, _| {})?;
        let mut engine = Engine::load(&out, options)?;
        let case = folder.join(CASE);
        let wrong = |what: String| Error::Device(format!("{}: {what}", case.display()));
        let text = std::fs::read_to_string(&case).map_err(|e| wrong(e.to_string()))?;
        let case: Case = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        engine.set_size(Size::Native);
        engine.set_labels(&case.labels)?;
        Ok(engine)
    }
}

/// The largest error over the range of what is right, and the part of the decided pixels whose label is right.
fn compare(got: &[f32], mask: &[u16], right: &[f32], limit: f32) -> (f64, f64) {
    let (low, high) = right.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    let range = high - low;
    // NaN is worse than any error.
    let worst = |worst: f32, error: f32| if worst.is_nan() || error <= worst { worst } else { error };
    let error = got.iter().zip(right).map(|(g, r)| (g - r).abs()).fold(0.0, worst);
    let pixels = mask.len();
    let (mut decided, mut agree) = (0usize, 0usize);
    for (i, label) in mask.iter().enumerate() {
        let at = right.iter().skip(i).step_by(pixels);
        let (mut best, mut second, mut winner) = (f32::MIN, f32::MIN, 0);
        for (k, score) in at.enumerate() {
            if *score > best {
                (second, best, winner) = (best, *score, k);
            } else {
                second = second.max(*score);
            }
        }
        if best - second > limit * range {
            decided += 1;
            agree += usize::from(winner == usize::from(*label));
        }
    }
    (f64::from(error / range), agree as f64 / decided.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "golden")]
    fn the_program_holds_every_network() {
        for Network { name, .. } in NETWORKS {
            let files: Vec<&str> = embedded(name).iter().map(|file| file.0).collect();
            assert_eq!(files, [MODEL, PHOTO, CASE, EXPECTED], "{name}");
        }
        assert!(embedded("another").is_empty());
    }

    #[test]
    fn comparing_sees_errors_and_wrong_labels() {
        // Two labels, three pixels: decided for 0, decided for 1, undecided.
        let right = [1.0, 0.0, 0.5, 0.0, 1.0, 0.495];
        assert_eq!(compare(&right, &[0, 1, 1], &right, 0.01), (0.0, 1.0));
        assert_eq!(compare(&right, &[1, 1, 0], &right, 0.01), (0.0, 0.5));
        let mut off = right;
        off[2] = 0.75;
        assert_eq!(compare(&off, &[0, 1, 1], &right, 0.01).0, 0.25);
        off[4] = f32::NAN;
        assert!(compare(&off, &[0, 1, 1], &right, 0.01).0.is_nan());
    }
}
