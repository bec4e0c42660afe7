//! The cases.

use crate::device::Element::{Activation, F32};
use crate::device::Func;
use crate::model::config;

use super::Plant::{Infinite, Nan, Nothing, Outliers, Zeros};
use super::{Add, Case, ConvShape, Map, Op, Plant, Winner};

const fn case(op: Op, plant: Plant) -> Case {
    Case { op, plant }
}

/// x·Wᵀ + b and nothing else.
const fn gemm(rows: usize, k: usize, n: usize) -> Op {
    let (x, out) = (Activation, Activation);
    let (bias, add, func) = (true, Add::None, Func::Identity);
    Op::Gemm { batch: 1, first: 0, rows, behind: 0, to: 0, k, n, x, out, bias, add, func }
}

/// With a function, as a transformer's first product.
const fn hidden(batch: usize, rows: usize, k: usize, n: usize, func: Func) -> Op {
    let (x, out, bias, add) = (Activation, Activation, true, Add::None);
    Op::Gemm { batch, first: 0, rows, behind: 0, to: 0, k, n, x, out, bias, add, func }
}

/// Onto the residual stream, as its second.
const fn residual(rows: usize, k: usize, n: usize, func: Func) -> Op {
    let (x, out, bias, add) = (Activation, F32, true, Add::One);
    Op::Gemm { batch: 1, first: 0, rows, behind: 0, to: 0, k, n, x, out, bias, add, func }
}

/// The stream's patch tokens, in a batch: it starts behind the class token, as the readout does.
const fn tokens(rows: usize, k: usize, n: usize, add: Add, func: Func) -> Op {
    let (x, out, bias) = (F32, Activation, true);
    Op::Gemm { batch: 2, first: 1, rows, behind: 0, to: 0, k, n, x, out, bias, add, func }
}

/// Into the stream, behind the class token, in a batch: the patch embedding.
const fn embedding(batch: usize, rows: usize, k: usize, n: usize) -> Op {
    let (x, out, bias, add, func) = (Activation, F32, true, Add::None, Func::Identity);
    Op::Gemm { batch, first: 0, rows, behind: 0, to: 1, k, n, x, out, bias, add, func }
}

/// The stream's class tokens alone.
const fn class(batch: usize, behind: usize, k: usize, n: usize) -> Op {
    let (x, out, bias, add, func) = (F32, F32, true, Add::None, Func::Identity);
    Op::Gemm { batch, first: 0, rows: 1, behind, to: 0, k, n, x, out, bias, add, func }
}

/// To float32: embeddings of pixels and texts.
const fn wide(rows: usize, k: usize, n: usize, bias: bool) -> Op {
    let (x, out, add, func) = (Activation, F32, Add::None, Func::Identity);
    Op::Gemm { batch: 1, first: 0, rows, behind: 0, to: 0, k, n, x, out, bias, add, func }
}

const fn shape(inputs: usize, outputs: usize, kernel: usize, stride: usize, pad: usize) -> ConvShape {
    ConvShape { inputs, outputs, kernel, stride, pad }
}

const fn three(inputs: usize, outputs: usize, stride: usize) -> ConvShape {
    shape(inputs, outputs, 3, stride, 1)
}

/// A convolution and nothing else.
const fn conv(map: Map, shape: ConvShape) -> Op {
    Op::Conv { batch: 1, map, shape, relu_in: false, bias: false, adds: 0, func: Func::Identity }
}

/// A convolution with everything around it.
const fn unit(batch: usize, map: Map, shape: ConvShape, adds: usize, func: Func) -> Op {
    Op::Conv { batch, map, shape, relu_in: true, bias: true, adds, func }
}

const fn attention(tokens: usize, heads: usize, size: usize, causal: bool) -> Op {
    Op::Attention { batch: 1, tokens, heads, size, causal }
}

const fn similarity(map: Map, features: usize, rank: usize, labels: usize, offset: bool) -> Op {
    Op::Similarity { batch: 1, map, features, rank, labels, offset, upper: false }
}

