//! What a model is made of, in numbers: read from our own file's `__metadata__`, or told from a published
//! checkpoint's names and shapes by `convert`.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub use crate::ops::Activation;
use crate::protocol::Size;

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
    /// What the photo goes through first.
    pub image: ImageEncoder,
    /// Channels of the four maps that leave the encoder's reassembly, fine to coarse.
    pub reassemble: [usize; 4],
    /// Channels of the decoder ("features", 256 as published).
    pub features: usize,
    /// What the words go through.
    pub text: TextTower,
    /// Dimension C of the space that pixels and words share.
    pub embed_dim: usize,
    /// What the scores go through last.
    pub head_block: HeadBlock,
    /// Per channel, for RGB in [0, 1]: x ← (x − mean) / std.
    pub mean: [f32; 3],
    /// As `mean`.
    pub std: [f32; 3],
    /// The size used when none is asked for, in the command line's form (`long:480`).
    pub default_size: String,
}

/// The image encoder: a ViT or a ResNet, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ImageEncoder {
    /// ViT (2010.11929), pre-norm, with a class token.
    Vit {
        /// Side of a patch in pixels.
        patch: usize,
        /// Channels of a token.
        dim: usize,
        /// Number of blocks.
        depth: usize,
        /// Attention heads of a block.
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
    /// Tokens of a text at most, start and end included.
    pub context: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width of the hidden layer (4·width as published).
    pub mlp: usize,
}

/// The optional spatial regularisation of the logits (LSeg, section 3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadBlock {
    /// Which block.
    pub kind: HeadBlockKind,
    /// How many times the one block is applied; 0 counts as 1.
    pub depth: usize,
    /// What follows the block, but the last time.
    pub activation: Activation,
}

/// The kinds of head block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadBlockKind {
    /// The logits are the scores.
    None,
    /// A 3×3 filter, shared by all labels, and the largest logit of the pixel added.
    Bottleneck,
    /// A 3×3 filter, shared by all labels.
    Depthwise,
}

impl HeadBlock {
    /// No head block.
    pub const NONE: HeadBlock = HeadBlock { kind: HeadBlockKind::None, depth: 0, activation: Activation::Relu };
}

/// How the reassembly resizes one hook's map (DPT, 2103.13413), so that the four lie at 1/4, 1/8, 1/16 and 1/32
/// of the photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// Transposed convolution, kernel and stride of this factor.
    Up(usize),
    /// As it is.
    Keep,
    /// 3×3 convolution of stride 2, padding 1.
    Down,
}

impl Resample {
    /// The four hooks' steps for a patch size; `None` for sizes that LSeg does not define.
    pub fn for_patch(patch: usize) -> Option<[Resample; 4]> {
        match patch {
            16 => Some([Resample::Up(4), Resample::Up(2), Resample::Keep, Resample::Down]),
            32 => Some([Resample::Up(8), Resample::Up(4), Resample::Up(2), Resample::Keep]),
            _ => None,
        }
    }
}

/// Channels that leave a bottleneck block, per channel of its 3×3 convolution.
pub const RESNET_EXPANSION: usize = 4;

/// Bounds above every model of this kind, low enough that products of three dimensions cannot overflow.
const MAX_WIDTH: usize = 1 << 16;
const MAX_LAYERS: usize = 1024;
const MAX_GRID: usize = 4096;

/// For RGB in [0, 1] a mean lies there too, and std makes it about 1; who works with [0, 255] has a std of 1/255. With these the
/// normalised image stays below 11,000, which float16 holds.
const MEAN: RangeInclusive<f32> = -10.0..=10.0;
const STD: RangeInclusive<f32> = 1e-3..=1e3;

/// Rows of CLIP's token table: 48,894 merges, 256 bytes twice, start and end.
const MAX_VOCABULARY: usize = 49_408;

