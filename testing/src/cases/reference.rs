//! Every operation as obvious loops in float64, and how far float32 may be from them.
//! One file: a function an operation, and what several share.
//!
//! The bounds are first-order rounding analysis with ε = 2⁻²³ (twice the unit roundoff). A sum of n terms in any
//! order errs by at most about √n·ε·Σ|terms| with high probability (Higham & Mary, 2019, "A new approach to
//! probabilistic rounding error analysis"); a function adds its slope times that error and a few ε of its result.
//! NaN and infinities must stand exactly where the loops have them.
//! A convolution that a device may compute in tiles (Winograd's) errs in proportion to what the whole tile sums up: the
//! largest Σ|terms| of its pixels stands for each.

use lseg_fast::ops::conv::Shape;
use lseg_fast::ops::{
    Activation, AddPositions, Argmax, Buf, Conv, Element, FormFeatures, Func, Layout, Op, Patchify, Regularise,
    ResizeFeatures, polyphase,
};
use rayon::prelude::*;

use super::photo::{self, Colours};
use super::products::{gemm, layer_norm, norm_of_near, readout};
use super::{Case, Map, Prepared, windows};

pub const EPS: f64 = f32::EPSILON as f64;

/// What an operation may yield.
pub enum Expected {
    /// Values in the output's order.
    Values(Vec<Near>),
    /// Labels that may be taken, pixel by pixel: those whose scores float32 cannot tell apart.
    Choices(Vec<Vec<u16>>),
    /// Nothing is written here (rows of the output that a call leaves alone are `None`).
    Partly(Vec<Option<Near>>),
}

/// A value and the largest error that float32 explains.
#[derive(Clone, Copy, Debug)]
pub struct Near {
    pub value: f64,
    pub bound: f64,
}

impl Near {
    /// Whether `got` is this value as float32 arithmetic may give it.
    pub fn accepts(&self, got: f64) -> bool {
        if self.value.is_nan() || got.is_nan() {
            return self.value.is_nan() && got.is_nan();
        }
        if self.value.is_infinite() || got.is_infinite() {
            return self.value == got;
        }
        (got - self.value).abs() <= self.bound
    }
}

/// A sum of products with the sum of their magnitudes.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    pub value: f64,
    pub magnitude: f64,
    pub terms: usize,
}

impl Sum {
    pub fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
        self.terms += 1;
    }

    pub fn dot(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> Sum {
        let mut sum = Sum::default();
        a.into_iter().zip(b).for_each(|(a, b)| sum.add(a * b));
        sum
    }

    pub fn near(self) -> Near {
        Near { value: self.value, bound: (2.0 + (self.terms as f64).sqrt()) * EPS * self.magnitude }
    }
}

pub fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// max(0, x), which lets NaN through as PyTorch's does.
fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// The error function: its Maclaurin series, which float64 sums well enough up to 5; it is ±1 beyond.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

pub fn quick_gelu(x: f64) -> f64 {
    x / (1.0 + (-1.702 * x).exp())
}

/// No function's slope passes 1.13; the smooth ones are computed to a few ε of their argument.
pub fn apply(func: Func, x: Near) -> Near {
    let smooth = 1.13 * x.bound + 4.0 * EPS * x.value.abs();
    match func {
        Func::Identity => x,
        Func::Relu => Near { value: relu(x.value), bound: x.bound },
        Func::Gelu => Near { value: gelu(x.value), bound: smooth },
        Func::QuickGelu => Near { value: quick_gelu(x.value), bound: smooth },
    }
}

/// PyTorch's `align_corners=False`: two neighbours and the second's weight.
pub fn edges(i: usize, from: usize, to: usize) -> (usize, usize, f64) {
    let position = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
    neighbours(position, from)
}

