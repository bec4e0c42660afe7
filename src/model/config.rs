//! What a model is made of, in numbers: read from our own file's `__metadata__`, or told from a published
//! checkpoint's names and shapes by `convert`.

use serde::{Deserialize, Serialize};

/// The key of [`Config`]'s JSON in a converted file's `__metadata__`.
pub const METADATA_KEY: &str = "lseg-fast.config";

/// Logits are cosines times this constant (LSeg, section 3.2; the published code's 1/0.07).
pub const LOGIT_SCALE: f32 = 1.0 / 0.07;

/// A whole model: image encoder, decoder, text tower, head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The preset's name, or `custom`.
    pub preset: String,
    pub image: ImageEncoder,
    /// Channels of the four maps that leave the encoder's reassembly, fine to coarse.
    pub reassemble: [usize; 4],
    /// Channels of the decoder ("features", 256 as published).
    pub features: usize,
    pub text: TextTower,
    /// Dimension C of the space that pixels and words share.
    pub embed_dim: usize,
    pub head_block: HeadBlock,
    /// Per channel, for RGB in [0, 1]: x ← (x − mean) / std.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// The size used when none is asked for, in the command line's form (`long:480`).
    pub default_size: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ImageEncoder {
    /// ViT (2010.11929), pre-norm, with a class token.
    Vit {
        patch: usize,
        dim: usize,
        depth: usize,
        heads: usize,
        /// Width of the blocks' hidden layer (4·dim as published).
        mlp: usize,
        /// Side of the square grid that `pos_embed` was trained on.
        grid: usize,
        /// Blocks (0-based) whose outputs the decoder takes.
        hooks: [usize; 4],
    },
    /// ResNet with bottleneck blocks, stride on the 3×3 (torchvision).
    Resnet {
        /// Channels of the 7×7 stem.
        stem: usize,
        /// Blocks in each of the four stages (3, 4, 23, 3 for ResNet-101).
        blocks: [usize; 4],
        /// Channels of each stage's 3×3 convolutions.
        planes: [usize; 4],
    },
}

/// CLIP's text transformer (2103.00020).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTower {
    /// Rows of the token table: 514 + the number of merges.
    pub vocab: usize,
    pub context: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Width of the hidden layer (4·width as published).
    pub mlp: usize,
}

/// The optional spatial regularisation of the logits (LSeg, section 3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadBlock {
    pub kind: HeadBlockKind,
    /// How many times the one block is applied; 0 counts as 1.
    pub depth: usize,
    pub activation: Activation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadBlockKind {
    None,
    Bottleneck,
    Depthwise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Relu,
    /// Slope 0.01 below zero.
    Lrelu,
    Tanh,
}

impl HeadBlock {
    pub const NONE: HeadBlock = HeadBlock { kind: HeadBlockKind::None, depth: 0, activation: Activation::Relu };
}
