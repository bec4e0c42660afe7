//! The golden cases of whole photos (tests/golden/protocols): what each must yield at some of its pixels, and what an engine does.

use std::path::PathBuf;

use half::f16;
use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::image::decode::{DEFAULT_MAX_PIXELS, Photo, decode};
use lseg_fast::image::npy::Dtype;
use lseg_fast::model::detect::HeadBlockOverride;
use lseg_fast::protocol::preset::Preset;
use lseg_fast::protocol::{At, Base, Before, Crop, Flip, Look, Protocol, Stage};
use lseg_fast::{Engine, Options, Output, Size, Wanted, WholeOptions};
use serde::Deserialize;

use crate::files::root;
use crate::golden;

/// A preset on a network and a photo.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub network: String,
    pub preset: String,
    overrides: Overrides,
    photo: String,
    pub labels: Vec<String>,
    /// Channels or labels, height, width.
    shape: [usize; 3],
    passes: usize,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Overrides {
    base: Option<usize>,
    crop: Option<usize>,
    stride: Option<usize>,
    scales: Option<Vec<f64>>,
    flip: Option<String>,
    size: Option<[usize; 2]>,
    before: Option<[usize; 2]>,
}

/// A map `[h, w, d]`.
pub struct Map {
    pub size: (usize, usize),
    pub values: Vec<f32>,
    /// Of score presets.
    pub mask: Option<Vec<u16>>,
}

/// What a case must yield.
pub struct Expected {
    pub pixels: Vec<[usize; 2]>,
    /// `[pixels, d]`
    pub values: Vec<f32>,
    pub mask: Option<Vec<usize>>,
}

fn folder() -> PathBuf {
    root().join("tests/golden/protocols")
}

/// All of them.
pub fn cases() -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(folder().join("cases.json")).unwrap()).unwrap()
}

/// An engine of each network that the cases name, in this order.
pub fn engine(network: &'static str, options: &Options) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    golden::Case::open(network).engine_on(&HeadBlockOverride::default(), folder.path(), options)
}

impl Case {
    pub fn protocol(&self) -> Protocol {
        let mut protocol = Preset::named(&self.preset).unwrap().protocol;
        let Overrides { base, crop, stride, scales, flip, size, before } = &self.overrides;
        if let Look::Windows(windows) = &mut protocol.look {
            base.inspect(|base| windows.base = Base::Pixels(*base));
            crop.inspect(|crop| windows.crop = Crop::Pixels(*crop));
            windows.stride = stride.or(windows.stride);
            windows.scales = scales.clone().unwrap_or_else(|| windows.scales.clone());
            windows.flip = match flip.as_deref() {
                None => windows.flip,
                Some("none") => Flip::None,
                Some("sum") => Flip::Sum,
                Some("mean") => Flip::Mean,
                Some(other) => panic!("{other} is no flip"),
            };
        }
        if let Some([height, width]) = *size {
            protocol.look = Look::Once(Size::Exact { height, width });
        }
        let to = before.or(*size).map(|[height, width]| (height, width));
        protocol.before = match (protocol.before, to) {
            (Before::Float { corners, wider_than, .. }, Some(size)) => {
                Before::Float { size, corners, wider_than: if wider_than > 0 { size.1 } else { 0 } }
            }
            (Before::Pillow(_), Some(size)) => Before::Pillow(size),
            (Before::OpenCv(_), Some(size)) => Before::OpenCv(size),
            (before, _) => before,
        };
        protocol
    }

    pub fn photo(&self) -> Photo {
        decode(&folder().join(&self.photo), DEFAULT_MAX_PIXELS).unwrap()
    }

    /// What the engine, of this case's network, makes of it.
    pub fn compute(&self, engine: &mut Engine, options: WholeOptions) -> Map {
        engine.set_labels(&self.labels).unwrap();
        let (protocol, photo) = (self.protocol(), self.photo());
        match (&protocol.look, protocol.stage) {
            (Look::Windows(_), stage) => self.windows(engine, photo, &protocol, stage, options),
            (_, Stage::Scores) => self.once(engine, photo, &protocol, Output::Scores),
            _ => self.once(engine, photo, &protocol, Output::Embedding),
        }
    }

    fn windows(
        &self,
        engine: &mut Engine,
        photo: Photo,
        protocol: &Protocol,
        stage: Stage,
        options: WholeOptions,
    ) -> Map {
        let dtype = (stage != Stage::Scores).then_some(Dtype::F32);
        let mut whole = engine.whole(photo, protocol, Wanted::MASK, dtype, options).unwrap();
        let (size @ (height, width), d) = (whole.size(), whole.channels());
        if options == WholeOptions::default() {
            assert_eq!(whole.passes(), self.passes, "{}: passes", self.name);
        }
        let (mut values, mut mask) = (vec![f32::NAN; height * width * d], vec![u16::MAX; height * width]);
        let each = whole.each(&mut |stripe| {
            stripe.mask(&mut mask, width)?;
            stripe.values(&mut |y, columns, row| {
                values[(y * width + columns.start) * d..(y * width + columns.end) * d].copy_from_slice(row);
            })
        });
        each.unwrap();
        Map { size, values, mask: dtype.is_none().then_some(mask) }
    }

    fn once(&self, engine: &mut Engine, photo: Photo, protocol: &Protocol, output: Output) -> Map {
        let wanted = Wanted::of(&[output]).and(Output::Mask);
        let results = engine.run_whole(photo, protocol, wanted, WholeOptions::default()).unwrap();
        let (shape, values) = (results.shape(output).unwrap(), results.values(output, 0).unwrap());
        if output == Output::Embedding {
            return Map { size: (shape[0], shape[1]), values: values.to_vec(), mask: None };
        }
        let [labels, height, width] = shape;
        let pixels = height * width;
        let values = (0..pixels * labels).map(|i| values[i % labels * pixels + i / labels]).collect();
        assert_eq!(protocol.at, At::Photo);
        Map { size: (height, width), values, mask: Some(results.mask(0).unwrap().to_vec()) }
    }

    pub fn expected(&self) -> Expected {
        let file = Checkpoint::open(&folder().join("expected.safetensors")).unwrap();
        let integers = |name: &str| -> Vec<usize> {
            let mut bytes = Vec::new();
            file.read_raw(name, &mut bytes).unwrap();
            bytemuck::pod_collect_to_vec::<u8, i32>(&bytes).into_iter().map(|n| n as usize).collect()
        };
        let name = |part: &str| format!("{}/{part}", self.name);
        let pixels = integers(&name("pixels")).as_chunks().0.to_vec();
        let mut values = Vec::new();
        file.read_f32(&name("values"), &[pixels.len(), self.shape[0]], &mut values).unwrap();
        let has_mask = file.info(&name("mask")).is_some();
        Expected { pixels, values, mask: has_mask.then(|| integers(&name("mask"))) }
    }

    /// Channels or labels, height, width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

impl Map {
    /// Of pixels (y, x), one after the other.
    pub fn at(&self, pixels: &[[usize; 2]]) -> Vec<f32> {
        let d = self.values.len() / (self.size.0 * self.size.1);
        pixels.iter().flat_map(|[y, x]| &self.values[(y * self.size.1 + x) * d..][..d]).copied().collect()
    }

    /// Whether the values are float16's.
    pub fn is_half(&self) -> bool {
        self.values.iter().all(|value| f16::from_f32(*value).to_f32() == *value)
    }
}
