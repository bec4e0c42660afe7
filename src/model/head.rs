//! From the decoder's map to scores: the pixel embedding (`head1`), its cosine with every label (LSeg, 2201.03546, section 3.2),
//! the optional spatial regularisation (section 3.3).
//!
//! Level 1's `out_conv`, the upsampling to half the image's size and `head1` are linear: the two matrices are one (W, b), and it is
//! applied before the upsampling, to a quarter of the pixels.
//!
//! With the embedding e = W·f + b and a unit label vector t, the score is 1/0.07 · (Wᵀt·f + b·t) / ‖e‖. The numerator
//! needs F products a label instead of C, and is interpolated as e would be. For the norm let W = Q·R: ‖e‖² = ‖R·f + Qᵀb‖² + r²,
//! where r² is what of ‖b‖² lies outside Q's columns; the coordinates R·f + Qᵀb are interpolated before they are squared: a sum
//! of squares, so nothing cancels, and e itself is never formed.

use torch_file::elements::first_beyond;

use super::compose;
use super::config::{Activation, Config, HeadBlockKind, LOGIT_SCALE};
use super::weights::{Loader, TensorSpec};
use crate::error::{Error, Result};
use crate::ops::similarity::Length;
use crate::ops::{Buf, Element, Epilogue, Linear, PlanBuilder, Vector};
use crate::unit_vector;

pub struct Head {
    /// W and b: `[embed_dim, features]`
    head1: Linear,
    /// The same on the host, from which label banks are made: `[embed_dim, features]` and `[embed_dim]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
    features: usize,
    /// R and Qᵀb, scaled: `[rank, features]`
    norm: Linear,
    length: Length,
    block: Option<Block>,
}

/// What every pixel is compared with: a label's numerator is a row's product with the pixel's features, and its offset.
pub struct Bank {
    /// `[labels, features]`
    pub rows: Vec<f32>,
    /// `[labels]`
    pub offsets: Vec<f32>,
}

/// One block, applied `depth` times.
struct Block {
    depthwise: Vector,
    bottleneck: bool,
    activation: Activation,
    depth: usize,
}

impl Head {
    pub fn load(config: &Config, from: &mut Loader<'_>) -> Result<Head> {
        let (embed_dim, features) = (config.embed_dim, config.features);
        let layer = |name: &str, outputs: usize| TensorSpec::layer(name, &[outputs, features, 1, 1], outputs);
        let [out_weight, out_bias] = layer("scratch.refinenet1.out_conv", features);
        let [head_weight, head_bias] = layer("scratch.head1", embed_dim);
        let (out, before) = (from.values(&out_weight)?, from.values(&out_bias)?);
        let (head, after) = (from.host(&head_weight)?, from.host(&head_bias)?);
        let scale = f64::from(from.scale());
        // Of a list there are no values.
        let (weight, bias, factors) = if head.is_empty() {
            Default::default()
        } else {
            let weight = compose::matrices(&head, &out, features);
            let bias: Vec<f64> = compose::bias(&head, &before, &after).into_iter().map(|b| b * scale).collect();
            let factors = Norm::of(&weight, &bias, features).scaled(features);
            (weight, bias, factors)
        };
        let rank = embed_dim.min(features);
        let mut linear = |rows: usize, matrix: Vec<f32>, offset: Vec<f32>| -> Result<Linear> {
            let weight = from.matrix((rows, features), [head_weight.clone(), out_weight.clone()], |_| matrix)?;
            let biases = [head_bias.clone(), out_bias.clone()];
            Ok(Linear { weight, bias: Some(from.made_vector(rows, biases, |_| offset)?) })
        };
        let [weight, bias] = [weight, bias].map(|values| values.into_iter().map(|v| v as f32).collect::<Vec<f32>>());
        let head1 = linear(embed_dim, weight.clone(), bias.clone())?;
        let norm = linear(rank, factors.matrix, factors.offset)?;
        let block = match config.head_block.kind {
            HeadBlockKind::None => None,
            kind => Some(Block {
                depthwise: depthwise(from)?,
                bottleneck: kind == HeadBlockKind::Bottleneck,
                activation: config.head_block.activation,
                depth: config.head_block.depth.max(1),
            }),
        };
        Ok(Head { head1, weight, bias, features, norm, length: factors.length, block })
    }

    /// What [`Head::scores`] needs for `labels` labels, in shape alone.
    pub fn bank_shape(&self, labels: usize) -> Linear {
        Linear::of_shape(labels, self.features)
    }

