//! The tensors that a model needs, by the published checkpoint's names, in the order of the computation.
//! `convert` writes exactly these, loading reads exactly these.

use super::config::{Config, HeadBlockKind, ImageEncoder, RESNET_EXPANSION, Resample, TextTower};
use crate::Result;
use crate::checkpoint::Checkpoint;

/// A needed tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
}

/// All needed tensors of a model. Convolutions are [out, in, height, width], transposed ones [in, out, height,
/// width], linears [out, in]; other data layouts do not occur.
pub fn required(config: &Config) -> Vec<TensorSpec> {
    let mut list = List(Vec::new());
    match &config.image {
        ImageEncoder::Vit { patch, dim, depth, mlp, grid, .. } => {
            vit(&mut list, *patch, *dim, *depth, *mlp, *grid);
            reassembly(&mut list, *patch, *dim, config.reassemble);
        }
        ImageEncoder::Resnet { stem, blocks, planes } => resnet(&mut list, *stem, *blocks, *planes),
    }
    decoder(&mut list, config);
    text(&mut list, &config.text, config.embed_dim);
    list.0
}

/// Checks that every needed tensor is in the file, with its shape and with floats as elements.
///
/// # Errors
/// The first one that is not, as [`Checkpoint::check`] says it.
pub fn check(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    required(config).iter().try_for_each(|spec| checkpoint.check(&spec.name, &spec.shape).map(drop))
}

struct List(Vec<TensorSpec>);

impl List {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push(TensorSpec { name: name.into(), shape: shape.to_vec() });
    }

    /// `NAME.weight` of this shape and `NAME.bias` of `bias` elements.
    fn layer(&mut self, name: &str, weight: &[usize], bias: usize) {
        self.add(format!("{name}.weight"), weight);
        self.add(format!("{name}.bias"), &[bias]);
    }

    fn linear(&mut self, name: &str, from: usize, to: usize) {
        self.layer(name, &[to, from], to);
    }

    fn layer_norm(&mut self, name: &str, width: usize) {
        self.layer(name, &[width], width);
    }

    fn batch_norm(&mut self, name: &str, channels: usize) {
        self.layer(name, &[channels], channels);
        self.add(format!("{name}.running_mean"), &[channels]);
        self.add(format!("{name}.running_var"), &[channels]);
    }

    /// A convolution without bias and the batch norm that follows it.
    fn conv_norm(&mut self, conv: &str, norm: &str, weight: [usize; 4]) {
        self.add(format!("{conv}.weight"), &weight);
        self.batch_norm(norm, weight[0]);
    }
}

/// ViT (2010.11929) as timm names it; the final norm is not needed.
fn vit(list: &mut List, patch: usize, dim: usize, depth: usize, mlp: usize, grid: usize) {
    list.layer("pretrained.model.patch_embed.proj", &[dim, 3, patch, patch], dim);
    list.add("pretrained.model.cls_token", &[1, 1, dim]);
    list.add("pretrained.model.pos_embed", &[1, 1 + grid * grid, dim]);
    for i in 0..depth {
        let block = format!("pretrained.model.blocks.{i}");
        list.layer_norm(&format!("{block}.norm1"), dim);
        list.linear(&format!("{block}.attn.qkv"), dim, 3 * dim);
        list.linear(&format!("{block}.attn.proj"), dim, dim);
        list.layer_norm(&format!("{block}.norm2"), dim);
        list.linear(&format!("{block}.mlp.fc1"), dim, mlp);
        list.linear(&format!("{block}.mlp.fc2"), mlp, dim);
    }
}

/// Readout, projection and resampling of each hook's tokens.
fn reassembly(list: &mut List, patch: usize, dim: usize, channels: [usize; 4]) {
    // A patch without a reassembly does not pass `Config::validate`; its list ends here.
    let steps = Resample::for_patch(patch).into_iter().flatten();
    for (k, (step, channels)) in steps.zip(channels).enumerate() {
        let hook = format!("pretrained.act_postprocess{}", k + 1);
        list.linear(&format!("{hook}.0.project.0"), 2 * dim, dim);
        list.layer(&format!("{hook}.3"), &[channels, dim, 1, 1], channels);
        match step {
            Resample::Up(factor) => list.layer(&format!("{hook}.4"), &[channels, channels, factor, factor], channels),
            Resample::Keep => {}
            Resample::Down => list.layer(&format!("{hook}.4"), &[channels, channels, 3, 3], channels),
        }
    }
}

