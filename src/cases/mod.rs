//! The operations of the device with sizes to try them at: one table for tests, `bench kernels` and every device.
//!
//! [`AWKWARD`] has the sizes that kernels get wrong (odd, ragged, one, just past a block), with values planted where
//! arithmetic goes wrong; [`LONG`] a sequence of thousands of tokens. [`REAL`] has the shapes of the published models at 480×480.

pub mod data;
pub mod run;
mod table;
pub mod traffic;

use crate::device::{
    Buf, Conv, ConvTranspose, Device, Element, Epilogue, Func, LayerNorm, Linear, Normalise, Rows, Similarity,
};

use crate::model::config::Activation;

pub use data::{Prepared, Values, Weights};
pub use table::{AWKWARD, LONG, REAL};

/// (height, width)
pub type Map = (usize, usize);

/// One operation of [`Device`] and the sizes of one call.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Patchify {
        batch: usize,
        photo: Map,
        grid: Map,
        patch: usize,
    },
    AddPositions {
        batch: usize,
        side: usize,
        grid: Map,
        dim: usize,
    },
    /// Of each batch item the rows `first .. first + rows` of the input, `behind` more behind them, become the rows
    /// `to .. to + rows` of the output; its rows before them stay.
    Gemm {
        batch: usize,
        first: usize,
        rows: usize,
        behind: usize,
        to: usize,
        k: usize,
        n: usize,
        x: Element,
        out: Element,
        bias: bool,
        add: Add,
        func: Func,
    },
    LayerNorm {
        batch: usize,
        rows: usize,
        channels: usize,
    },
    Attention {
        batch: usize,
        tokens: usize,
        heads: usize,
        size: usize,
        causal: bool,
    },
    Conv {
        batch: usize,
        map: Map,
        shape: ConvShape,
        relu_in: bool,
        bias: bool,
        adds: usize,
        func: Func,
    },
    ConvTranspose {
        batch: usize,
        map: Map,
        inputs: usize,
        outputs: usize,
        stride: usize,
    },
    Upsample {
        batch: usize,
        map: Map,
        channels: usize,
    },
    MaxPool {
        batch: usize,
        map: Map,
        channels: usize,
    },
    EmbedTokens {
        batch: usize,
        tokens: usize,
        width: usize,
        vocab: usize,
    },
    TakeRows {
        batch: usize,
        rows: usize,
        width: usize,
    },
    Sample {
        batch: usize,
        map: Map,
        channels: usize,
        photo: Map,
        points: usize,
    },
    /// Without `offset` both products have a bias of zeros and no rest, so that a pixel of zeros has no direction.
    Similarity {
        batch: usize,
        map: Map,
        features: usize,
        rank: usize,
        labels: usize,
        offset: bool,
        /// R is upper triangular, as a QR decomposition makes it.
        upper: bool,
    },
    Regularise {
        batch: usize,
        map: Map,
        labels: usize,
        bottleneck: bool,
        activation: Option<Activation>,
    },
    UpsampleScores {
        batch: usize,
        map: Map,
        labels: usize,
    },
    Argmax {
        batch: usize,
        map: Map,
        labels: usize,
        mask: Map,
        output: Winner,
    },
    Overlay {
        batch: usize,
        photo: Map,
        labels: usize,
    },
}

/// What [`Op::Argmax`] makes, and which of it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    Mask,
    MaskBesideBest,
    Best,
    NotFinite,
}

/// What [`Op::Gemm`] adds before the function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Add {
    None,
    /// Rows of the output's shape.
    One,
    Two,
    /// One row for each batch item.
    Row,
}

#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

impl ConvShape {
    /// The output's size.
    pub fn out(self, (h, w): Map) -> Map {
        let side = |side: usize| (side + 2 * self.pad - self.kernel) / self.stride + 1;
        (side(h), side(w))
    }
}

/// What is planted among seeded values of about 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plant {
    Nothing,
    /// Some channels are 300 times the others, as in trained transformers; attention logits reach ±80.
    Outliers,
    /// Some values are NaN.
    Nan,
    /// Some values are infinite, in the first batch item alone.
    Infinite,
    /// Some rows are zeros.
    Zeros,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub op: Op,
    pub plant: Plant,
}