    pub fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// The bank of these labels: `texts` are the text tower's outputs `[labels, embed_dim]`, of any length, which counts where it
    /// `keeps_length`. `limit` is the largest value of a matrix that the device holds.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a label that becomes more.
    pub fn bank(&self, texts: &[f32], keeps_length: bool, limit: f32) -> Result<Bank> {
        let n = texts.len() / self.bias.len();
        let (mut rows, mut offsets) = (Vec::with_capacity(n * self.features), Vec::with_capacity(n));
        for text in texts.chunks_exact(self.bias.len()) {
            let length = if keeps_length { 1.0 } else { unit_vector::length(text) };
            let (row, offset) = self.project(text, length);
            rows.extend(row);
            offsets.push(offset);
        }
        let beyond = first_beyond(&rows, limit).map(|(i, value)| (i / self.features, value));
        let Some((label, value)) = beyond.or_else(|| first_beyond(&offsets, f32::MAX)) else {
            return Ok(Bank { rows, offsets });
        };
        let why = if limit < f32::MAX {
            format!(", and float16, in which a GPU holds it, ends at {limit}; pass --device cpu")
        } else {
            ": the model's file is damaged or made for another network".to_owned()
        };
        let label = label + 1;
        Err(Error::NotFinite(format!("label {label} of the list becomes {value} beside scratch.head1{why}")))
    }

    /// A label's numerator: 1/0.07 · Wᵀt and 1/0.07 · b·t for the text over a length (zeros for a zero vector).
    fn project(&self, text: &[f32], length: f64) -> (Vec<f32>, f32) {
        let scale = unit_vector::factor(f64::from(LOGIT_SCALE), length);
        let mut row = vec![0.0f64; self.features];
        let mut offset = 0.0;
        for ((t, w), b) in text.iter().zip(self.weight.chunks_exact(self.features)).zip(&self.bias) {
            let t = f64::from(*t) * scale;
            row.iter_mut().zip(w).for_each(|(r, w)| *r += t * f64::from(*w));
            offset += t * f64::from(*b);
        }
        (row.into_iter().map(|v| v as f32).collect(), offset as f32)
    }

    /// The decoder's map `[b, h, w, features]` → the pixels' embeddings `[b, 2h, 2w, embed_dim]`.
    pub fn embedding(&self, d: &mut PlanBuilder, map: Buf) -> Buf {
        d.scope("head1", 0);
        let [b, h, w, _] = map.shape;
        let embed_dim = self.head1.weight.n;
        let small = d.buffer("small head1", [b, h, w, embed_dim], Element::F32);
        d.gemm(map.all(), &self.head1, Epilogue::NONE, small.all());
        let out = d.buffer("head1", [b, 2 * h, 2 * w, embed_dim], Element::F32);
        d.upsample(small, out);
        out
    }

    /// The decoder's map `[b, h, w, features]` → the embeddings `[b, 1, n, embed_dim]` at `points` of the photo. Bilinear weights
    /// sum to one and head1 is affine, so the n points can be taken before it: no other pixel's embedding is formed.
    pub fn embedding_at(&self, d: &mut PlanBuilder, map: Buf, points: Buf, photo: (usize, usize)) -> Buf {
        d.scope("points", 0);
        let [b, h, w, features] = map.shape;
        let path = d.buffer("path1", [b, 2 * h, 2 * w, features], Element::Activation);
        d.upsample(map, path);
        let sampled = d.buffer("path1 at points", [b, 1, points.rows(), features], Element::Activation);
        d.sample(path, points, photo, sampled);
        let out = d.buffer("head1 at points", [b, 1, points.rows(), self.head1.weight.n], Element::F32);
        d.gemm(sampled.all(), &self.head1, Epilogue::NONE, out.all());
        out
    }

    /// The decoder's map `[b, h, w, features]` → logits `[b, 2h, 2w, labels]`, regularised where the model has a head block.
    pub fn scores(&self, d: &mut PlanBuilder, map: Buf, bank: &Linear) -> Buf {
        d.scope("head", 0);
        let ([b, h, w, _], labels) = (map.shape, bank.weight.n);
        let numerators = d.buffer("numerators", [b, h, w, labels], Element::F32);
        d.gemm(map.all(), bank, Epilogue::NONE, numerators.all());
        let coordinates = d.buffer("coordinates", [b, h, w, self.norm.weight.n], Element::Activation);
        d.gemm(map.all(), &self.norm, Epilogue::NONE, coordinates.all());
        let shape = [b, 2 * h, 2 * w, labels];
        let mut logits = d.buffer("logits", shape, Element::F32);
        d.similarity(numerators, coordinates, self.length, logits);
        if let Some(block) = &self.block {
            for i in 0..block.depth {
                d.scope("head_block", i);
                let activation = (i + 1 < block.depth).then_some(block.activation);
                let out = d.buffer("regularised", shape, Element::F32);
                d.regularise(logits, block.depthwise, block.bottleneck, activation, out);
                logits = out;
            }
        }
        logits
    }
}

/// Nine weights and a bias.
fn depthwise(from: &mut Loader<'_>) -> Result<Vector> {
    let tensors = TensorSpec::layer("scratch.head_block.depthwise.depthwise", &[1, 1, 3, 3], 1);
    from.made_vector(10, tensors, |values| values.concat())
}

