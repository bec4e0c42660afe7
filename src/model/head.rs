//! From path 1 to scores: the pixel embedding (`head1`), its cosine with every label (LSeg, 2201.03546, section 3.2),
//! the optional spatial regularisation (section 3.3).
//!
//! With the embedding e = W·f + b and a unit label vector t, the score is 1/0.07 · (Wᵀt·f + b·t) / ‖e‖. The numerator
//! needs F products a label instead of C. For the norm let W = Q·R: ‖e‖² = ‖R·f + Qᵀb‖² + r², where r² is what of ‖b‖²
//! lies outside Q's columns: a sum of squares, so nothing cancels, and e itself is never formed.

use torch_file::elements::first_beyond;

use super::config::{Activation, Config, HeadBlockKind, LOGIT_SCALE};
use super::weights::{Loader, TensorSpec};
use crate::error::{Error, Result};
use crate::ops::{Buf, Element, Epilogue, Linear, PlanBuilder, Vector, similarity};
use crate::unit_vector;

pub struct Head {
    /// `[embed_dim, features]`
    head1: Linear,
    /// `head1` on the host, from which label banks are made: `[embed_dim, features]` and `[embed_dim]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
    features: usize,
    norm: Linear,
    norm_is_upper: bool,
    rest: f32,
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
        let name = "scratch.head1";
        let head1 = from.conv_as_linear(name, embed_dim, features)?;
        let [weight_tensor, bias_tensor] = TensorSpec::layer(name, &[embed_dim, features, 1, 1], embed_dim);
        let (weight, mut bias) = (from.host(&weight_tensor)?, from.host(&bias_tensor)?);
        bias.iter_mut().for_each(|b| *b *= from.scale());
        let rank = embed_dim.min(features);
        let factors = if weight.is_empty() { Norm::default() } else { Norm::of(&weight, &bias, features) };
        let norm = Linear {
            weight: from.matrix((rank, features), [weight_tensor], |_| factors.matrix)?,
            bias: Some(from.made_vector(rank, [bias_tensor], |_| factors.offset)?),
        };
        let block = match config.head_block.kind {
            HeadBlockKind::None => None,
            kind => Some(Block {
                depthwise: depthwise(from)?,
                bottleneck: kind == HeadBlockKind::Bottleneck,
                activation: config.head_block.activation,
                depth: config.head_block.depth.max(1),
            }),
        };
        let norm_is_upper = Norm::is_upper(embed_dim, features);
        Ok(Head { head1, weight, bias, features, norm, norm_is_upper, rest: factors.rest, block })
    }

    /// What [`Head::scores`] needs for `labels` labels, in shape alone.
    pub fn similarity_shape(&self, labels: usize) -> similarity::Weights {
        self.similarity(Linear::of_shape(labels, self.features))
    }

    pub fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// What [`Head::scores`] needs for a bank that lies there.
    pub fn similarity(&self, labels: Linear) -> similarity::Weights {
        similarity::Weights { labels, norm: self.norm, norm_is_upper: self.norm_is_upper, rest: self.rest }
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

    /// Path 1 `[b, h, w, features]` → the pixels' embeddings `[b, h, w, embed_dim]`.
    pub fn embedding(&self, d: &mut PlanBuilder, path: Buf) -> Buf {
        d.scope("head1", 0);
        let [b, h, w, _] = path.shape;
        let out = d.buffer("head1", [b, h, w, self.head1.weight.n], Element::F32);
        d.gemm(path.all(), &self.head1, Epilogue::NONE, out.all());
        out
    }

    /// Path 1 `[b, h, w, features]` → the embeddings `[b, 1, n, embed_dim]` at `points` of the photo. Bilinear weights
    /// sum to one and head1 is affine, so the n points can be taken before it: no other pixel's embedding is formed.
    pub fn embedding_at(&self, d: &mut PlanBuilder, path: Buf, points: Buf, photo: (usize, usize)) -> Buf {
        d.scope("points", 0);
        let features =
            d.buffer("path1 at points", [path.batch(), 1, points.rows(), self.features], Element::Activation);
        d.sample(path, points, photo, features);
        self.embedding(d, features)
    }

    /// Path 1 `[b, h, w, features]` → logits `[b, h, w, labels]`, regularised where the model has a head block.
    pub fn scores(&self, d: &mut PlanBuilder, path: Buf, bank: &similarity::Weights) -> Buf {
        d.scope("head", 0);
        let [b, h, w, _] = path.shape;
        let shape = [b, h, w, bank.labels.weight.n];
        let mut logits = d.buffer("logits", shape, Element::F32);
        d.similarity(path, bank, logits);
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

/// ‖W·f + b‖² = ‖matrix·f + offset‖² + rest.
#[derive(Default)]
struct Norm {
    /// `[rank, features]`
    matrix: Vec<f32>,
    /// `[rank]`
    offset: Vec<f32>,
    rest: f32,
}

impl Norm {
    /// Whether the matrix is a QR decomposition's R, below whose diagonal are zeros.
    fn is_upper(embed_dim: usize, features: usize) -> bool {
        embed_dim > features
    }

    /// `weight` is `[embed_dim, features]`. By Householder reflections in float64 where embed_dim > features;
    /// otherwise W and b are small enough as they are. By hand: of nalgebra it would be the one thing used.
    fn of(weight: &[f32], bias: &[f32], features: usize) -> Norm {
        let rows = bias.len();
        if !Norm::is_upper(rows, features) {
            return Norm { matrix: weight.to_vec(), offset: bias.to_vec(), rest: 0.0 };
        }
        let mut columns: Vec<Vec<f64>> =
            (0..features).map(|j| (0..rows).map(|i| f64::from(weight[i * features + j])).collect()).collect();
        columns.push(bias.iter().map(|b| f64::from(*b)).collect());
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
        Norm { matrix, offset: inside.iter().map(|v| *v as f32).collect(), rest }
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
            (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        for (rows, features) in [(7, 3), (64, 33), (512, 256), (20, 20), (5, 12)] {
            let mut weight: Vec<f32> = (0..rows * features).map(|_| next()).collect();
            weight.iter_mut().skip(1).step_by(features).for_each(|w| *w = 0.0);
            let bias: Vec<f32> = (0..rows).map(|_| next()).collect();
            let norm = Norm::of(&weight, &bias, features);
            if Norm::is_upper(rows, features) {
                let below = |(i, row): (usize, &[f32])| row[..i].iter().all(|v| *v == 0.0);
                assert!(norm.matrix.chunks_exact(features).enumerate().all(below), "{rows}×{features} is no triangle");
            }
            for scale in [0.0, 1e-3, 1.0, 300.0] {
                let f: Vec<f32> = (0..features).map(|_| scale * next()).collect();
                let square = |matrix: &[f32], offset: &[f32]| -> f64 {
                    let rows = matrix.chunks_exact(features).zip(offset);
                    rows.map(|(row, b)| {
                        let dot = row.iter().zip(&f).map(|(w, f)| f64::from(*w) * f64::from(*f)).sum::<f64>();
                        (dot + f64::from(*b)).powi(2)
                    })
                    .sum()
                };
                let (want, got) = (square(&weight, &bias), square(&norm.matrix, &norm.offset) + f64::from(norm.rest));
                assert!((want - got).abs() < 2e-6 * want, "{rows}×{features}, scale {scale}: {got}, not {want}");
            }
        }
    }
}