/// As models have it: R is the square, triangular factor.
const fn triangular(map: Map, features: usize, labels: usize) -> Op {
    Op::Similarity { batch: 1, map, features, rank: features, labels, offset: true, upper: true }
}

const fn regularise(map: Map, labels: usize, bottleneck: bool, activation: Option<config::Activation>) -> Op {
    Op::Regularise { batch: 2, map, labels, bottleneck, activation }
}

const fn argmax(map: Map, labels: usize, mask: Map) -> Op {
    Op::Argmax { batch: 1, map, labels, mask, output: Winner::Mask }
}

/// The mask beside its scores, or those.
const fn winner(batch: usize, map: Map, labels: usize, mask: Map, output: Winner) -> Op {
    Op::Argmax { batch, map, labels, mask, output }
}

/// Small and uneven.
pub const AWKWARD: &[Case] = &[
    // One pixel, smaller, larger, the same size, one axis only, batch of two.
    case(Op::Patchify { batch: 1, photo: (1, 1), grid: (1, 1), patch: 3 }, Nothing),
    case(Op::Patchify { batch: 2, photo: (13, 9), grid: (2, 3), patch: 4 }, Nothing),
    case(Op::Patchify { batch: 1, photo: (45, 71), grid: (3, 2), patch: 5 }, Nothing),
    case(Op::Patchify { batch: 1, photo: (32, 48), grid: (2, 3), patch: 16 }, Nothing),
    case(Op::Patchify { batch: 2, photo: (7, 32), grid: (32, 32), patch: 1 }, Nothing),
    case(Op::Patchify { batch: 1, photo: (45, 71), grid: (2, 3), patch: 32 }, Nothing),
    case(Op::Patchify { batch: 2, photo: (32, 48), grid: (4, 4), patch: 16 }, Nothing),
    case(Op::Patchify { batch: 1, photo: (5, 1500), grid: (1, 65), patch: 8 }, Nothing),
    case(Op::Patchify { batch: 2, photo: (3, 9000), grid: (2, 3), patch: 2 }, Nothing),
    case(Op::AddPositions { batch: 2, side: 6, grid: (5, 4), dim: 64 }, Nothing),
    case(Op::AddPositions { batch: 1, side: 1, grid: (3, 5), dim: 7 }, Nothing),
    case(Op::AddPositions { batch: 2, side: 4, grid: (4, 4), dim: 33 }, Nothing),
    case(Op::AddPositions { batch: 2, side: 7, grid: (3, 13), dim: 17 }, Outliers),
    case(gemm(1, 1, 1), Nothing),
    case(gemm(5, 3, 17), Nothing),
    case(gemm(7, 257, 15), Outliers),
    case(gemm(145, 33, 100), Outliers),
    case(gemm(145, 300, 33), Nan),
    case(gemm(901, 100, 17), Nothing),
    case(gemm(7, 1025, 33), Outliers),
    case(residual(1, 300, 257, Func::Identity), Nothing),
    case(residual(145, 15, 3, Func::Relu), Nan),
    case(residual(901, 257, 33, Func::Gelu), Outliers),
    case(tokens(1, 33, 17, Add::Row, Func::Gelu), Nothing),
    case(tokens(5, 257, 15, Add::Two, Func::Relu), Nothing),
    case(tokens(145, 100, 33, Add::Row, Func::Gelu), Nan),
    case(tokens(7, 17, 300, Add::None, Func::QuickGelu), Outliers),
    case(tokens(145, 33, 1, Add::One, Func::QuickGelu), Nothing),
    case(
        Op::Gemm {
            batch: 2,
            first: 0,
            rows: 7,
            behind: 2,
            to: 3,
            k: 17,
            n: 16,
            x: Activation,
            out: F32,
            bias: false,
            add: Add::Two,
            func: Func::Gelu,
        },
        Nothing,
    ),
    // Whole chunks of eight channels, ragged against every tile: rows, depth, columns.
    case(gemm(8, 8, 8), Nothing),
    case(gemm(901, 72, 136), Nothing),
    case(gemm(901, 136, 3080), Nothing),
    case(gemm(145, 1032, 72), Outliers),
    case(gemm(300, 264, 264), Nan),
    case(hidden(1, 145, 136, 520, Func::Gelu), Outliers),
    case(hidden(3, 12, 64, 264, Func::QuickGelu), Nothing),
    case(residual(901, 136, 264, Func::Identity), Outliers),
    case(residual(77, 2056, 72, Func::Identity), Nothing),
    case(residual(130, 520, 136, Func::Identity), Nan),
    case(tokens(145, 136, 72, Add::Row, Func::Gelu), Outliers),
    case(tokens(12, 264, 136, Add::Row, Func::Gelu), Nothing),
    case(embedding(2, 145, 72, 136), Nothing),
    case(embedding(1, 35, 48, 33), Nothing),
    case(class(2, 5, 136, 264), Outliers),
    case(class(1, 0, 33, 17), Nothing),
    case(tokens(250, 72, 264, Add::Row, Func::Gelu), Nothing),
    case(wide(145, 72, 136, true), Nothing),
    case(wide(1, 136, 72, false), Nothing),
    case(wide(5, 64, 40, false), Nothing),
    case(Op::LayerNorm { batch: 1, rows: 1, channels: 1 }, Nothing),
    case(Op::LayerNorm { batch: 2, rows: 5, channels: 33 }, Nan),
    case(Op::LayerNorm { batch: 1, rows: 145, channels: 300 }, Outliers),
    case(Op::LayerNorm { batch: 2, rows: 7, channels: 17 }, Zeros),
    case(Op::LayerNorm { batch: 1, rows: 7, channels: 1024 }, Outliers),
    case(Op::LayerNorm { batch: 2, rows: 3, channels: 768 }, Nan),
    case(Op::LayerNorm { batch: 1, rows: 145, channels: 64 }, Outliers),
    case(Op::LayerNorm { batch: 1, rows: 2, channels: 1025 }, Outliers),
    case(attention(1, 1, 64, false), Nothing),
    case(attention(5, 3, 20, false), Outliers),
    case(attention(5, 2, 64, true), Nothing),
    case(attention(257, 2, 20, false), Nan),
    case(attention(257, 1, 64, true), Outliers),
    case(attention(300, 2, 64, false), Outliers),
    case(attention(300, 2, 20, true), Nan),
    case(Op::Attention { batch: 2, tokens: 77, heads: 2, size: 7, causal: true }, Nothing),
    case(Op::Attention { batch: 2, tokens: 145, heads: 3, size: 20, causal: false }, Outliers),
    case(attention(64, 1, 64, false), Outliers),
    case(attention(129, 50, 64, false), Nan),
    case(attention(65, 2, 64, true), Nan),
    case(Op::Attention { batch: 3, tokens: 77, heads: 2, size: 64, causal: true }, Nothing),
    case(Op::Attention { batch: 2, tokens: 145, heads: 3, size: 64, causal: false }, Outliers),
    case(Op::Attention { batch: 2, tokens: 200, heads: 20, size: 64, causal: false }, Outliers),
    case(conv((1, 1), three(1, 1, 1)), Nothing),
    case(conv((1, 1), three(17, 33, 2)), Nothing),
    case(conv((5, 7), shape(15, 17, 1, 1, 0)), Nothing),
    case(conv((5, 7), shape(33, 3, 1, 2, 0)), Outliers),
    case(conv((13, 9), three(100, 17, 1)), Outliers),
    case(conv((13, 9), three(33, 100, 2)), Nan),
    case(conv((13, 9), shape(3, 15, 7, 2, 3)), Nothing),
    case(conv((34, 21), shape(3, 64, 7, 2, 3)), Nothing),
    case(unit(1, (5, 7), three(17, 17, 1), 0, Func::Relu), Nan),
    case(unit(2, (13, 9), three(33, 33, 1), 1, Func::Identity), Outliers),
    case(unit(2, (5, 7), three(15, 15, 1), 2, Func::Identity), Nan),
    case(unit(1, (13, 9), shape(257, 15, 1, 1, 0), 1, Func::Relu), Nothing),
    case(unit(2, (13, 9), shape(17, 33, 1, 2, 0), 2, Func::Relu), Nothing),
    case(unit(1, (1, 1), three(300, 1, 1), 2, Func::Gelu), Nothing),
    // Wide enough for Winograd's tiles: part of one, one, several; more than a task takes at a time, twice over.
    case(unit(2, (1, 1), three(64, 64, 1), 1, Func::Gelu), Nothing),
    case(conv((4, 3), three(64, 64, 1)), Nothing),
    case(unit(2, (5, 7), three(65, 81, 1), 2, Func::Relu), Outliers),
    case(unit(1, (13, 9), three(300, 67, 1), 1, Func::Identity), Outliers),
    case(conv((9, 130), three(64, 64, 1)), Nothing),
    // Whole chunks of eight channels.
    case(conv((1, 1), three(8, 8, 1)), Nothing),
    case(conv((13, 9), three(72, 136, 2)), Outliers),
    case(conv((17, 33), three(64, 72, 1)), Nothing),
    case(conv((13, 9), shape(72, 264, 1, 1, 0)), Nan),
    case(conv((13, 9), shape(136, 72, 1, 2, 0)), Nothing),
    // Wide tiles where many quick multiprocessors ask one cache.
    case(conv((100, 129), three(16, 248, 1)), Nothing),
    case(unit(1, (100, 129), three(16, 248, 1), 1, Func::Relu), Nothing),
    // Large tiles where there are few multiprocessors.
    case(conv((39, 41), three(8, 136, 1)), Nothing),
    case(unit(1, (23, 33), three(8, 384, 1), 2, Func::Identity), Outliers),
    case(unit(1, (41, 50), three(8, 136, 1), 1, Func::Relu), Outliers),
    case(unit(2, (13, 9), three(72, 72, 1), 2, Func::Identity), Outliers),
    case(unit(1, (15, 15), three(264, 56, 1), 1, Func::Identity), Nan),
    case(unit(2, (5, 7), three(64, 64, 1), 0, Func::Relu), Nothing),
    case(unit(1, (13, 9), shape(64, 256, 1, 1, 0), 1, Func::Relu), Nothing),
    case(Op::ConvTranspose { batch: 2, map: (5, 7), inputs: 72, outputs: 72, stride: 2 }, Outliers),
    case(Op::ConvTranspose { batch: 1, map: (13, 9), inputs: 64, outputs: 136, stride: 4 }, Nothing),
    case(Op::ConvTranspose { batch: 1, map: (2, 3), inputs: 24, outputs: 8, stride: 8 }, Nothing),
    case(Op::ConvTranspose { batch: 1, map: (1, 1), inputs: 1, outputs: 1, stride: 2 }, Nothing),
    case(Op::ConvTranspose { batch: 2, map: (5, 7), inputs: 17, outputs: 17, stride: 2 }, Nothing),
    case(Op::ConvTranspose { batch: 1, map: (13, 9), inputs: 33, outputs: 15, stride: 4 }, Outliers),
    case(Op::ConvTranspose { batch: 2, map: (3, 5), inputs: 257, outputs: 3, stride: 8 }, Nan),
    case(Op::Upsample { batch: 1, map: (1, 1), channels: 3 }, Nothing),
    case(Op::Upsample { batch: 2, map: (1, 7), channels: 17 }, Nothing),
    case(Op::Upsample { batch: 1, map: (5, 7), channels: 33 }, Nan),
    case(Op::Upsample { batch: 2, map: (13, 9), channels: 100 }, Outliers),
    case(Op::Upsample { batch: 2, map: (9, 5), channels: 72 }, Nan),
    case(Op::Upsample { batch: 1, map: (1, 1), channels: 8 }, Nothing),
    case(Op::Upsample { batch: 1, map: (15, 15), channels: 256 }, Outliers),
    case(Op::MaxPool { batch: 1, map: (1, 1), channels: 1 }, Nothing),
    case(Op::MaxPool { batch: 2, map: (5, 7), channels: 17 }, Nan),
    case(Op::MaxPool { batch: 1, map: (13, 9), channels: 33 }, Nothing),
    case(Op::MaxPool { batch: 2, map: (6, 8), channels: 64 }, Nan),
    case(Op::EmbedTokens { batch: 1, tokens: 1, width: 3, vocab: 2 }, Nothing),
    case(Op::EmbedTokens { batch: 2, tokens: 7, width: 33, vocab: 19 }, Nothing),
    case(Op::EmbedTokens { batch: 3, tokens: 12, width: 64, vocab: 300 }, Nothing),
    case(Op::TakeRows { batch: 1, rows: 1, width: 17 }, Nothing),
    case(Op::TakeRows { batch: 2, rows: 12, width: 64 }, Nothing),
    case(Op::TakeRows { batch: 3, rows: 7, width: 33 }, Nan),
    // The photo one pixel, larger, smaller than the map, twice its size, one row.
    case(Op::Sample { batch: 1, map: (1, 1), channels: 1, photo: (1, 1), points: 1 }, Nothing),
    case(Op::Sample { batch: 2, map: (5, 7), channels: 17, photo: (37, 45), points: 19 }, Nothing),
    case(Op::Sample { batch: 1, map: (13, 9), channels: 33, photo: (11, 7), points: 65 }, Outliers),
    case(Op::Sample { batch: 2, map: (6, 8), channels: 100, photo: (12, 16), points: 33 }, Zeros),
    case(Op::Sample { batch: 1, map: (5, 7), channels: 3, photo: (1, 50), points: 7 }, Nothing),
    case(Op::Sample { batch: 1, map: (9, 5), channels: 256, photo: (33, 70), points: 40 }, Nothing),
    case(similarity((1, 1), 1, 1, 1, true), Nothing),
    case(similarity((5, 7), 17, 17, 3, true), Nothing),
    case(similarity((13, 9), 33, 15, 300, true), Outliers),
    case(similarity((13, 9), 100, 100, 17, false), Zeros),
    case(similarity((5, 7), 257, 33, 1, true), Zeros),
    case(Op::Similarity { batch: 2, map: (13, 9), features: 33, rank: 33, labels: 5, offset: true, upper: false }, Nan),
    case(similarity((15, 15), 64, 64, 20, true), Outliers),
    case(similarity((16, 16), 256, 256, 5, true), Nothing),
    case(similarity((5, 7), 256, 256, 150, true), Nan),
    case(similarity((3, 5), 64, 64, 2000, true), Nothing),
    case(similarity((13, 9), 72, 40, 33, false), Zeros),
    case(similarity((13, 10), 72, 56, 34, true), Outliers),
    case(similarity((5, 7), 256, 256, 21, false), Zeros),
    case(similarity((13, 9), 264, 40, 33, true), Nan),
    case(triangular((13, 9), 256, 20), Outliers),
    case(triangular((9, 16), 64, 5), Nan),
    case(triangular((5, 7), 40, 33), Nothing),
    case(regularise((1, 1), 1, true, None), Nothing),
    case(regularise((5, 7), 3, false, Some(config::Activation::Relu)), Nan),
    case(regularise((13, 9), 17, false, Some(config::Activation::Lrelu)), Nan),
    case(regularise((5, 7), 33, false, Some(config::Activation::Tanh)), Nothing),
    case(regularise((13, 9), 5, true, Some(config::Activation::Relu)), Nothing),
    case(regularise((5, 7), 300, true, Some(config::Activation::Lrelu)), Nothing),
    case(regularise((5, 7), 2, true, Some(config::Activation::Tanh)), Nan),
    case(regularise((1, 9), 7, false, None), Nothing),
    case(Op::UpsampleScores { batch: 1, map: (1, 1), labels: 1 }, Nothing),
    case(Op::UpsampleScores { batch: 2, map: (5, 7), labels: 17 }, Nan),
    case(Op::UpsampleScores { batch: 1, map: (13, 9), labels: 300 }, Nothing),
    case(Op::UpsampleScores { batch: 1, map: (3, 300), labels: 20 }, Nothing),
    // The photo one pixel, smaller, equal to the network's input, larger, uneven.
    case(argmax((1, 1), 1, (1, 1)), Nothing),
    case(argmax((1, 1), 5, (7, 3)), Nothing),
    case(argmax((13, 9), 3, (1, 1)), Nothing),
    case(argmax((13, 9), 17, (11, 7)), Nothing),
    case(argmax((13, 9), 33, (26, 18)), Nothing),
    case(argmax((5, 7), 300, (37, 45)), Nothing),
    case(winner(2, (5, 7), 4, (9, 50), Winner::Mask), Nothing),
    case(argmax((5, 7), 5, (21, 33)), Nan),
    case(argmax((5, 400), 20, (9, 50)), Nothing),
    case(argmax((3, 1000), 40, (5, 3)), Nan),
    case(argmax((9, 20), 150, (40, 37)), Nothing),
    case(winner(1, (1, 1), 1, (3, 2), Winner::Best), Nothing),
    case(winner(2, (5, 7), 4, (9, 50), Winner::Best), Nothing),
    case(winner(2, (5, 7), 4, (9, 50), Winner::MaskBesideBest), Nothing),
    case(winner(1, (9, 20), 150, (40, 37), Winner::Best), Nothing),
    case(winner(1, (5, 7), 5, (21, 33), Winner::Best), Nan),
    case(winner(1, (13, 9), 33, (26, 18), Winner::MaskBesideBest), Nothing),
    case(winner(2, (5, 7), 4, (9, 50), Winner::NotFinite), Nothing),
    case(winner(1, (5, 7), 5, (21, 33), Winner::NotFinite), Nan),
    case(winner(2, (5, 7), 300, (37, 45), Winner::NotFinite), Infinite),
    // One pixel, whole chunks of 16 bytes, anything behind them; the last labels that lanes hold, and more.
    case(Op::Overlay { batch: 1, photo: (1, 1), labels: 1 }, Nothing),
    case(Op::Overlay { batch: 2, photo: (40, 16), labels: 32 }, Nothing),
    case(Op::Overlay { batch: 3, photo: (9, 37), labels: 33 }, Nothing),
    case(Op::Overlay { batch: 1, photo: (31, 77), labels: 300 }, Nothing),
];