/// ResNet with bottleneck blocks as torchvision names them, except that `layer1` also holds the stem
/// (0 conv, 1 norm, 2 ReLU, 3 max-pool, 4 blocks).
fn resnet(list: &mut List, stem: usize, blocks: [usize; 4], planes: [usize; 4]) {
    list.conv_norm("pretrained.layer1.0", "pretrained.layer1.1", [stem, 3, 7, 7]);
    let mut input = stem;
    for (stage, (blocks, planes)) in blocks.into_iter().zip(planes).enumerate() {
        let layer =
            if stage == 0 { "pretrained.layer1.4".to_owned() } else { format!("pretrained.layer{}", stage + 1) };
        let output = planes * RESNET_EXPANSION;
        for j in 0..blocks {
            let block = format!("{layer}.{j}");
            list.conv_norm(&format!("{block}.conv1"), &format!("{block}.bn1"), [planes, input, 1, 1]);
            list.conv_norm(&format!("{block}.conv2"), &format!("{block}.bn2"), [planes, planes, 3, 3]);
            list.conv_norm(&format!("{block}.conv3"), &format!("{block}.bn3"), [output, planes, 1, 1]);
            if has_downsample(stage, j, input, output) {
                let shortcut = format!("{block}.downsample");
                list.conv_norm(&format!("{shortcut}.0"), &format!("{shortcut}.1"), [output, input, 1, 1]);
            }
            input = output;
        }
    }
}

/// Whether a block's shortcut has a convolution: where it changes the size (the first block of each stage but
/// the first) or the number of channels.
pub fn has_downsample(stage: usize, block: usize, input: usize, output: usize) -> bool {
    block == 0 && (stage > 0 || input != output)
}

/// DPT's decoder (2103.13413), the per-pixel embedding and the optional head block. The coarsest RefineNet has
/// no skip: its first residual unit is not needed.
fn decoder(list: &mut List, config: &Config) {
    let features = config.features;
    for k in 1..=4 {
        list.add(format!("scratch.layer{k}_rn.weight"), &[features, config.reassemble[k - 1], 3, 3]);
    }
    for k in 1..=4 {
        let net = format!("scratch.refinenet{k}");
        for unit in if k == 4 { 2..=2 } else { 1..=2 } {
            let unit = format!("{net}.resConfUnit{unit}");
            for i in 1..=2 {
                list.conv_norm(&format!("{unit}.conv{i}"), &format!("{unit}.bn{i}"), [features, features, 3, 3]);
            }
        }
        list.layer(&format!("{net}.out_conv"), &[features, features, 1, 1], features);
    }
    list.layer("scratch.head1", &[config.embed_dim, features, 1, 1], config.embed_dim);
    if config.head_block.kind != HeadBlockKind::None {
        list.layer("scratch.head_block.depthwise.depthwise", &[1, 1, 3, 3], 1);
    }
}

/// CLIP's text transformer (2103.00020).
fn text(list: &mut List, tower: &TextTower, embed_dim: usize) {
    let width = tower.width;
    list.add("clip_pretrained.token_embedding.weight", &[tower.vocab, width]);
    list.add("clip_pretrained.positional_embedding", &[tower.context, width]);
    for i in 0..tower.layers {
        let block = format!("clip_pretrained.transformer.resblocks.{i}");
        list.layer_norm(&format!("{block}.ln_1"), width);
        list.add(format!("{block}.attn.in_proj_weight"), &[3 * width, width]);
        list.add(format!("{block}.attn.in_proj_bias"), &[3 * width]);
        list.linear(&format!("{block}.attn.out_proj"), width, width);
        list.layer_norm(&format!("{block}.ln_2"), width);
        list.linear(&format!("{block}.mlp.c_fc"), width, tower.mlp);
        list.linear(&format!("{block}.mlp.c_proj"), tower.mlp, width);
    }
    list.layer_norm("clip_pretrained.ln_final", width);
    list.add("clip_pretrained.text_projection", &[width, embed_dim]);
}
