//! Which model a checkpoint holds: stated by our own files, told from names and shapes for all others.

use super::config::{Activation, Config, HeadBlock, HeadBlockKind, ImageEncoder, METADATA_KEY, Resample, TextTower};
use super::required;
use crate::checkpoint::{Checkpoint, HyperParameter, printable};
use crate::{Error, Result};

/// What a caller says about the head block; it counts more than what the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadBlockOverride {
    /// Which block.
    pub head_block: Option<HeadBlockKind>,
    /// How many times it is applied.
    pub depth: Option<usize>,
    /// Its activation.
    pub activation: Option<Activation>,
}

/// Channels of one attention head in every published model: a file does not say it.
const HEAD_WIDTH: usize = 64;

const HEAD_BLOCK_WEIGHT: &str = "scratch.head_block.depthwise.depthwise.weight";

/// The encoders that published models are made of.
const VIT_L_16: ImageEncoder =
    ImageEncoder::Vit { patch: 16, dim: 1024, depth: 24, heads: 16, mlp: 4096, grid: 24, hooks: [5, 11, 17, 23] };
const VIT_B_32: ImageEncoder =
    ImageEncoder::Vit { patch: 32, dim: 768, depth: 12, heads: 12, mlp: 3072, grid: 12, hooks: [2, 5, 8, 11] };
const RESNET_101: ImageEncoder = ImageEncoder::Resnet { stem: 64, blocks: [3, 4, 23, 3], planes: [64, 128, 256, 512] };

/// A published model: name, image encoder, reassemble channels, text width (C is the same).
const PRESETS: [(&str, ImageEncoder, [usize; 4], usize); 5] = [
    ("vitl16", VIT_L_16, [256, 512, 1024, 1024], 512),
    ("vitb32", VIT_B_32, [96, 192, 384, 768], 512),
    ("rn50x16_vitl16", VIT_L_16, [256, 512, 1024, 1024], 768),
    ("rn50x4_vitl16", VIT_L_16, [256, 512, 1024, 1024], 640),
    ("rn101", RESNET_101, [256, 512, 1024, 2048], 512),
];

/// Tells a checkpoint's configuration and checks every tensor that it needs.
///
/// # Errors
/// [`Error::MissingTensor`] and [`Error::Tensor`] for tensors that are not as the others imply;
/// [`Error::Config`] for a model whose heads or hooks cannot be told, for a stated configuration that
/// contradicts itself, and for a head block of which kind, depth or activation are said nowhere.
pub fn detect(checkpoint: &Checkpoint, overrides: &HeadBlockOverride) -> Result<Config> {
    let refuse = |reason: String| Error::config(checkpoint.path(), reason);
    let config = match checkpoint.metadata().get(METADATA_KEY) {
        Some(json) => {
            let mut config = Config::from_json(json).map_err(|reason| refuse(printable(&reason)))?;
            let stated = config.head_block.clone();
            config.head_block = head_block(checkpoint, overrides, Some(stated)).map_err(refuse)?;
            config
        }
        None => from_shapes(checkpoint, overrides)?,
    };
    config.validate().map_err(refuse)?;
    required(&config).iter().try_for_each(|tensor| checkpoint.check(&tensor.name, &tensor.shape).map(drop))?;
    Ok(config)
}

/// What a ViT has and a ResNet has not, and the reverse.
const PATCH_EMBED: &str = "pretrained.model.patch_embed.proj.weight";
const STEM: &str = "pretrained.layer1.0.weight";

fn from_shapes(checkpoint: &Checkpoint, overrides: &HeadBlockOverride) -> Result<Config> {
    let refuse = |reason: String| Error::config(checkpoint.path(), reason);
    let has = |name: &str| checkpoint.info(name).is_some();
    let vit = has(PATCH_EMBED);
    let resnet = has(STEM);
    let image = match (vit, resnet) {
        (true, false) => vit_encoder(checkpoint)?,
        (false, true) => resnet_encoder(checkpoint)?,
        (true, true) => return Err(refuse("holds both a ViT and a ResNet; one image encoder is expected".to_owned())),
        (false, false) => {
            let first = checkpoint.names().next().unwrap_or_default();
            return Err(refuse(format!(
                "is no LSeg checkpoint: neither a ViT ({PATCH_EMBED}) nor a ResNet ({STEM}) is in it; its first tensor is {}",
                printable(first)
            )));
        }
    };
    let mut reassemble = [0; 4];
    let mut features = 0;
    for (k, channels) in reassemble.iter_mut().enumerate() {
        [features, *channels, _, _] = shape(checkpoint, &format!("scratch.layer{}_rn.weight", k + 1))?;
    }
    let (text, embed_dim) = text_tower(checkpoint)?;
    let (mean, std) = match image {
        ImageEncoder::Vit { .. } => ([0.5; 3], [0.5; 3]),
        // ImageNet's, with which the published ResNet models were trained.
        ImageEncoder::Resnet { .. } => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    };
    let mut config = Config {
        preset: "custom".to_owned(),
        image,
        reassemble,
        features,
        text,
        embed_dim,
        head_block: head_block(checkpoint, overrides, None).map_err(refuse)?,
        mean,
        std,
        default_size: "long:480".to_owned(),
    };
    if let Some(preset) = published(&config) {
        config.preset = preset.to_owned();
    }
    Ok(config)
}