pub const NORMALISE: Normalise = Normalise { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
pub const LAYER_NORM_EPS: f32 = 1e-6;

/// r² of [`Op::Similarity`].
pub fn rest(offset: bool) -> f32 {
    if offset { 0.37 } else { 0.0 }
}

impl Op {
    /// The operation's name, as the device has it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Patchify { .. } => "patchify",
            Op::AddPositions { .. } => "add_positions",
            Op::Gemm { .. } => "gemm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Attention { .. } => "attention",
            Op::Conv { .. } => "conv",
            Op::ConvTranspose { .. } => "conv_transpose",
            Op::Upsample { .. } => "upsample",
            Op::MaxPool { .. } => "max_pool",
            Op::EmbedTokens { .. } => "embed_tokens",
            Op::TakeRows { .. } => "take_rows",
            Op::Sample { .. } => "sample",
            Op::Similarity { .. } => "similarity",
            Op::Regularise { .. } => "regularise",
            Op::UpsampleScores { .. } => "upsample_scores",
            Op::Argmax { .. } => "argmax",
            Op::Overlay { .. } => "overlay",
        }
    }

    /// Whether the output is the first input.
    pub fn in_place(&self) -> bool {
        matches!(self, Op::AddPositions { .. })
    }

    /// The call: `inputs` and `weights` as [`Prepared`] lists them.
    pub fn call(&self, d: &mut dyn Device, inputs: &[Buf], weights: &Weights, out: Buf) {
        let (m, v) = (&weights.matrices, &weights.vectors);
        let linear = |i: usize| Linear { weight: m[i], bias: v.get(i).copied() };
        match *self {
            Op::Patchify { patch, .. } => d.patchify(inputs[0], &NORMALISE, patch, out),
            Op::AddPositions { side, grid, .. } => d.add_positions(v[0], v[1], side, grid, out),
            Op::Gemm { first, rows, to, add, func, .. } => {
                let part = |buf: Buf| Rows { buf, first: to, count: rows };
                let epilogue = match add {
                    Add::None => Epilogue::NONE,
                    Add::One => Epilogue::add(part(inputs[1])),
                    Add::Two => Epilogue::add(part(inputs[1])).and_add(part(inputs[2])),
                    Add::Row => Epilogue::add(inputs[1].all()),
                };
                let x = Rows { buf: inputs[0], first, count: rows };
                d.gemm(x, &linear(0), epilogue.then(func), part(out));
            }
            Op::LayerNorm { .. } => {
                d.layer_norm(inputs[0], &LayerNorm { weight: v[0], bias: v[1], eps: LAYER_NORM_EPS }, out);
            }
            Op::Attention { heads, causal, .. } => d.attention(inputs[0], heads, causal, out),
            Op::Conv { shape: ConvShape { kernel, stride, pad, .. }, relu_in, func, .. } => {
                let Linear { weight, bias } = linear(0);
                let mut epilogue = Epilogue::func(func);
                for (slot, add) in epilogue.add.iter_mut().zip(&inputs[1..]) {
                    *slot = Some(add.all());
                }
                d.conv(inputs[0], &Conv { weight, bias, kernel, stride, pad }, relu_in, epilogue, out);
            }
            Op::ConvTranspose { stride, .. } => {
                d.conv_transpose(inputs[0], &ConvTranspose { weight: m[0], bias: v[0], stride }, out);
            }
            Op::Upsample { .. } => d.upsample(inputs[0], out),
            Op::MaxPool { .. } => d.max_pool(inputs[0], out),
            Op::EmbedTokens { .. } => d.embed_tokens(inputs[0], m[0], v[0], out),
            Op::TakeRows { .. } => d.take_rows(inputs[0], inputs[1], out),
            Op::Sample { photo, .. } => d.sample(inputs[0], inputs[1], photo, out),
            Op::Similarity { offset, .. } => {
                d.similarity(inputs[0], &Similarity { labels: linear(0), norm: linear(1), rest: rest(offset) }, out);
            }
            Op::Regularise { bottleneck, activation, .. } => d.regularise(inputs[0], v[0], bottleneck, activation, out),
            Op::UpsampleScores { .. } => d.upsample_scores(inputs[0], out),
            Op::Overlay { .. } => d.overlay(inputs[0], inputs[1], inputs[2], out),
            Op::Argmax { mask, output, .. } => {
                let mut other = |shape, element| d.buffer("other output", shape, element);
                let mut not_finite = || other([1; 4], Element::U32);
                let labels = Element::of_labels(inputs[0].channels());
                match output {
                    Winner::Mask => {
                        let not_finite = not_finite();
                        d.argmax(inputs[0], out, None, not_finite);
                    }
                    Winner::MaskBesideBest => {
                        let (not_finite, best) = (not_finite(), other(out.shape, Element::F32));
                        d.argmax(inputs[0], out, Some(best), not_finite);
                    }
                    Winner::Best => {
                        let (not_finite, mask) = (not_finite(), other(out.shape, labels));
                        d.argmax(inputs[0], mask, Some(out), not_finite);
                    }
                    Winner::NotFinite => {
                        let mask = other([inputs[0].batch(), mask.0, mask.1, 1], labels);
                        d.argmax(inputs[0], mask, None, out);
                    }
                }
            }
        }
    }
}

/// The element of the output's buffer.
fn out_element(op: &Op) -> Element {
    match op {
        Op::Argmax { output: Winner::Best, .. } => Element::F32,
        Op::Argmax { output: Winner::NotFinite, .. } => Element::U32,
        Op::Argmax { labels, .. } => Element::of_labels(*labels),
        Op::Overlay { .. } => Element::U8,
        Op::Gemm { out, .. } => *out,
        Op::AddPositions { .. } | Op::EmbedTokens { .. } | Op::Similarity { .. } => Element::F32,
        Op::Regularise { .. } | Op::UpsampleScores { .. } | Op::TakeRows { .. } => Element::F32,
        _ => Element::Activation,
    }
}
