//! The ViT image encoder (Dosovitskiy et al., 2010.11929): pre-norm blocks; the outputs of four of them are the result.

use super::config::ImageEncoder;
use super::weights::{After, ConvShape, Loader};
use crate::device::{Buf, Device, Element, Epilogue, Func, LayerNorm, Linear, Normalise, Vector};
use crate::error::Result;

const EPS: f32 = 1e-6;

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

struct Block {
    norm1: LayerNorm,
    /// `[3·dim, dim]`
    qkv: Linear,
    /// `[dim, dim]`
    proj: Linear,
    norm2: LayerNorm,
    /// `[mlp, dim]`
    fc1: Linear,
    /// `[dim, mlp]`
    fc2: Linear,
}

impl Vit {
    pub fn load(config: &ImageEncoder, from: &mut Loader<'_>) -> Result<Vit> {
        let &ImageEncoder::Vit { patch, dim, heads, mlp, grid, hooks, .. } = config else {
            unreachable!("the model loads the encoder that its configuration names")
        };
        let root = "pretrained.model";
        let shape = ConvShape { outputs: dim, inputs: 3, kernel: patch, stride: patch, pad: 0 };
        let patch_embed = from.conv(&format!("{root}.patch_embed.proj"), shape, After::Bias)?;
        Ok(Vit {
            patch,
            dim,
            heads,
            grid,
            hooks,
            patch_embed: Linear { weight: patch_embed.weight, bias: patch_embed.bias },
            cls_token: from.vector(&format!("{root}.cls_token"), &[1, 1, dim])?,
            pos_embed: from.vector(&format!("{root}.pos_embed"), &[1, 1 + grid * grid, dim])?,
            blocks: (0..=hooks[3])
                .map(|i| Block::load(from, &format!("{root}.blocks.{i}"), dim, mlp))
                .collect::<Result<_>>()?,
        })
    }

    /// Photo `[b, h0, w0, 3]`, taken as `size` = (H, W) → the hooks' tokens, each `[b, 1, 1 + h·w, dim]`.
    pub fn forward(&self, d: &mut dyn Device, photo: Buf, normalise: &Normalise, size: (usize, usize)) -> [Buf; 4] {
        let (b, (h, w), dim) = (photo.batch(), (size.0 / self.patch, size.1 / self.patch), self.dim);
        let t = 1 + h * w;
        d.scope("patch_embed", 0);
        let patches = d.buffer("patches", [b, h, w, self.patch * self.patch * 3], Element::Activation);
        d.patchify(photo, normalise, self.patch, patches);
        let mut x = d.buffer("tokens", [b, 1, t, dim], Element::F32);
        d.gemm(patches.all(), &self.patch_embed, Epilogue::NONE, x.patch_rows());
        d.add_positions(self.cls_token, self.pos_embed, self.grid, (h, w), x);

        let mut hooked = [x; 4];
        for (i, block) in self.blocks.iter().enumerate() {
            d.scope("block", i);
            let hook = self.hooks.iter().position(|hook| *hook == i);
            let name = hook.map_or("tokens", |k| ["hook1", "hook2", "hook3", "hook4"][k]);
            x = block.forward(d, x, self.heads, name);
            if let Some(k) = hook {
                hooked[k] = x;
            }
        }
        hooked
    }
}

impl Block {
    fn load(from: &mut Loader<'_>, name: &str, dim: usize, mlp: usize) -> Result<Block> {
        Ok(Block {
            norm1: from.layer_norm(&format!("{name}.norm1"), dim, EPS)?,
            qkv: from.linear(&format!("{name}.attn.qkv"), 3 * dim, dim)?,
            proj: from.linear(&format!("{name}.attn.proj"), dim, dim)?,
            norm2: from.layer_norm(&format!("{name}.norm2"), dim, EPS)?,
            fc1: from.linear(&format!("{name}.mlp.fc1"), mlp, dim)?,
            fc2: from.linear(&format!("{name}.mlp.fc2"), dim, mlp)?,
        })
    }

    fn forward(&self, d: &mut dyn Device, x: Buf, heads: usize, name: &'static str) -> Buf {
        let [b, _, t, dim] = x.shape;
        let normed = d.buffer("norm1", x.shape, Element::Activation);
        d.layer_norm(x, &self.norm1, normed);
        let qkv = d.buffer("qkv", [b, 1, t, 3 * dim], Element::Activation);
        d.gemm(normed.all(), &self.qkv, Epilogue::NONE, qkv.all());
        let heard = d.buffer("attention", x.shape, Element::Activation);
        d.attention(qkv, heads, false, heard);
        let middle = d.buffer("tokens", x.shape, Element::F32);
        d.gemm(heard.all(), &self.proj, Epilogue::add(x.all()), middle.all());

        let normed = d.buffer("norm2", x.shape, Element::Activation);
        d.layer_norm(middle, &self.norm2, normed);
        let hidden = d.buffer("mlp", [b, 1, t, self.fc1.weight.n], Element::Activation);
        d.gemm(normed.all(), &self.fc1, Epilogue::func(Func::Gelu), hidden.all());
        let out = d.buffer(name, x.shape, Element::F32);
        d.gemm(hidden.all(), &self.fc2, Epilogue::add(middle.all()), out.all());
        out
    }
}