/// PyTorch's `align_corners=True`.
pub fn corners(i: usize, from: usize, to: usize) -> (usize, usize, f64) {
    let scale = if to > 1 { (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
    neighbours(i as f64 * scale, from)
}

fn neighbours(position: f64, from: usize) -> (usize, usize, f64) {
    let low = (position.floor() as usize).min(from - 1);
    (low, (low + 1).min(from - 1), position - low as f64)
}

type Axis = (usize, usize, f64);

/// Bilinear in `x(row, column)`.
fn bilinear(mut x: impl FnMut(usize, usize) -> f64, (y0, y1, ty): Axis, (x0, x1, tx): Axis) -> Near {
    let [a, b, c, d] = [x(y0, x0), x(y0, x1), x(y1, x0), x(y1, x1)];
    let value = (1.0 - ty) * ((1.0 - tx) * a + tx * b) + ty * ((1.0 - tx) * c + tx * d);
    let largest = a.abs().max(b.abs()).max(c.abs()).max(d.abs());
    Near { value, bound: 6.0 * EPS * largest }
}

/// ×2 bilinear, align_corners=True, of `[h, w, c]`.
pub fn upsample(x: &[f64], (h, w): Map, c: usize) -> Vec<Near> {
    let mut out = Vec::with_capacity(4 * x.len());
    for y in 0..2 * h {
        for column in 0..2 * w {
            for k in 0..c {
                let at = |y: usize, x_: usize| x[(y * w + x_) * c + k];
                out.push(bilinear(at, corners(y, h, 2 * h), corners(column, w, 2 * w)));
            }
        }
    }
    out
}

/// One map `[h, w, inputs]`, weights `[outputs, kernel, kernel, inputs]`, zeros around.
pub fn conv(x: &[f64], map: Map, w: &[f64], s: Shape) -> Vec<Sum> {
    let (out_h, out_w) = s.out(map);
    let mut out = Vec::with_capacity(out_h * out_w * s.outputs);
    for y in 0..out_h {
        for column in 0..out_w {
            for filter in w.chunks_exact(s.kernel * s.kernel * s.inputs) {
                let mut sum = Sum { terms: filter.len(), ..Sum::default() };
                for ky in 0..s.kernel {
                    for kx in 0..s.kernel {
                        let (yy, xx) = (y * s.stride + ky, column * s.stride + kx);
                        let inside = (s.pad..s.pad + map.0).contains(&yy) && (s.pad..s.pad + map.1).contains(&xx);
                        if inside {
                            let pixel = &x[((yy - s.pad) * map.1 + xx - s.pad) * s.inputs..][..s.inputs];
                            let tap = &filter[(ky * s.kernel + kx) * s.inputs..][..s.inputs];
                            for (a, b) in pixel.iter().zip(tap) {
                                sum.value += a * b;
                                sum.magnitude += (a * b).abs();
                            }
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    if (s.kernel, s.stride, s.pad) == (3, 1, 1) && s.inputs >= 64 && s.outputs >= 64 {
        share_magnitudes(&mut out, map, s.outputs);
    }
    out
}

/// Which borders of the map a pixel's 3×3 patch reaches over, as the bias's rows are numbered.
fn border(op: &Conv, pixel: usize) -> usize {
    let ([_, h, w, _], [_, out_h, out_w, _]) = (op.x.shape, op.out.shape);
    let axis = |at: usize, side: usize| {
        let first = (at * op.w.stride) as isize - 1;
        usize::from(first < 0) + 2 * usize::from(first + 3 > side as isize)
    };
    axis(pixel / out_w % out_h, h) + 4 * axis(pixel % out_w, w)
}

/// Each value's magnitude becomes the largest of its channel in its tile of 4×4 pixels.
fn share_magnitudes(sums: &mut [Sum], (h, w): Map, channels: usize) {
    let mut largest = vec![0.0f64; h.div_ceil(4) * w.div_ceil(4) * channels];
    let at = |i: usize| (i / channels / w / 4 * w.div_ceil(4) + i / channels % w / 4) * channels + i % channels;
    for (i, sum) in sums.iter().enumerate() {
        largest[at(i)] = largest[at(i)].max(sum.magnitude);
    }
    sums.iter_mut().enumerate().for_each(|(i, sum)| sum.magnitude = largest[at(i)]);
}

/// Height and width of a buffer's maps.
fn map(buf: Buf) -> Map {
    (buf.shape[1], buf.shape[2])
}

/// The float64 result of a case, with bounds.
pub fn expected(case: &Case, p: &Prepared) -> Expected {
    let x = |i: usize| to_f64(p.inputs[i].values.f32());
    let w = |i: usize| to_f64(&p.matrices[i].values);
    let v = |i: usize| to_f64(&p.vectors[i]);
    let maps = |f: &dyn Fn(&[f64]) -> Vec<Near>| -> Vec<Near> {
        x(0).chunks_exact(p.inputs[0].shape[1..].iter().product()).flat_map(f).collect()
    };
    let values = match case.op {
        Op::Patchify(op) => {
            photo::colours(&op.photo, &p.inputs[0]).iter().flat_map(|photo| patchify(photo, &op)).collect()
        }
        Op::AddPositions(op) => maps(&|x| add_positions(x, &v(0), &v(1), &op)),
        Op::Gemm(op) => return Expected::Partly(gemm(&op, p)),
        Op::GemmNorm(op) => {
            let stream: Vec<Near> = gemm(&op.gemm(), p).into_iter().flatten().collect();
            if case.out == op.out {
                return Expected::Values(stream);
            }
            let rows = stream.chunks_exact(op.out.channels());
            rows.flat_map(|row| norm_of_near(row, &v(1), &v(2), op.norm.eps)).collect()
        }
        Op::LayerNorm(op) => {
            let rows = x(0);
            rows.chunks_exact(op.x.channels()).flat_map(|row| layer_norm(row, &v(0), &v(1), op.w.eps)).collect()
        }
        Op::Attention(op) => maps(&|x| attention(x, op.heads, op.size(), op.causal)),
        Op::Conv(op) => {
            let input: Vec<f64> = x(0).into_iter().map(|v| if op.relu_in { relu(v) } else { v }).collect();
            let items = input.chunks_exact(op.x.rows() * op.x.channels());
            let mut sums: Vec<Sum> = items.flat_map(|item| conv(item, map(op.x), &w(0), op.shape())).collect();
            let adds: Vec<Vec<f64>> = (1..p.inputs.len()).map(x).collect();
            for (i, sum) in sums.iter_mut().enumerate() {
                adds.iter().for_each(|add| sum.add(add[i]));
                if let Some(bias) = p.vectors.first() {
                    let border = if op.is_bordered() { border(&op, i / op.out.channels()) } else { 0 };
                    sum.add(f64::from(bias[border * op.out.channels() + i % op.out.channels()]));
                }
            }
            sums.into_iter().map(|sum| apply(op.epilogue.func, sum.near())).collect()
        }
        Op::Readout(op) => {
            let level = op.levels.iter().position(|level| level.out == case.out).expect("a level is looked at");
            let d = op.levels[level].tokens.channels();
            let weights = [w(2 * level), w(2 * level + 1), v(level)];
            let tokens = x(level);
            tokens
                .chunks_exact(op.levels[level].tokens.rows() * d)
                .flat_map(|item| readout(item, d, &weights))
                .collect()
        }
        Op::Polyphase(op) => {
            let (filters, bias) = (w(0), v(0));
            maps(&|x| polyphase(x, map(op.x), &filters, &bias, op.shape()))
        }
        Op::Upsample(op) => maps(&|x| upsample(x, map(op.x), op.x.channels())),
        Op::MaxPool(op) => maps(&|x| max_pool(x, map(op.x), op.x.channels())),
        Op::EmbedTokens(op) => {
            let (table, positions, width) = (w(0), v(0), op.out.channels());
            let row = |(i, id): (usize, &u32)| {
                let (token, position) = (*id as usize * width, i % op.out.rows() * width);
                let sum = |j| Sum::dot([table[token + j], positions[position + j]], [1.0, 1.0]).near();
                (0..width).map(sum).collect::<Vec<_>>()
            };
            p.inputs[0].values.u32().iter().enumerate().flat_map(row).collect()
        }
        Op::TakeRows(op) => {
            let (all, rows, width) = (x(0), op.x.rows(), op.x.channels());
            let row = |(b, i): (usize, &u32)| all[(b * rows + *i as usize) * width..][..width].to_vec();
            p.inputs[1].values.u32().iter().enumerate().flat_map(row).map(exact).collect()
        }
        Op::Sample(op) => {
            let (all, positions) = (x(0), x(1));
            let maps = all.chunks_exact(op.x.rows() * op.x.channels());
            let items = maps.zip(positions.chunks_exact(2 * op.points.rows()));
            items.flat_map(|(x, points)| sample(x, map(op.x), op.x.channels(), op.photo, points)).collect()
        }
        Op::Similarity(op) => {
            let (labels, rank) = (op.numerators.channels(), op.coordinates.channels());
            let doubled = |i: usize, channels: usize| -> Vec<Near> {
                let all = x(i);
                let items = all.chunks_exact(op.numerators.rows() * channels);
                items.flat_map(|item| upsample(item, map(op.numerators), channels)).collect()
            };
            let (scores, norms) = (doubled(0, labels), doubled(1, rank));
            let pixels = scores.chunks_exact(labels).zip(norms.chunks_exact(rank));
            let cosines = |(scores, norm)| cosines(scores, norm, f64::from(op.length.rest));
            let by = f64::from(op.length.factor);
            let scaled = |Near { value, bound }| Near { value: by * value, bound: by * bound };
            pixels.flat_map(cosines).map(scaled).collect()
        }
        Op::Regularise(op) => maps(&|x| regularise(x, &v(0), &op)),
        Op::UpsampleScores(op) => maps(&|x| {
            let (pixels, labels) = (4 * op.logits.rows(), op.logits.channels());
            let doubled = upsample(x, map(op.logits), labels);
            (0..doubled.len()).map(|i| doubled[i % pixels * labels + i / pixels]).collect()
        }),
        Op::SoftmaxScores(op) => maps(&|x| softmax(x, op.scores.shape[1])),
        Op::ToRgb(op) => {
            let photos = photo::colours(&op.photo, &p.inputs[0]).into_iter();
            let colours = photos.flatten().flatten().flatten();
            return Expected::Choices(colours.map(photo::bytes).collect());
        }
        Op::Overlay(_) => {
            let [photo, palette] = [0, 1].map(|i| p.inputs[i].values.u8());
            let labels = p.inputs[2].values.labels();
            let weight = f64::from(palette[3]) / 128.0;
            let mix = |(i, own): (usize, &u8)| {
                let own = f64::from(*own);
                let colour = palette.get(4 * usize::from(labels[i / 3]) + i % 3);
                exact(colour.map_or(own, |colour| ((1.0 - weight) * own + weight * f64::from(*colour)).floor()))
            };
            photo.iter().enumerate().map(mix).collect()
        }
        Op::FeatureNorms(op) => feature_norms(&x(0), map(op.x), op.x.channels(), map(op.out)),
        Op::ResizeFeatures(op) => return Expected::Partly(resize_features(&op, p)),
        Op::CutWindows(op) => windows::cut_windows(&op, p),
        Op::AddWindow(op) => windows::add_window(&op, p),
        Op::MergeScales(op) => windows::merge_scales(&op, p),
        Op::FormFeatures(op) => {
            let values = maps(&|x| form_features(&op, x));
            if case.out == op.not_finite {
                return Expected::Choices(vec![vec![not_finite(&op, &x(0)) as u16]]);
            }
            values
        }
        Op::Argmax(op) => {
            let (from, labels, mask) = (map(op.logits), op.logits.channels(), op.resized.then(|| map(op.mask)));
            let choices = |f: &dyn Fn(&[f64]) -> Vec<Vec<u16>>| {
                Expected::Choices(x(0).chunks_exact(op.logits.rows() * labels).flat_map(f).collect())
            };
            if case.out == op.mask {
                return choices(&|x| masked(&op, x));
            }
            if Some(case.out) == op.confidence {
                return choices(&|x| shares(x, from, labels, mask).into_iter().map(confidence).collect());
            }
            let winners = maps(&|x| best(x, from, labels, mask));
            if case.out == op.not_finite {
                let count = winners.iter().filter(|near| !near.value.is_finite()).count();
                return Expected::Choices(vec![vec![count as u16]]);
            }
            winners
        }
    };
    Expected::Values(values)
}

/// Softmax over the planes of `[labels, pixels]`. A score and the logarithm err by half a unit of their size, and an exponential by as
/// much of its result.
fn softmax(x: &[f64], labels: usize) -> Vec<Near> {
    let pixels = x.len() / labels;
    let at = |pixel: usize| x.iter().skip(pixel).step_by(pixels);
    let lse: Vec<f64> = (0..pixels)
        .map(|pixel| {
            let largest = at(pixel).fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            largest + at(pixel).map(|score| (score - largest).exp() + 0.0 * score).sum::<f64>().ln()
        })
        .collect();
    let probability = |(i, score): (usize, &f64)| {
        let (lse, labels) = (lse[i % pixels], labels as f64);
        let value = (score - lse).exp();
        Near {
            value,
            bound: (8.0 + labels.sqrt() + 2.0 * score.abs() + 4.0 * lse.abs()) * EPS * value
                + f64::from(f32::MIN_POSITIVE),
        }
    };
    x.iter().enumerate().map(probability).collect()
}

fn exact(value: f64) -> Near {
    Near { value, bound: 0.0 }
}

fn patchify(photo: &Colours, op: &Patchify) -> Vec<Near> {
    let ((h0, w0), (h, w), patch) = ((op.photo.height, op.photo.width), map(op.out), op.patch);
    let mut out = Vec::new();
    for (py, px) in (0..h).flat_map(|py| (0..w).map(move |px| (py, px))) {
        for (ky, kx) in (0..patch).flat_map(|ky| (0..patch).map(move |kx| (ky, kx))) {
            let (y, x) = (edges(py * patch + ky, h0, h * patch), edges(px * patch + kx, w0, w * patch));
            out.extend((0..3).map(|c| {
                let mut of_pixels = 0.0f64;
                let pixel = |y: usize, x: usize| {
                    let Near { value, bound } = photo[y][x][c];
                    of_pixels = of_pixels.max(bound);
                    value
                };
                let colour = bilinear(pixel, y, x);
                let (mean, std) = (f64::from(op.normalise.mean[c]), f64::from(op.normalise.std[c]));
                Near { value: (colour.value - mean) / std, bound: (colour.bound + of_pixels + 4.0 * EPS) / std }
            }));
        }
    }
    out
}

fn add_positions(tokens: &[f64], class: &[f64], positions: &[f64], op: &AddPositions) -> Vec<Near> {
    let (side, grid, dim) = (op.side, op.grid, op.tokens.channels());
    let mut out: Vec<Near> = (0..dim).map(|j| Sum::dot([class[j], positions[j]], [1.0, 1.0]).near()).collect();
    for (i, token) in tokens[dim..].chunks_exact(dim).enumerate() {
        let (y, x) = (edges(i / grid.1, side, grid.0), edges(i % grid.1, side, grid.1));
        for (j, token) in token.iter().enumerate() {
            let position = bilinear(|y, x| positions[(1 + y * side + x) * dim + j], y, x);
            let value = token + position.value;
            out.push(Near { value, bound: position.bound + EPS * value.abs() });
        }
    }
    out
}

/// δ of a weight p: its logit's error, plus what rounding does to the exponential's argument; a change of the
/// weights moves the result by Σ p·δ·(|v| + |result|).
fn attention(qkv: &[f64], heads: usize, size: usize, causal: bool) -> Vec<Near> {
    let (width, scale) = (heads * size, 1.0 / (size as f64).sqrt());
    let tokens = qkv.len() / (3 * width);
    let part = |token: usize, part: usize, head: usize| &qkv[(token * 3 + part) * width + head * size..][..size];
    let attended = |query: usize, head: usize| {
        let keys = if causal { query + 1 } else { tokens };
        let q = part(query, 0, head);
        let logits: Vec<Near> = (0..keys)
            .map(|key| Sum::dot(q.iter().map(|v| v * scale), part(key, 1, head).iter().copied()).near())
            .collect();
        let largest = logits.iter().fold(f64::NEG_INFINITY, |a, b| if b.value > a { b.value } else { a });
        let weights: Vec<f64> = logits.iter().map(|logit| (logit.value - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let errors: Vec<f64> =
            logits.iter().map(|logit| logit.bound + EPS * ((logit.value - largest).abs() + 4.0)).collect();
        let mut out = Vec::with_capacity(size);
        for j in 0..size {
            let (mut sum, mut moved, mut weighted) = (Sum::default(), 0.0, 0.0);
            for key in 0..keys {
                let (p, v) = (weights[key] / total, part(key, 2, head)[j]);
                sum.add(p * v);
                moved += p * errors[key] * v.abs();
                weighted += p * errors[key];
            }
            let near = sum.near();
            out.push(Near { bound: near.bound + moved + weighted * near.value.abs(), ..near });
        }
        out
    };
    (0..tokens * heads).into_par_iter().flat_map_iter(|i| attended(i / heads, i % heads)).collect()
}

/// A polyphase convolution of one map: each output pixel is its phase's filters over that phase's window, zeros around.
pub fn polyphase(x: &[f64], map: Map, w: &[f64], bias: &[f64], shape: polyphase::Shape) -> Vec<Near> {
    let polyphase::Shape { outputs, inputs, stride } = shape;
    let phases: Vec<&[f64]> = (0..shape.phases())
        .scan(w, |rest, phase| {
            let (own, behind) = rest.split_at(shape.taps(phase) * outputs * inputs);
            *rest = behind;
            Some(own)
        })
        .collect();
    let mut out = Vec::with_capacity(map.0 * map.1 * stride * stride * outputs);
    for (y, column) in (0..map.0 * stride).flat_map(|y| (0..map.1 * stride).map(move |x| (y, x))) {
        let phase = y % stride * stride + column % stride;
        // Input rows, or columns, that an output sees: its own, the one before where it is the first of its phases, the one behind
        // where it is the last. And whether one of them is outside.
        let axis = |at: usize, side: usize| {
            let (own, phase) = ((at / stride) as isize, at % stride);
            let seen = own - isize::from(phase == 0)..own + 1 + isize::from(phase + 1 == stride);
            let over = seen.clone().any(|i| i < 0 || i >= side as isize);
            (seen, usize::from(over))
        };
        let ((rows, over_rows), (columns, over_columns)) = (axis(y, map.0), axis(column, map.1));
        for output in 0..outputs {
            let mut sum = Sum::default();
            let filter = &phases[phase][output * shape.taps(phase) * inputs..];
            let taps = rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column)));
            for ((row, column), tap) in taps.zip(filter.chunks_exact(inputs)) {
                let inside = (0..map.0 as isize).contains(&row) && (0..map.1 as isize).contains(&column);
                for (input, weight) in tap.iter().enumerate().filter(|_| inside) {
                    sum.add(weight * x[(row as usize * map.1 + column as usize) * inputs + input]);
                }
            }
            let border = over_rows + 2 * over_columns;
            sum.add(bias[(phase * polyphase::BORDERS + border) * outputs + output]);
            out.push(sum.near());
        }
    }
    out
}

fn max_pool(x: &[f64], (h, w): Map, c: usize) -> Vec<Near> {
    let mut out = Vec::new();
    for (y, column) in (0..h.div_ceil(2)).flat_map(|y| (0..w.div_ceil(2)).map(move |x| (y, x))) {
        for k in 0..c {
            let mut largest = f64::NEG_INFINITY;
            for (yy, xx) in (0..3).flat_map(|i| (0..3).map(move |j| (2 * y + i, 2 * column + j))) {
                if (1..=h).contains(&yy) && (1..=w).contains(&xx) {
                    let value = x[((yy - 1) * w + xx - 1) * c + k];
                    largest = if value.is_nan() || value > largest { value } else { largest };
                }
            }
            out.push(exact(largest));
        }
    }
    out
}

/// The three steps of a point: the pixels of the photo around it, of the doubled map around those, of the map.
/// In float32 up to 64 products of a value and three weights, each weight of a few ε.
fn sample(x: &[f64], (h, w): Map, c: usize, photo: Map, points: &[f64]) -> Vec<Near> {
    let axis = |position: f64, side: usize| neighbours(position.clamp(0.0, (side - 1) as f64), side);
    let mut out = Vec::with_capacity(points.len() / 2 * c);
    for point in points.chunks_exact(2) {
        for k in 0..c {
            let mut largest = 0.0f64;
            let mut doubled = |y: usize, column: usize| {
                let at = |y: usize, column: usize| x[(y * w + column) * c + k];
                let near = bilinear(at, corners(y, h, 2 * h), corners(column, w, 2 * w));
                largest = largest.max(near.bound / (6.0 * EPS));
                near.value
            };
            let (y, column) = (axis(point[1], photo.0), axis(point[0], photo.1));
            let mut corner = |y: usize, column: usize| {
                bilinear(&mut doubled, edges(y, 2 * h, photo.0), edges(column, 2 * w, photo.1)).value
            };
            let value = bilinear(&mut corner, y, column).value;
            out.push(Near { value, bound: (2.0 + 8.0 + 12.0) * EPS * largest });
        }
    }
    out
}

/// A map's vectors at another size. In float32 up to nine products of a value and two weights, each of which is made in a few steps.
fn resized(x: &[f64], from: Map, channels: usize, to: Map) -> Vec<Vec<Near>> {
    let bound = 10.0 * EPS * largest_size(x);
    let pixels = scores_of_pixels(x, from, channels, Some(to)).into_iter();
    pixels.map(|vector| vector.into_iter().map(|value| Near { value, bound }).collect()).collect()
}

/// 1 / the length of each vector of the resized map.
fn feature_norms(x: &[f64], from: Map, channels: usize, to: Map) -> Vec<Near> {
    resized(x, from, channels, to).iter().map(|vector| inverse_length(vector)).collect()
}

fn inverse_length(vector: &[Near]) -> Near {
    let length = vector.iter().map(|near| near.value * near.value).sum::<f64>().sqrt();
    if length == 0.0 {
        return exact(0.0);
    }
    let error = vector.iter().map(|near| near.value.abs() * near.bound).sum::<f64>() / length;
    let relative = error / length + EPS * (2.0 + (vector.len() as f64).sqrt());
    Near { value: 1.0 / length, bound: relative / length }
}

fn resize_features(op: &ResizeFeatures, p: &Prepared) -> Vec<Option<Near>> {
    let [_, planes, height, width] = op.out.shape;
    let (first, pixels) = (p.inputs[1].values.u32()[0] as usize, height * width);
    let all = resized(&to_f64(p.inputs[0].values.f32()), map(op.x), op.x.channels(), (height, width));
    let one = |i: usize| {
        let near = all[i % pixels].get(first + i / pixels)?;
        let scale = op.scale.map_or(1.0, |_| f64::from(p.inputs[2].values.f32()[i % pixels])) * f64::from(op.factor);
        let (value, bound) = (near.value * scale, near.bound * scale.abs() + EPS * (near.value * scale).abs());
        let rounded = if op.out.element == Element::F16 { half_unit(value) } else { 0.0 };
        Some(Near { value, bound: bound + rounded })
    };
    (0..planes * pixels).map(one).collect()
}

/// Each pixel's vector of one map, as it is or resized.
fn vectors(op: &FormFeatures, x: &[f64]) -> Vec<Vec<Near>> {
    let channels = op.x.channels();
    if op.resized {
        return resized(x, map(op.x), channels, op.size());
    }
    x.chunks_exact(channels).map(|vector| vector.iter().copied().map(exact).collect()).collect()
}

/// One map's part of the output.
fn form_features(op: &FormFeatures, x: &[f64]) -> Vec<Near> {
    let formed = |vector: Vec<Near>| -> Vec<Near> {
        let norm = if op.norms.is_some() { inverse_length(&vector) } else { exact(1.0) };
        let factor = f64::from(op.factor);
        let one = |near: &Near| {
            let value = near.value * norm.value * factor;
            let bound = (near.bound * norm.value.abs() + near.value.abs() * norm.bound) * factor.abs();
            let bound = bound + 2.0 * EPS * value.abs();
            match op.out.element {
                Element::F16 if value.abs() >= 65_520.0 => exact(f64::INFINITY.copysign(value)),
                Element::F16 => Near { value, bound: bound + half_unit(value) },
                _ => Near { value, bound },
            }
        };
        vector.iter().map(one).collect()
    };
    let pixels: Vec<Vec<Near>> = vectors(op, x).into_iter().map(formed).collect();
    match op.layout {
        Layout::Hwc => pixels.concat(),
        Layout::Chw => (0..op.x.channels()).flat_map(|k| pixels.iter().map(move |vector| vector[k])).collect(),
    }
}

/// The values of all maps that are no numbers.
fn not_finite(op: &FormFeatures, x: &[f64]) -> usize {
    let maps = x.chunks_exact(op.x.rows() * op.x.channels());
    let number = |value: &Near| value.value.abs() <= f64::from(op.limit);
    let large = |x| vectors(op, x).into_iter().flatten().filter(|near| !number(near)).count();
    let infinite = |x| form_features(op, x).into_iter().filter(|near| near.value.is_infinite()).count();
    // No case has both.
    maps.map(|x| large(x).max(infinite(x))).sum()
}

/// Half a unit in the last place of the float16 nearest to a value.
pub fn half_unit(value: f64) -> f64 {
    let exponent = value.abs().max(2f64.powi(-14)).log2().floor();
    2f64.powf(exponent - 11.0)
}

/// numerator / ‖(coordinates, √rest)‖; 0 where the norm is.
fn cosines(scores: &[Near], norm: &[Near], rest: f64) -> Vec<Near> {
    let length = (norm.iter().map(|c| c.value * c.value).sum::<f64>() + rest).sqrt();
    if length == 0.0 {
        return vec![exact(0.0); scores.len()];
    }
    let length_error = norm.iter().map(|c| c.value.abs() * c.bound).sum::<f64>() / length;
    let relative = length_error / length + EPS * (4.0 + (norm.len() as f64).sqrt());
    let one = |Near { value, bound }: &Near| Near {
        value: value / length,
        bound: bound / length + (value / length).abs() * relative,
    };
    scores.iter().map(one).collect()
}

fn regularise(x: &[f64], kernel: &[f64], op: &Regularise) -> Vec<Near> {
    let ((h, w), labels) = (map(op.x), op.x.channels());
    let mut out = Vec::with_capacity(x.len());
    for (y, column) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        let pixel = &x[(y * w + column) * labels..][..labels];
        let largest = pixel.iter().fold(f64::NEG_INFINITY, |a, b| if b.is_nan() || *b > a { *b } else { a });
        for label in 0..labels {
            let mut sum = Sum::default();
            sum.add(kernel[9]);
            if op.bottleneck {
                sum.add(largest);
            }
            for (ky, kx) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                let (yy, xx) = (y + ky, column + kx);
                if (1..=h).contains(&yy) && (1..=w).contains(&xx) {
                    sum.add(kernel[ky * 3 + kx] * x[((yy - 1) * w + xx - 1) * labels + label]);
                }
            }
            let Near { value, bound } = sum.near();
            out.push(match op.activation {
                None => Near { value, bound },
                Some(Activation::Relu) => Near { value: relu(value), bound },
                Some(Activation::Lrelu) => Near { value: if value < 0.0 { 0.01 * value } else { value }, bound },
                Some(Activation::Tanh) => Near { value: value.tanh(), bound: bound + 4.0 * EPS },
            });
        }
    }
    out
}

/// Each pixel's scores: the two steps stored, ×2 upsampling, then the resizing; without a size to resize to as they are.
fn scores_of_pixels(logits: &[f64], (h, w): Map, labels: usize, mask: Option<Map>) -> Vec<Vec<f64>> {
    let Some(mask) = mask else { return logits.chunks_exact(labels).map(<[f64]>::to_vec).collect() };
    let doubled: Vec<f64> = upsample(logits, (h, w), labels).iter().map(|near| near.value).collect();
    let pixels = (0..mask.0).flat_map(|y| (0..mask.1).map(move |x| (y, x)));
    let scores = |(y, x)| {
        let (y, x) = (edges(y, 2 * h, mask.0), edges(x, 2 * w, mask.1));
        let score = |label: usize| bilinear(|y, x| doubled[(y * 2 * w + x) * labels + label], y, x).value;
        (0..labels).map(score).collect()
    };
    pixels.map(scores).collect()
}

/// The largest size of the numbers among them.
fn largest_size(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a: f64, b| if b.abs() > a { b.abs() } else { a })
}

/// The largest score of each pixel; of scores with NaN among them it is NaN, as in PyTorch. In float32 up to nine products of a
/// value and two weights, each of which is made in a few steps.
fn best(logits: &[f64], map: Map, labels: usize, mask: Option<Map>) -> Vec<Near> {
    let bound = 8.0 * EPS * largest_size(logits);
    let larger = |a: f64, b: &f64| if b.is_nan() || *b > a { *b } else { a };
    let largest = |scores: Vec<f64>| scores.iter().fold(f64::NEG_INFINITY, larger);
    let pixels = scores_of_pixels(logits, map, labels, mask).into_iter();
    pixels.map(|scores| Near { value: largest(scores), bound }).collect()
}

/// The winner's softmax at each pixel; NaN where its score is no finite number.
pub fn shares(logits: &[f64], map: Map, labels: usize, mask: Option<Map>) -> Vec<Near> {
    let winners = best(logits, map, labels, mask);
    let share = |(scores, winner): (Vec<f64>, Near)| {
        if !winner.value.is_finite() {
            return Near { value: f64::NAN, bound: 0.0 };
        }
        let value = 1.0 / scores.iter().map(|score| (score - winner.value).exp()).sum::<f64>();
        Near { value, bound: (4.0 * winner.bound + EPS * (16.0 + (labels as f64).sqrt())) * value }
    };
    scores_of_pixels(logits, map, labels, mask).into_iter().zip(winners).map(share).collect()
}

/// The bytes that may stand for a share; 0 for what is no number.
fn confidence(share: Near) -> Vec<u16> {
    if share.value.is_nan() {
        return vec![0];
    }
    let [least, most] = [-1.0, 1.0].map(|sign| 255.0 * (share.value + sign * share.bound));
    (least.round_ties_even() as u16..=most.round_ties_even() as u16).collect()
}

/// The labels that may be taken, and whether none may.
fn masked(op: &Argmax, logits: &[f64]) -> Vec<Vec<u16>> {
    let (from, labels, mask) = (map(op.logits), op.logits.channels(), op.resized.then(|| map(op.mask)));
    let winners = argmax(logits, from, labels, mask);
    let Some(threshold) = op.threshold.map(f64::from) else { return winners };
    let none = if op.mask.element == Element::U8 { u8::MAX.into() } else { u16::MAX };
    let choice = |(mut allowed, share): (Vec<u16>, Near)| {
        if share.value + share.bound < threshold {
            allowed.clear();
        }
        if share.value - share.bound < threshold {
            allowed.push(none);
        }
        allowed
    };
    winners.into_iter().zip(shares(logits, from, labels, mask)).map(choice).collect()
}

/// The labels within rounding of the best score.
/// The largest of scores with NaN among them is NaN, as in PyTorch.
pub fn argmax(logits: &[f64], map: Map, labels: usize, mask: Option<Map>) -> Vec<Vec<u16>> {
    // Labels whose maps are equal: the first of them is the one to take.
    let column = |label: usize| logits.iter().skip(label).step_by(labels);
    let copied: Vec<bool> = (0..labels).map(|n| (0..n).any(|m| column(m).eq(column(n)))).collect();
    let largest = largest_size(logits);
    let mut out = Vec::new();
    for scores in scores_of_pixels(logits, map, labels, mask) {
        if let Some(nan) = scores.iter().position(|score| score.is_nan()) {
            out.push(vec![nan as u16]);
            continue;
        }
        let best = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let near = |label: &usize| !copied[*label] && scores[*label] >= best - 16.0 * EPS * largest;
        out.push((0..labels).filter(near).map(|label| label as u16).collect());
    }
    out
}
