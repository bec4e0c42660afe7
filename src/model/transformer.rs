//! The pre-norm transformer block (Vaswani et al., 1706.03762; the norms moved as in ViT and CLIP): y = x + attention(norm₁(x)),
//! then y + mlp(norm₂(y)).

use super::weights::Loader;
use crate::error::Result;
use crate::ops::{Buf, Element, Epilogue, Func, Linear, PlanBuilder, layer_norm};

/// Wherein the blocks of the image encoder and of the text tower differ.
pub struct Style {
    /// The norms, as their tensors and their outputs are called.
    pub norm1: &'static str,
    pub norm2: &'static str,
    /// Weight and bias of the three projections in one.
    pub qkv: [&'static str; 2],
    pub proj: &'static str,
    pub fc1: &'static str,
    pub fc2: &'static str,
    /// The buffers of the residual stream.
    pub tokens: &'static str,
    pub eps: f32,
    pub gelu: Func,
    /// Whether a token attends to itself and those before it alone.
    pub causal: bool,
}

pub struct Block {
    style: &'static Style,
    norm1: layer_norm::Weights,
    /// `[3·width, width]`
    qkv: Linear,
    /// `[width, width]`
    proj: Linear,
    norm2: layer_norm::Weights,
    /// `[mlp, width]`
    fc1: Linear,
    /// `[width, mlp]`
    fc2: Linear,
}

impl Block {
    pub fn load(
        from: &mut Loader<'_>,
        style: &'static Style,
        name: &str,
        (width, mlp): (usize, usize),
    ) -> Result<Block> {
        let tensor = |part: &str| format!("{name}.{part}");
        let [weight, bias] = style.qkv.map(tensor);
        Ok(Block {
            style,
            norm1: from.layer_norm(&tensor(style.norm1), width, style.eps)?,
            qkv: from.named_linear(&weight, &bias, 3 * width, width)?,
            proj: from.linear(&tensor(style.proj), width, width)?,
            norm2: from.layer_norm(&tensor(style.norm2), width, style.eps)?,
            fc1: from.linear(&tensor(style.fc1), mlp, width)?,
            fc2: from.linear(&tensor(style.fc2), width, mlp)?,
        })
    }

    /// Tokens `[b, 1, t, width]` → a buffer `name` of the same shape.
    pub fn forward(&self, d: &mut PlanBuilder, x: Buf, heads: usize, name: &'static str) -> Buf {
        let style = self.style;
        let [b, _, t, width] = x.shape;
        let normed = d.buffer(style.norm1, x.shape, Element::Activation);
        d.layer_norm(x, &self.norm1, normed);
        let qkv = d.buffer("qkv", [b, 1, t, 3 * width], Element::Activation);
        d.gemm(normed.all(), &self.qkv, Epilogue::NONE, qkv.all());
        let attended = d.buffer("attention", x.shape, Element::Activation);
        d.attention(qkv, heads, style.causal, attended);
        let middle = d.buffer(style.tokens, x.shape, Element::F32);
        let normed = d.buffer(style.norm2, x.shape, Element::Activation);
        d.gemm_norm(attended, &self.proj, x, &self.norm2, (middle, normed));

        let hidden = d.buffer("mlp", [b, 1, t, self.fc1.weight.n], Element::Activation);
        d.gemm(normed.all(), &self.fc1, Epilogue::func(style.gelu), hidden.all());
        let out = d.buffer(name, x.shape, Element::F32);
        d.gemm(hidden.all(), &self.fc2, Epilogue::add(middle.all()), out.all());
        out
    }
}
