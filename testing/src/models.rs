//! Models of a few thousand parameters, and checkpoints opened by the engine.

use lseg_fast::Error;
use lseg_fast::checkpoint::{Checkpoint, Dtype};
use lseg_fast::model::config::{Activation, Config, HeadBlock, HeadBlockKind, ImageEncoder, TextTower};
use lseg_fast::model::required;

use crate::checkpoint::{Tensor, fixture};

/// A committed checkpoint.
pub fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap()
}

/// Writes `bytes` into a fresh folder and opens them.
pub fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

/// The message with which these bytes are refused.
pub fn refusal(bytes: &[u8]) -> String {
    match open_bytes(bytes) {
        Ok(checkpoint) => panic!("was opened: {:?}", checkpoint.names().collect::<Vec<_>>()),
        Err(error) => error.to_string(),
    }
}

/// All tensors of a model with small numbers in them, as float32; no variance is below 0.
pub fn model(config: &Config) -> Vec<Tensor> {
    let tensors = required(config).into_iter().enumerate().map(|(i, spec)| {
        let count: usize = spec.shape.iter().product();
        let is_variance = spec.name.ends_with(".running_var");
        let value = |j| ((i + 3 * j) % 17) as f32 * 0.125 - 1.0;
        let value = |j| if is_variance { value(j) + 1.0 } else { value(j) };
        let values = (0..count).flat_map(|j| value(j).to_le_bytes());
        (spec.name, Dtype::F32, spec.shape.clone(), values.collect())
    });
    tensors.collect()
}

/// A ResNet model of a few thousand parameters; only our own files may be so narrow.
pub fn narrow() -> Config {
    Config {
        preset: "custom".to_owned(),
        image: ImageEncoder::Resnet { stem: 2, blocks: [1, 2, 1, 1], planes: [1, 1, 2, 2] },
        reassemble: [4, 4, 8, 8],
        features: 2,
        text: TextTower { vocab: 514, context: 5, width: 4, layers: 2, heads: 2, mlp: 6 },
        embed_dim: 3,
        head_block: HeadBlock { kind: HeadBlockKind::Depthwise, depth: 2, activation: Activation::Tanh },
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        default_size: "32x64".to_owned(),
    }
}

/// A ResNet model that is told from shapes: a text tower of one head, float16 throughout.
pub fn foreign() -> (Config, Vec<Tensor>) {
    let mut config = narrow();
    config.text = TextTower { vocab: 514, context: 5, width: 64, layers: 1, heads: 1, mlp: 6 };
    config.head_block = HeadBlock::NONE;
    config.default_size = "long:480".to_owned();
    let mut tensors = model(&config);
    for (_, dtype, _, bytes) in &mut tensors {
        *dtype = Dtype::F16;
        let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        *bytes = floats.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
    }
    (config, tensors)
}
