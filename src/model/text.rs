//! CLIP's text tower (Radford et al., 2103.00020): token ids → one vector in the space of the pixels.

use super::config::Config;
use super::weights::Loader;
use crate::device::{Buf, Device, Element, Epilogue, Func, LayerNorm, Linear, Matrix, Stage, Vector};
use crate::error::Result;

const EPS: f32 = 1e-5;

pub struct Text {
    width: usize,
    heads: usize,
    /// `[vocab, width]`
    token_embedding: Matrix,
    /// `[context, width]`
    positional_embedding: Vector,
    resblocks: Vec<Block>,
    ln_final: LayerNorm,
    /// `[embed_dim, width]`
    text_projection: Linear,
}

struct Block {
    ln_1: LayerNorm,
    /// `[3·width, width]`
    in_proj: Linear,
    /// `[width, width]`
    out_proj: Linear,
    ln_2: LayerNorm,
    /// `[mlp, width]`
    c_fc: Linear,
    /// `[width, mlp]`
    c_proj: Linear,
}

/// Buffers that the host fills before, and reads after.
#[derive(Clone, Copy)]
pub struct TextIo {
    /// `[n, 1, tokens, 1]`
    pub ids: Buf,
    /// `[n, 1, 1, 1]`: where each text's end token stands
    pub ends: Buf,
    /// `[n, 1, 1, embed_dim]`
    pub features: Buf,
}

impl Text {
    pub fn load(config: &Config, from: &mut Loader<'_>) -> Result<Text> {
        let (root, tower) = ("clip_pretrained", &config.text);
        let width = tower.width;
        let table = format!("{root}.token_embedding.weight");
        Ok(Text {
            width,
            heads: tower.heads,
            token_embedding: from.table(&table, tower.vocab, width)?,
            positional_embedding: from.vector(&format!("{root}.positional_embedding"), &[tower.context, width])?,
            resblocks: (0..tower.layers)
                .map(|i| Block::load(from, &format!("{root}.transformer.resblocks.{i}"), width, tower.mlp))
                .collect::<Result<_>>()?,
            ln_final: from.layer_norm(&format!("{root}.ln_final"), width, EPS)?,
            text_projection: from.projection(&format!("{root}.text_projection"), width, config.embed_dim)?,
        })
    }

    /// `n` texts of at most `tokens` ids. The mask is causal, so what stands behind a text's end token cannot reach it.
    pub fn forward(&self, d: &mut dyn Device, n: usize, tokens: usize) -> TextIo {
        d.stage(Stage::Text);
        d.scope("text", 0);
        let ids = d.buffer("ids", [n, 1, tokens, 1], Element::U32);
        let ends = d.buffer("ends", [n, 1, 1, 1], Element::U32);
        d.input(ids);
        d.input(ends);
        let mut x = d.buffer("text tokens", [n, 1, tokens, self.width], Element::F32);
        d.embed_tokens(ids, self.token_embedding, self.positional_embedding, x);
        for (i, block) in self.resblocks.iter().enumerate() {
            d.scope("resblock", i);
            x = block.forward(d, x, self.heads);
        }
        d.scope("text", 0);
        let pooled = d.buffer("end token", [n, 1, 1, self.width], Element::F32);
        d.take_rows(x, ends, pooled);
        let normed = d.buffer("ln_final", pooled.shape, Element::Activation);
        d.layer_norm(pooled, &self.ln_final, normed);
        let features = d.buffer("text", [n, 1, 1, self.text_projection.weight.n], Element::F32);
        d.gemm(normed.all(), &self.text_projection, Epilogue::NONE, features.all());
        d.output(features);
        TextIo { ids, ends, features }
    }
}

impl Block {
    fn load(from: &mut Loader<'_>, name: &str, width: usize, mlp: usize) -> Result<Block> {
        let (weight, bias) = (format!("{name}.attn.in_proj_weight"), format!("{name}.attn.in_proj_bias"));
        Ok(Block {
            ln_1: from.layer_norm(&format!("{name}.ln_1"), width, EPS)?,
            in_proj: from.named_linear(&weight, &bias, 3 * width, width)?,
            out_proj: from.linear(&format!("{name}.attn.out_proj"), width, width)?,
            ln_2: from.layer_norm(&format!("{name}.ln_2"), width, EPS)?,
            c_fc: from.linear(&format!("{name}.mlp.c_fc"), mlp, width)?,
            c_proj: from.linear(&format!("{name}.mlp.c_proj"), width, mlp)?,
        })
    }

    fn forward(&self, d: &mut dyn Device, x: Buf, heads: usize) -> Buf {
        let [n, _, t, width] = x.shape;
        let normed = d.buffer("ln_1", x.shape, Element::Activation);
        d.layer_norm(x, &self.ln_1, normed);
        let qkv = d.buffer("qkv", [n, 1, t, 3 * width], Element::Activation);
        d.gemm(normed.all(), &self.in_proj, Epilogue::NONE, qkv.all());
        let heard = d.buffer("attention", x.shape, Element::Activation);
        d.attention(qkv, heads, true, heard);
        let middle = d.buffer("text tokens", x.shape, Element::F32);
        d.gemm(heard.all(), &self.out_proj, Epilogue::add(x.all()), middle.all());

        let normed = d.buffer("ln_2", x.shape, Element::Activation);
        d.layer_norm(middle, &self.ln_2, normed);
        let hidden = d.buffer("mlp", [n, 1, t, self.c_fc.weight.n], Element::Activation);
        d.gemm(normed.all(), &self.c_fc, Epilogue::func(Func::QuickGelu), hidden.all());
        let out = d.buffer("text tokens", x.shape, Element::F32);
        d.gemm(hidden.all(), &self.c_proj, Epilogue::add(middle.all()), out.all());
        out
    }
}