/// 1024×1024 pixels are 4,097 tokens.
pub const LONG: &[Case] = &[case(attention(4097, 1, 64, false), Outliers)];

/// vitl16 at 480×480 with 20 labels, then what rn101 and the text tower have of their own.
pub const REAL: &[Case] = &[
    case(Op::Patchify { batch: 1, photo: (480, 640), grid: (30, 30), patch: 16 }, Nothing),
    case(embedding(1, 900, 768, 1024), Nothing),
    case(Op::AddPositions { batch: 1, side: 24, grid: (30, 30), dim: 1024 }, Nothing),
    case(Op::LayerNorm { batch: 1, rows: 901, channels: 1024 }, Outliers),
    case(gemm(901, 1024, 3072), Outliers),
    case(attention(901, 16, 64, false), Outliers),
    case(residual(901, 1024, 1024, Func::Identity), Outliers),
    case(hidden(1, 901, 1024, 4096, Func::Gelu), Nothing),
    case(residual(901, 4096, 1024, Func::Identity), Nothing),
    case(class(1, 900, 1024, 1024), Outliers),
    case(
        Op::Gemm {
            batch: 1,
            first: 1,
            rows: 900,
            behind: 0,
            to: 0,
            k: 1024,
            n: 1024,
            x: F32,
            out: Activation,
            bias: false,
            add: Add::Row,
            func: Func::Gelu,
        },
        Outliers,
    ),
    case(gemm(900, 1024, 256), Nothing),
    case(gemm(900, 1024, 512), Nothing),
    case(Op::ConvTranspose { batch: 1, map: (30, 30), inputs: 256, outputs: 256, stride: 4 }, Nothing),
    case(Op::ConvTranspose { batch: 1, map: (30, 30), inputs: 512, outputs: 512, stride: 2 }, Nothing),
    case(
        Op::Conv {
            batch: 1,
            map: (30, 30),
            shape: three(1024, 1024, 2),
            relu_in: false,
            bias: true,
            adds: 0,
            func: Func::Identity,
        },
        Nothing,
    ),
    case(conv((120, 120), three(256, 256, 1)), Nothing),
    case(conv((60, 60), three(512, 256, 1)), Nothing),
    case(conv((30, 30), three(1024, 256, 1)), Nothing),
    case(conv((15, 15), three(1024, 256, 1)), Nothing),
    case(unit(1, (120, 120), three(256, 256, 1), 0, Func::Relu), Nothing),
    case(unit(1, (120, 120), three(256, 256, 1), 2, Func::Identity), Nothing),
    case(unit(1, (60, 60), three(256, 256, 1), 1, Func::Identity), Nothing),
    case(unit(1, (30, 30), three(256, 256, 1), 1, Func::Identity), Nothing),
    case(unit(1, (15, 15), three(256, 256, 1), 1, Func::Identity), Nothing),
    case(gemm(14_400, 256, 256), Nothing),
    case(Op::Upsample { batch: 1, map: (120, 120), channels: 256 }, Nothing),
    case(wide(57_600, 256, 512, true), Nothing),
    case(Op::Sample { batch: 1, map: (240, 240), channels: 256, photo: (480, 640), points: 1000 }, Nothing),
    case(triangular((240, 240), 256, 20), Nothing),
    case(triangular((240, 240), 256, 150), Nothing),
    case(
        Op::Regularise {
            batch: 1,
            map: (240, 240),
            labels: 20,
            bottleneck: true,
            activation: Some(config::Activation::Lrelu),
        },
        Nothing,
    ),
    case(Op::UpsampleScores { batch: 1, map: (240, 240), labels: 20 }, Nothing),
    case(argmax((240, 240), 20, (480, 640)), Nothing),
    case(argmax((240, 240), 150, (480, 640)), Nothing),
    case(winner(1, (240, 240), 20, (480, 640), Winner::MaskBesideBest), Nothing),
    case(Op::Overlay { batch: 1, photo: (480, 640), labels: 20 }, Nothing),
    case(conv((480, 480), shape(3, 64, 7, 2, 3)), Nothing),
    case(Op::MaxPool { batch: 1, map: (240, 240), channels: 64 }, Nothing),
    case(conv((120, 120), shape(64, 256, 1, 1, 0)), Nothing),
    case(conv((120, 120), shape(256, 512, 1, 2, 0)), Nothing),
    case(conv((120, 120), three(128, 128, 2)), Nothing),
    case(Op::EmbedTokens { batch: 20, tokens: 12, width: 512, vocab: 49_408 }, Nothing),
    case(Op::Attention { batch: 20, tokens: 12, heads: 8, size: 64, causal: true }, Nothing),
    case(hidden(20, 12, 512, 2048, Func::QuickGelu), Nothing),
    case(wide(20, 512, 512, false), Nothing),
    case(Op::TakeRows { batch: 20, rows: 12, width: 512 }, Nothing),
];
