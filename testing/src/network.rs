//! Networks whose weights a test changes: a golden one, or a tiny one of this file, value by value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lseg_fast::checkpoint::{Checkpoint, Dtype};
use lseg_fast::convert::{self, convert};
use lseg_fast::model::config::{Config, HeadBlock, ImageEncoder, METADATA_KEY, TextTower};
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use lseg_fast::model::required;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

pub struct Network {
    pub config: Config,
    /// Shape and values.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    folder: TempDir,
}

impl Network {
    /// Of a published checkpoint.
    pub fn of(checkpoint: &Path) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let (source, out) = (Checkpoint::open(checkpoint).unwrap(), folder.path().join("own.safetensors"));
        let config = detect(&source, &HeadBlockOverride::default()).unwrap();
        let options = convert::Options { out: out.clone(), dtype: convert::TargetDtype::F32 };
        convert(&source, &config, &options, &mut |_, _| {}).unwrap();
        let file = Checkpoint::open(&out).unwrap();
        let tensors = file.names().map(|name| {
            let shape = file.info(name).unwrap().shape.clone();
            let mut values = Vec::new();
            file.read_f32(name, &shape, &mut values).unwrap();
            (name.to_owned(), (shape, values))
        });
        Network { config, tensors: tensors.collect(), folder }
    }

    /// A few thousand values: everything of one kind of encoder.
    pub fn tiny(image: ImageEncoder, head_block: HeadBlock) -> Network {
        let config = Config {
            preset: "custom".to_owned(),
            image,
            reassemble: [4, 4, 8, 8],
            features: 2,
            text: TextTower { vocab: 514, context: 5, width: 4, layers: 1, heads: 2, mlp: 6 },
            embed_dim: 3,
            head_block,
            mean: [0.5; 3],
            std: [0.5; 3],
            default_size: "32x64".to_owned(),
        };
        let values = |count: usize| (0..count).map(|i| ((i * 7 % 17) as f32 + 1.0) * 0.0625).collect();
        let tensors = required(&config)
            .into_iter()
            .map(|spec| (spec.name, (spec.shape.clone(), values(spec.shape.iter().product()))));
        Network { tensors: tensors.collect(), config, folder: tempfile::tempdir().unwrap() }
    }

    /// A tiny network whose weights are unlike each other, so that labels win by places.
    pub fn varied() -> Network {
        let image = ImageEncoder::Vit { patch: 16, dim: 8, depth: 4, heads: 2, mlp: 6, grid: 2, hooks: [0, 1, 2, 3] };
        let mut network = Network::tiny(image, HeadBlock::NONE);
        for (seed, (_, values)) in network.tensors.values_mut().enumerate() {
            for (i, value) in values.iter_mut().enumerate() {
                *value = ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.4;
            }
        }
        network.tensors.iter_mut().filter(|(name, _)| name.ends_with("running_var")).for_each(|(_, (_, values))| {
            values.iter_mut().for_each(|value| *value = value.abs() + 0.5);
        });
        network
    }

    pub fn values(&mut self, tensor: &str) -> &mut Vec<f32> {
        &mut self.tensors.get_mut(tensor).unwrap_or_else(|| panic!("no {tensor}")).1
    }

    pub fn multiply(&mut self, tensor: &str, by: f32) {
        self.values(tensor).iter_mut().for_each(|value| *value *= by);
    }

    /// A ResNet's function with all activations of the image `by` times as large: the stem makes them so, and nothing after it
    /// takes it back.
    pub fn amplify(&mut self, by: f32) {
        let names: Vec<String> = self.tensors.keys().cloned().collect();
        let image = |name: &&String| name.starts_with("pretrained.") || name.starts_with("scratch.");
        let stem = "pretrained.layer1.1.";
        for name in names.iter().filter(image).filter(|name| !name.contains("head_block")) {
            let shift = name.ends_with(".bias") || name.ends_with(".running_mean") && !name.starts_with(stem);
            if shift || *name == format!("{stem}weight") {
                self.multiply(name, by);
            }
        }
    }

    /// The file of the network as it is now.
    pub fn write(&self) -> PathBuf {
        let path = self.folder.path().join("changed.safetensors");
        let views = self.tensors.iter().map(|(name, (shape, values))| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
        });
        let json = serde_json::to_string(&self.config).unwrap();
        let metadata = std::collections::HashMap::from([(METADATA_KEY.to_owned(), json)]);
        safetensors::serialize_to_file(views, Some(metadata), &path).unwrap();
        path
    }
}
