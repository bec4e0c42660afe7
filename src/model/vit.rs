//! The ViT image encoder (Dosovitskiy et al., 2010.11929): pre-norm blocks; the outputs of four of them are the result.

use super::config::ImageEncoder;
use super::input::Input;
use super::transformer::{Block, Style};
use super::weights::{After, Loader, TensorSpec};
use crate::error::Result;
use crate::ops::patchify::Normalise;
use crate::ops::{Buf, Element, Epilogue, Func, Linear, PlanBuilder, Vector, conv};

/// As timm names its parts.
const STYLE: Style = Style {
    norm1: "norm1",
    norm2: "norm2",
    qkv: ["attn.qkv.weight", "attn.qkv.bias"],
    proj: "attn.proj",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    tokens: "tokens",
    eps: 1e-6,
    gelu: Func::Gelu,
    causal: false,
};

pub struct Vit {
    patch: usize,
    dim: usize,
    heads: usize,
    grid: usize,
    hooks: [usize; 4],
    /// `[dim, patch·patch·3]`
    patch_embed: Linear,
    /// `[dim]`
    cls_token: Vector,
    /// `[1 + grid², dim]`
    pos_embed: Vector,
    /// Up to the last hook: what follows is never used.
    blocks: Vec<Block>,
}

impl Vit {
    pub fn load(config: &ImageEncoder, from: &mut Loader<'_>) -> Result<Vit> {
        let &ImageEncoder::Vit { patch, dim, depth, heads, mlp, grid, hooks } = config else {
            unreachable!("the model loads the encoder that its configuration names")
        };
        let root = "pretrained.model";
        let shape = conv::Shape { outputs: dim, inputs: 3, kernel: patch, stride: patch, pad: 0 };
        let patch_embed = from.conv(&format!("{root}.patch_embed.proj"), shape, After::Bias)?;
        let cls_token = from.vector(TensorSpec::new(format!("{root}.cls_token"), &[1, 1, dim]))?;
        let pos_embed = from.vector(TensorSpec::new(format!("{root}.pos_embed"), &[1, 1 + grid * grid, dim]))?;
        let block = |from: &mut Loader<'_>, i| Block::load(from, &STYLE, &format!("{root}.blocks.{i}"), (dim, mlp));
        let blocks = (0..=hooks[3]).map(|i| block(from, i)).collect::<Result<_>>()?;
        (hooks[3] + 1..depth).try_for_each(|i| from.unused(|from| block(from, i)))?;
        Ok(Vit {
            patch,
            dim,
            heads,
            grid,
            hooks,
            patch_embed: Linear { weight: patch_embed.weight, bias: patch_embed.bias },
            cls_token,
            pos_embed,
            blocks,
        })
    }

    /// Photos or windows, taken as `size` = (H, W) → the hooks' tokens, each `[b, 1, 1 + h·w, dim]`.
    pub fn forward(&self, d: &mut PlanBuilder, input: &Input, normalise: &Normalise, size: (usize, usize)) -> [Buf; 4] {
        let (b, (h, w), dim) = (input.batch(), (size.0 / self.patch, size.1 / self.patch), self.dim);
        let t = 1 + h * w;
        d.scope("patch_embed", 0);
        let patches = d.buffer("patches", [b, h, w, self.patch * self.patch * 3], Element::Activation);
        input.cut(d, normalise, self.patch, patches);
        let mut x = d.buffer("tokens", [b, 1, t, dim], Element::F32);
        d.gemm(patches.all(), &self.patch_embed, Epilogue::NONE, x.patch_rows());
        d.add_positions(self.cls_token, self.pos_embed, self.grid, (h, w), x);

        let mut hooked = [x; 4];
        for (i, block) in self.blocks.iter().enumerate() {
            d.scope("block", i);
            let hook = self.hooks.iter().position(|hook| *hook == i);
            let name = hook.map_or(STYLE.tokens, |k| ["hook1", "hook2", "hook3", "hook4"][k]);
            x = block.forward(d, x, self.heads, name);
            if let Some(k) = hook {
                hooked[k] = x;
            }
        }
        hooked
    }
}