/// The published model that has these numbers.
fn published(config: &Config) -> Option<&'static str> {
    PRESETS.iter().find_map(|(name, image, reassemble, width)| {
        let text = TextTower {
            vocab: 49408,
            context: 77,
            width: *width,
            layers: 12,
            heads: width / HEAD_WIDTH,
            mlp: 4 * width,
        };
        let same = config.image == *image
            && config.reassemble == *reassemble
            && config.features == 256
            && config.text == text
            && config.embed_dim == *width;
        same.then_some(*name)
    })
}

fn vit_encoder(checkpoint: &Checkpoint) -> Result<ImageEncoder> {
    let refuse = |reason: String| Error::config(checkpoint.path(), reason);
    let [dim, _, patch, _] = shape(checkpoint, PATCH_EMBED)?;
    let [_, rows, _] = shape(checkpoint, "pretrained.model.pos_embed")?;
    let depth = count(checkpoint, "pretrained.model.blocks.");
    let [mlp, _] = shape(checkpoint, "pretrained.model.blocks.0.mlp.fc1.weight")?;
    if Resample::for_patch(patch).is_none() {
        return Err(refuse(format!("its ViT has patches of {patch} pixels; LSeg has 16 or 32")));
    }
    if depth == 0 || !depth.is_multiple_of(4) {
        return Err(refuse(format!(
            "its ViT has {depth} blocks; which four feed the decoder is told only for a depth divisible by 4"
        )));
    }
    let grid = rows.saturating_sub(1).isqrt();
    if grid == 0 || grid * grid + 1 != rows {
        return Err(refuse(format!(
            "pretrained.model.pos_embed has {rows} rows; one for the class and a square grid's are expected"
        )));
    }
    let heads = heads(checkpoint, "ViT", dim)?;
    let hooks = [1, 2, 3, 4].map(|k| depth / 4 * k - 1);
    Ok(ImageEncoder::Vit { patch, dim, depth, heads, mlp, grid, hooks })
}

fn resnet_encoder(checkpoint: &Checkpoint) -> Result<ImageEncoder> {
    let [stem, _, _, _] = shape(checkpoint, STEM)?;
    let stages = ["pretrained.layer1.4.", "pretrained.layer2.", "pretrained.layer3.", "pretrained.layer4."];
    let (mut blocks, mut planes) = ([0; 4], [0; 4]);
    for (k, stage) in stages.into_iter().enumerate() {
        blocks[k] = count(checkpoint, stage);
        let [width, _, _, _] = shape(checkpoint, &format!("{stage}0.conv2.weight"))?;
        planes[k] = width;
    }
    Ok(ImageEncoder::Resnet { stem, blocks, planes })
}

/// The text tower and the dimension C of its output.
fn text_tower(checkpoint: &Checkpoint) -> Result<(TextTower, usize)> {
    let [vocab, width] = shape(checkpoint, "clip_pretrained.token_embedding.weight")?;
    let [context, _] = shape(checkpoint, "clip_pretrained.positional_embedding")?;
    let [mlp, _] = shape(checkpoint, "clip_pretrained.transformer.resblocks.0.mlp.c_fc.weight")?;
    let [_, embed_dim] = shape(checkpoint, "clip_pretrained.text_projection")?;
    let layers = count(checkpoint, "clip_pretrained.transformer.resblocks.");
    let heads = heads(checkpoint, "text tower", width)?;
    Ok((TextTower { vocab, context, width, layers, heads, mlp }, embed_dim))
}

fn heads(checkpoint: &Checkpoint, tower: &str, width: usize) -> Result<usize> {
    if width == 0 || !width.is_multiple_of(HEAD_WIDTH) {
        return Err(Error::config(
            checkpoint.path(),
            format!(
                "its {tower} has width {width}; the number of heads is told only for a width divisible by {HEAD_WIDTH}"
            ),
        ));
    }
    Ok(width / HEAD_WIDTH)
}

/// The sizes of a tensor of `N` dimensions.
fn shape<const N: usize>(checkpoint: &Checkpoint, name: &str) -> Result<[usize; N]> {
    let expected = format!("a tensor of {N} dimensions");
    let info = checkpoint.info(name).ok_or_else(|| checkpoint.missing(name, &format!("({expected})")))?;
    info.shape.as_slice().try_into().map_err(|_| Error::Tensor {
        path: checkpoint.path().to_owned(),
        name: name.to_owned(),
        expected,
        found: printable(&format!("{} {:?}", info.dtype, info.shape)),
        hint: "the file is no LSeg checkpoint".to_owned(),
    })
}