/// ‖W·f + b‖² = (‖matrix·f + offset‖² + rest) / factor².
#[derive(Default)]
struct Norm {
    /// `[rank, features]`
    matrix: Vec<f32>,
    /// `[rank]`
    offset: Vec<f32>,
    length: Length,
}

impl Norm {
    /// Whether the matrix is a QR decomposition's R, below whose diagonal are zeros.
    fn is_upper(embed_dim: usize, features: usize) -> bool {
        embed_dim > features
    }

    /// `weight` is `[embed_dim, features]`. By Householder reflections in float64 where embed_dim > features;
    /// otherwise W and b are small enough as they are. By hand: of nalgebra it would be the one thing used.
    fn of(weight: &[f64], bias: &[f64], features: usize) -> Norm {
        let rows = bias.len();
        if !Norm::is_upper(rows, features) {
            let [matrix, offset] = [weight, bias].map(|values| values.iter().map(|v| *v as f32).collect());
            return Norm { matrix, offset, length: Length::default() };
        }
        let mut columns: Vec<Vec<f64>> =
            (0..features).map(|j| (0..rows).map(|i| weight[i * features + j]).collect()).collect();
        columns.push(bias.to_vec());
        for j in 0..features {
            let (done, rest) = columns.split_at_mut(j + 1);
            let pivot = &mut done[j][j..];
            let length = pivot.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length == 0.0 {
                continue;
            }
            let diagonal = if pivot[0] > 0.0 { -length } else { length };
            pivot[0] -= diagonal;
            let squares = pivot.iter().map(|v| v * v).sum::<f64>();
            for column in rest {
                let tail = &mut column[j..];
                let dot = pivot.iter().zip(&*tail).map(|(p, v)| p * v).sum::<f64>();
                tail.iter_mut().zip(&*pivot).for_each(|(v, p)| *v -= 2.0 * dot / squares * p);
            }
            pivot.fill(0.0);
            pivot[0] = diagonal;
        }
        let matrix = (0..features * features).map(|i| columns[i % features][i / features] as f32).collect();
        let (inside, outside) = columns[features].split_at(features);
        let rest = outside.iter().map(|v| v * v).sum::<f64>() as f32;
        Norm { matrix, offset: inside.iter().map(|v| *v as f32).collect(), length: Length { rest, factor: 1.0 } }
    }

    /// With rows of about unit length, by a power of two: coordinates are then no larger than the features, which float16 holds.
    fn scaled(mut self, features: usize) -> Norm {
        let lengths = self.matrix.chunks_exact(features).map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt());
        let longest = lengths.fold(0.0, f32::max);
        if !(longest.is_normal() && (1e-18..1e18).contains(&longest)) {
            return self;
        }
        let factor = (-longest.log2().ceil()).exp2();
        self.matrix.iter_mut().chain(&mut self.offset).for_each(|v| *v *= factor);
        Norm { length: Length { rest: self.length.rest * factor * factor, factor }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rewrite against the plain form in float64, a column of zeros and a vector of zeros included; and R is a triangle.
    #[test]
    fn the_norm_by_qr_is_the_norm() {
        let mut seed = 7u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        };
        for (rows, features) in [(7, 3), (64, 33), (512, 256), (20, 20), (5, 12)] {
            let mut weight: Vec<f64> = (0..rows * features).map(|_| next()).collect();
            weight.iter_mut().skip(1).step_by(features).for_each(|w| *w = 0.0);
            let bias: Vec<f64> = (0..rows).map(|_| next()).collect();
            let norm = Norm::of(&weight, &bias, features).scaled(features);
            if Norm::is_upper(rows, features) {
                let below = |(i, row): (usize, &[f32])| row[..i].iter().all(|v| *v == 0.0);
                assert!(norm.matrix.chunks_exact(features).enumerate().all(below), "{rows}×{features} is no triangle");
            }
            for scale in [0.0, 1e-3, 1.0, 300.0] {
                let f: Vec<f64> = (0..features).map(|_| scale * next()).collect();
                let square = |matrix: &[f64], offset: &[f64]| -> f64 {
                    let rows = matrix.chunks_exact(features).zip(offset);
                    rows.map(|(row, b)| {
                        let dot = row.iter().zip(&f).map(|(w, f)| w * f).sum::<f64>();
                        (dot + b).powi(2)
                    })
                    .sum()
                };
                let [matrix, offset] =
                    [&norm.matrix, &norm.offset].map(|v| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
                let (want, got) = (square(&weight, &bias), square(&matrix, &offset) + f64::from(norm.length.rest));
                let got = got / f64::from(norm.length.factor).powi(2);
                assert!((want - got).abs() < 2e-6 * want, "{rows}×{features}, scale {scale}: {got}, not {want}");
            }
        }
    }
}
