//! CLIP's text tower (Radford et al., 2103.00020): token ids → one vector in the space of the pixels.

use super::config::Config;
use super::transformer::{Block, Style};
use super::weights::{Loader, TensorSpec};
use crate::error::Result;
use crate::ops::{Buf, Element, Epilogue, Func, Linear, Matrix, PlanBuilder, Stage, Vector, layer_norm};

/// As CLIP names its parts.
const STYLE: Style = Style {
    norm1: "ln_1",
    norm2: "ln_2",
    qkv: ["attn.in_proj_weight", "attn.in_proj_bias"],
    proj: "attn.out_proj",
    fc1: "mlp.c_fc",
    fc2: "mlp.c_proj",
    tokens: "text tokens",
    eps: 1e-5,
    gelu: Func::QuickGelu,
    causal: true,
};

pub struct Text {
    width: usize,
    heads: usize,
    /// `[vocab, width]`
    token_embedding: Matrix,
    /// `[context, width]`
    positional_embedding: Vector,
    resblocks: Vec<Block>,
    ln_final: layer_norm::Weights,
    /// `[embed_dim, width]`
    text_projection: Linear,
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
            positional_embedding: from
                .vector(TensorSpec::new(format!("{root}.positional_embedding"), &[tower.context, width]))?,
            resblocks: (0..tower.layers)
                .map(|i| {
                    let name = format!("{root}.transformer.resblocks.{i}");
                    Block::load(from, &STYLE, &name, (width, tower.mlp))
                })
                .collect::<Result<_>>()?,
            ln_final: from.layer_norm(&format!("{root}.ln_final"), width, STYLE.eps)?,
            text_projection: from.projection(&format!("{root}.text_projection"), width, config.embed_dim)?,
        })
    }

    /// `n` texts of at most `tokens` ids. The mask is causal, so what stands behind a text's end token cannot reach it.
    pub fn forward(&self, d: &mut PlanBuilder, n: usize, tokens: usize) -> TextIo {
        d.stage(Stage::Text);
        d.scope("text", 0);
        let ids = d.buffer("ids", [n, 1, tokens, 1], Element::U32);
        let ends = d.buffer("ends", [n, 1, 1, 1], Element::U32);
        d.input(ids);
        d.input(ends);
        let mut x = d.buffer(STYLE.tokens, [n, 1, tokens, self.width], Element::F32);
        d.embed_tokens(ids, self.token_embedding, self.positional_embedding, x);
        for (i, block) in self.resblocks.iter().enumerate() {
            d.scope("resblock", i);
            x = block.forward(d, x, self.heads, STYLE.tokens);
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