/// How many different numbers follow `prefix` in the names. (A gap among them is found as a missing tensor.)
fn count(checkpoint: &Checkpoint, prefix: &str) -> usize {
    let numbers = checkpoint.names().filter_map(|name| name.strip_prefix(prefix)?.split('.').next()?.parse().ok());
    numbers.collect::<std::collections::BTreeSet<usize>>().len()
}

/// Kind, depth and activation of the head block: overrides first, then what the file says (`stated` by our own
/// files, hyper-parameters of others).
fn head_block(
    checkpoint: &Checkpoint,
    overrides: &HeadBlockOverride,
    stated: Option<HeadBlock>,
) -> Result<HeadBlock, String> {
    if overrides.head_block == Some(HeadBlockKind::None) {
        return Ok(HeadBlock::NONE);
    }
    if checkpoint.info(HEAD_BLOCK_WEIGHT).is_none() {
        if *overrides != HeadBlockOverride::default() {
            return Err(format!(
                "a head block is asked for, but the file has none ({HEAD_BLOCK_WEIGHT}); leave out --head-block, \
                 --depth and --activation"
            ));
        }
        if let Some(stated) = stated.filter(|block| block.kind != HeadBlockKind::None) {
            return Ok(stated);
        }
        if matches!(&checkpoint.hyper_parameters().arch_option, Some(HyperParameter::Number(1 | 2))) {
            return Err(format!(
                "its hyper-parameters say that it has a head block (arch_option), but {HEAD_BLOCK_WEIGHT} is missing; \
                 the file is incomplete, or say --head-block none"
            ));
        }
        return Ok(HeadBlock::NONE);
    }

    let stated = stated.as_ref();
    let kind = match (overrides.head_block, stated) {
        (Some(kind), _) => kind,
        (None, Some(stated)) => stated.kind,
        (None, None) => stored_kind(checkpoint)?,
    };
    if kind == HeadBlockKind::None {
        return Ok(HeadBlock::NONE);
    }
    // A stated "none" says nothing about the block that an override brings back.
    let stated = stated.filter(|block| block.kind != HeadBlockKind::None);
    let depth = match (overrides.depth, stated) {
        (Some(depth), _) => depth,
        (None, Some(stated)) => stated.depth,
        (None, None) => stored_depth(checkpoint)?,
    };
    let activation = match (overrides.activation, stated) {
        (Some(activation), _) => activation,
        (None, Some(stated)) => stated.activation,
        (None, None) => stored_activation(checkpoint)?,
    };
    Ok(HeadBlock { kind, depth, activation })
}

fn stored_kind(checkpoint: &Checkpoint) -> Result<HeadBlockKind, String> {
    match &checkpoint.hyper_parameters().arch_option {
        Some(HyperParameter::Number(1)) => Ok(HeadBlockKind::Bottleneck),
        Some(HyperParameter::Number(2)) => Ok(HeadBlockKind::Depthwise),
        other => Err(unsaid("arch_option", other, "1 (bottleneck) or 2 (depthwise)")),
    }
}

fn stored_depth(checkpoint: &Checkpoint) -> Result<usize, String> {
    match &checkpoint.hyper_parameters().block_depth {
        Some(HyperParameter::Number(depth @ 0..)) => {
            usize::try_from(*depth).map_err(|_| format!("its block_depth is {depth}, which no model has"))
        }
        other => Err(unsaid("block_depth", other, "a whole number of at least 0")),
    }
}

fn stored_activation(checkpoint: &Checkpoint) -> Result<Activation, String> {
    match &checkpoint.hyper_parameters().activation {
        Some(HyperParameter::Text(name)) if name == "relu" => Ok(Activation::Relu),
        Some(HyperParameter::Text(name)) if name == "lrelu" => Ok(Activation::Lrelu),
        Some(HyperParameter::Text(name)) if name == "tanh" => Ok(Activation::Tanh),
        other => Err(unsaid("activation", other, "relu, lrelu or tanh")),
    }
}

/// The error for a head block about which the file says too little.
fn unsaid(name: &str, found: &Option<HyperParameter>, expected: &str) -> String {
    let found = match found {
        None => "is not in its hyper-parameters".to_owned(),
        Some(HyperParameter::Number(value)) => format!("is {value}"),
        Some(HyperParameter::Text(text)) => format!("is {}", printable(text)),
        Some(HyperParameter::Inert(class)) => format!("is inside an object of class {class}, which is not built"),
    };
    format!(
        "it has a head block, but {name} {found} ({expected} is expected); say what it is with \
         --head-block bottleneck|depthwise --depth N --activation relu|lrelu|tanh"
    )
}
