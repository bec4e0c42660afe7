//! The golden cases: small seeded networks, their photos and what PyTorch makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::convert::{self, convert};
use lseg_fast::engine::Tap;
use lseg_fast::image::decode::{DEFAULT_MAX_PIXELS, Photo, decode};
use lseg_fast::model::config::Config;
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use lseg_fast::{DeviceChoice, Engine, Image, Options, Size};

use crate::files::root;

/// An array with its dimensions, channels or labels first.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    pub fn channels(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.shape[1..].iter().product())
    }
}

pub struct Case {
    pub name: &'static str,
    pub folder: PathBuf,
    case: serde_json::Value,
}

impl Case {
    pub fn open(name: &'static str) -> Case {
        let folder = root().join("tests/golden").join(name);
        let case = serde_json::from_str(&fs::read_to_string(folder.join("case.json")).unwrap()).unwrap();
        Case { name, folder, case }
    }

    pub fn labels(&self) -> Vec<String> {
        serde_json::from_value(self.case["labels"].clone()).unwrap()
    }

    pub fn config(&self) -> Config {
        serde_json::from_value(self.case["config"].clone()).unwrap()
    }

    pub fn photo(&self, index: usize) -> Photo {
        decode(&self.folder.join(format!("photo_{index}.png")), DEFAULT_MAX_PIXELS).unwrap()
    }

    /// Every s-th channel of this tap is stored.
    pub fn step(&self, tap: &str) -> usize {
        self.case["channel_step"][tap].as_u64().unwrap_or(1) as usize
    }

    pub fn expected(&self, index: usize) -> BTreeMap<String, Array> {
        let file = Checkpoint::open(&self.folder.join(format!("expected_{index}.safetensors"))).unwrap();
        let tensors = file.names().filter(|name| *name != "mask").map(|name| {
            let shape = file.info(name).unwrap().shape.clone();
            let mut data = Vec::new();
            file.read_f32(name, &shape, &mut data).unwrap();
            (name.to_owned(), Array { shape, data })
        });
        tensors.collect()
    }

    pub fn expected_mask(&self, index: usize) -> Vec<u8> {
        let file = Checkpoint::open(&self.folder.join(format!("expected_{index}.safetensors"))).unwrap();
        let mut mask = Vec::new();
        file.read_raw("mask", &mut mask).unwrap();
        mask
    }

    /// Converts the checkpoint (its configuration is checked), loads it, sets labels and size.
    pub fn engine(&self, flags: &HeadBlockOverride, folder: &Path, threads: usize) -> Engine {
        let options = Options { device: DeviceChoice::Cpu, threads: Some(threads), ..Options::default() };
        self.engine_on(flags, folder, &options)
    }

    /// As [`Case::engine`], on a device of the caller's choice.
    pub fn engine_on(&self, flags: &HeadBlockOverride, folder: &Path, device: &Options) -> Engine {
        let checkpoint = Checkpoint::open(&self.folder.join("model.ckpt")).unwrap();
        let config = detect(&checkpoint, flags).unwrap();
        let mut expected = self.config();
        if let Some(depth) = flags.depth {
            expected.head_block.depth = depth;
        }
        assert_eq!(config, expected, "{}", self.name);
        let out = folder.join(format!("{}.safetensors", self.name));
        let options = convert::Options { out: out.clone(), dtype: convert::TargetDtype::Source };
        convert(&checkpoint, &config, &options, &mut |_, _| {}).unwrap();
        let mut engine = Engine::load(&out, device).unwrap();
        engine.set_size(Size::Native);
        engine.set_labels(&self.labels()).unwrap();
        engine
    }
}

pub fn frame(photo: &Photo) -> Image<'_> {
    Image::rgb8(photo.width, photo.height, &photo.rgb)
}

/// Item `b` of a tap as the reference lays it out: tokens as they are, maps channels first, every `step`-th channel.
pub fn item(tap: &Tap, b: usize, step: usize) -> Array {
    let [_, h, w, c] = tap.shape;
    let one = &tap.data[b * h * w * c..][..h * w * c];
    match tap.name.as_str() {
        "scores" => Array { shape: vec![h, w, c], data: one.to_vec() },
        name if name.starts_with("hook") && h == 1 => Array { shape: vec![w, c], data: one.to_vec() },
        _ => Array {
            shape: vec![c.div_ceil(step), h, w],
            data: (0..c).step_by(step).flat_map(|k| one.iter().skip(k).step_by(c)).copied().collect(),
        },
    }
}

/// The largest difference; NaN and infinities must stand at the same places.
pub fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected);
    pairs
        .map(|(g, e)| {
            assert_eq!((g.is_nan(), g.is_infinite()), (e.is_nan(), e.is_infinite()));
            (g - e).abs()
        })
        .fold(0.0, f32::max)
}

pub fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |a, b| a.max(b.abs()))
}

pub fn range(values: &[f32]) -> f32 {
    values.iter().fold(f32::MIN, |a, b| a.max(*b)) - values.iter().fold(f32::MAX, |a, b| a.min(*b))
}