impl Config {
    /// Reads the JSON of a file's `__metadata__` and checks it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let config: Config =
            serde_json::from_str(json).map_err(|e| format!("its configuration cannot be read: {e}"))?;
        config.validate()?;
        Ok(config)
    }

    /// The JSON for a file's `__metadata__`.
    ///
    /// # Errors
    /// A sentence, where a number has no JSON form (a mean that is not finite).
    pub fn to_json(&self) -> Result<String, String> {
        self.validate()?;
        serde_json::to_string(self).map_err(|e| format!("the configuration cannot be written: {e}"))
    }

    /// Checks that the numbers fit together and can be computed with.
    ///
    /// # Errors
    /// A sentence that names the field, what it holds and what it may hold.
    pub fn validate(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.preset.is_empty() || self.preset.len() > 64 || !self.preset.chars().all(plain) {
            return Err("preset is expected to be a short name of letters, digits, _ and -".to_owned());
        }
        if self.default_size.len() > 64 || self.default_size.parse::<Size>().is_err() {
            return Err("default_size is expected to be a size such as long:480, 480x640 or native".to_owned());
        }
        match &self.image {
            ImageEncoder::Vit { patch, dim, depth, heads, mlp, grid, hooks } => {
                if Resample::for_patch(*patch).is_none() {
                    return Err(format!("patch is {patch}, 16 or 32 is expected"));
                }
                within("image.dim", *dim, MAX_WIDTH)?;
                within("image.depth", *depth, MAX_LAYERS)?;
                within("image.mlp", *mlp, MAX_WIDTH)?;
                within("image.grid", *grid, MAX_GRID)?;
                divides("image.heads", *heads, "image.dim", *dim)?;
                if !hooks.is_sorted_by(|a, b| a < b) || hooks[3] >= *depth {
                    return Err(format!(
                        "image.hooks are {hooks:?}, increasing numbers below the depth {depth} are expected"
                    ));
                }
            }
            ImageEncoder::Resnet { stem, blocks, planes } => {
                within("image.stem", *stem, MAX_WIDTH)?;
                for k in 0..4 {
                    within("image.blocks", blocks[k], MAX_LAYERS)?;
                    within("image.planes", planes[k], MAX_WIDTH / RESNET_EXPANSION)?;
                    let channels = planes[k] * RESNET_EXPANSION;
                    if self.reassemble[k] != channels {
                        return Err(format!(
                            "reassemble is {:?}, but stage {} of the image encoder has {channels} channels",
                            self.reassemble,
                            k + 1
                        ));
                    }
                }
            }
        }
        for channels in self.reassemble {
            within("reassemble", channels, MAX_WIDTH)?;
        }
        within("features", self.features, MAX_WIDTH)?;
        within("embed_dim", self.embed_dim, MAX_WIDTH)?;
        let TextTower { vocab, context, width, layers, heads, mlp } = &self.text;
        if !(514..=MAX_VOCABULARY).contains(vocab) {
            return Err(format!("text.vocab is {vocab}, 514 to {MAX_VOCABULARY} (CLIP's tokens) is expected"));
        }
        if !(3..=MAX_WIDTH).contains(context) {
            return Err(format!("text.context is {context}, 3 to {MAX_WIDTH} is expected"));
        }
        within("text.width", *width, MAX_WIDTH)?;
        within("text.layers", *layers, MAX_LAYERS)?;
        within("text.mlp", *mlp, MAX_WIDTH)?;
        divides("text.heads", *heads, "text.width", *width)?;
        if self.head_block.depth > MAX_LAYERS {
            return Err(format!("head_block.depth is {}, at most {MAX_LAYERS} is expected", self.head_block.depth));
        }
        if !self.mean.iter().all(|x| MEAN.contains(x)) || !self.std.iter().all(|x| STD.contains(x)) {
            return Err(format!(
                "mean {:?} and std {:?}: a mean from {} to {} and std from {} to {} are expected, for RGB from 0 to 1",
                self.mean,
                self.std,
                MEAN.start(),
                MEAN.end(),
                STD.start(),
                STD.end()
            ));
        }
        Ok(())
    }
}

fn within(field: &str, value: usize, largest: usize) -> Result<(), String> {
    if (1..=largest).contains(&value) {
        return Ok(());
    }
    Err(format!("{field} is {value}, 1 to {largest} is expected"))
}

fn divides(field: &str, value: usize, whole_field: &str, whole: usize) -> Result<(), String> {
    if value > 0 && whole.is_multiple_of(value) {
        return Ok(());
    }
    Err(format!("{field} is {value}, a divisor of {whole_field} ({whole}) is expected"))
}
