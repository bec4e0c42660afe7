//! What the kernels compute, in float64, and how far the kernel's result may be from it.
//!
//! Every bound is a worst case of the kernel's roundings, so a right kernel never fails it: ½ unit in the last place of
//! f16 for the result, and of f32 for each step before. It is small beside what one wrong element adds.

use half::f16;

pub use crate::random::Random;

/// Half a unit in the last place, relative, and the same of f16's subnormal numbers.
const HALF_F16: f64 = 1.0 / 2048.0;
const HALF_F16_SUBNORMAL: f64 = 1.0 / (1u64 << 25) as f64;
const HALF_F32: f64 = 1.0 / (1u64 << 24) as f64;

/// Numbers with the distance that each result may be off.
pub struct Expected {
    pub value: Vec<f64>,
    pub bound: Vec<f64>,
}

impl Expected {
    fn with_room(elements: usize) -> Expected {
        Expected { value: Vec::with_capacity(elements), bound: Vec::with_capacity(elements) }
    }

    /// `error`: of the number before it is rounded to f16.
    fn push(&mut self, value: f64, error: f64) {
        self.value.push(value);
        self.bound.push(error + HALF_F16 * (value.abs() + error) + HALF_F16_SUBNORMAL);
    }

    /// The first result that is no number, or else the one farthest off.
    pub fn compare(&self, got: &[f16]) -> Result<(), String> {
        if got.len() != self.value.len() {
            return Err(format!("{} results, {} expected", got.len(), self.value.len()));
        }
        if let Some(i) = got.iter().position(|g| !g.is_finite()) {
            return Err(format!("element {i} is {}, expected {}", got[i], self.value[i]));
        }
        let ratio = |i: usize| (got[i].to_f64() - self.value[i]).abs() / self.bound[i];
        match (0..got.len()).max_by(|&i, &j| ratio(i).total_cmp(&ratio(j))) {
            Some(i) if ratio(i) > 1.0 => Err(format!(
                "element {i} is {}, expected {} ± {:e}: {:.1} times as far off as rounding explains",
                got[i],
                self.value[i],
                self.bound[i],
                ratio(i)
            )),
            _ => Ok(()),
        }
    }
}

fn widen(values: &[f16]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

/// [rows, depth] · [columns, depth]ᵀ + bias. The kernel rounds each of `depth` sums to f32 in any order; a tensor core
/// may cut instead of round, and to one bit less: twice the error, and one more for the largest term's alignment.
pub fn linear(a: &[f16], b: &[f16], bias: &[f32], depth: usize) -> Expected {
    let (a, b) = (widen(a), widen(b));
    let mut expected = Expected::with_room(a.len() / depth * bias.len());
    for row in a.chunks(depth) {
        for (column, bias) in b.chunks(depth).zip(bias) {
            let (mut sum, mut size) = (f64::from(*bias), f64::from(bias.abs()));
            for (x, y) in row.iter().zip(column) {
                sum += x * y;
                size += (x * y).abs();
            }
            expected.push(sum, 3.0 * HALF_F32 * (depth + 1) as f64 * size);
        }
    }
    expected
}

#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    pub causal: bool,
}

pub const HEAD: usize = 64;

/// Attention of the tokens `queries` (of each batch entry), all heads: [batch, queries, heads, 64].
///
/// Errors: a score is off by 64 f32 roundings of its terms and one of its product with the scale; 2^x has two units; its
/// argument, a few units of itself. So each weight is off by a small share, which counts once above and once below the
/// fraction. Rounding the weights to f16 counts above only; weights below f16's normal numbers lose an absolute amount,
/// beside a sum that is at least 1 (the largest weight).
pub fn attention(
    qkv: &[f16],
    shape: AttentionShape,
    scale: f32,
    queries: impl Iterator<Item = usize> + Clone,
) -> Expected {
    let AttentionShape { batch, tokens, heads, causal } = shape;
    let (qkv, scale) = (widen(qkv), f64::from(scale));
    let at = |b: usize, token: usize, part: usize, head: usize| {
        let start = (((b * tokens + token) * 3 + part) * heads + head) * HEAD;
        &qkv[start..start + HEAD]
    };
    let mut expected = Expected::with_room(batch * tokens * heads * HEAD);
    for b in 0..batch {
        for query in queries.clone() {
            for head in 0..heads {
                let q = at(b, query, 0, head);
                let seen = if causal { query + 1 } else { tokens };
                let (mut scores, mut score_error) = (Vec::with_capacity(seen), 0f64);
                for key in 0..seen {
                    let k = at(b, key, 1, head);
                    scores.push(scale * q.iter().zip(k).map(|(x, y)| x * y).sum::<f64>());
                    let size: f64 = q.iter().zip(k).map(|(x, y)| (x * y).abs()).sum();
                    score_error = score_error.max(3.0 * 64.0 * HALF_F32 * scale * size);
                }
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let spread = scores.iter().map(|s| top - s).fold(0.0, f64::max);
                let weight_error = 2.0 * score_error + HALF_F32 * (4.0 * (spread + top.abs()) + 4.0 + seen as f64);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..HEAD {
                    let (mut sum, mut size, mut most) = (0.0, 0.0, 0f64);
                    for (key, weight) in weights.iter().enumerate() {
                        let v = at(b, key, 2, head)[d];
                        sum += weight * v;
                        size += weight * v.abs();
                        most = most.max(v.abs());
                    }
                    let lost = HALF_F16_SUBNORMAL * seen as f64 * most;
                    let error = ((HALF_F16 + 2.0 * weight_error) * size + lost) / total;
                    expected.push(sum / total, error);
                }
            }
        }
    }
    expected
}

/// LayerNorm of rows as wide as `gain`. The f32 mean is off by the roundings of a lane's and the warp's sums, as is the
/// variance; the reciprocal root by two units.
pub fn layer_norm(x: &[f32], gain: &[f32], shift: &[f32], epsilon: f32) -> Expected {
    let width = gain.len();
    let steps = (width / 32 + 16) as f64;
    let mut expected = Expected::with_room(x.len());
    for row in x.chunks(width) {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let n = width as f64;
        let mean = row.iter().sum::<f64>() / n;
        let scale = 1.0 / (row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + f64::from(epsilon)).sqrt();
        let mean_error = HALF_F32 * steps * row.iter().map(|v| v.abs()).sum::<f64>() / n;
        for ((v, &g), &s) in row.iter().zip(gain).zip(shift) {
            let normal = (v - mean) * scale;
            let error = mean_error * scale + normal.abs() * (HALF_F32 * (steps + 8.0) + (mean_error * scale).powi(2));
            expected
                .push(normal * f64::from(g) + f64::from(s), error * f64::from(g.abs()) + HALF_F32 * f64::from(s.abs()));
        }
    }
    expected
}

#[derive(Clone, Copy, Debug)]
pub struct MapShape {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl MapShape {
    pub fn elements(self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    fn at(self, image: usize, y: usize, x: usize, channel: usize) -> usize {
        ((image * self.height + y) * self.width + x) * self.channels + channel
    }
}

/// 3×3 around each pixel with a kernel a channel: nine f32 roundings.
pub fn depthwise(x: &[f16], weights: &[f16], bias: &[f32], shape: MapShape) -> Expected {
    let (x, weights) = (widen(x), widen(weights));
    let mut expected = Expected::with_room(shape.elements());
    for image in 0..shape.batch {
        for py in 0..shape.height {
            for px in 0..shape.width {
                for c in 0..shape.channels {
                    let (mut sum, mut size) = (f64::from(bias[c]), f64::from(bias[c].abs()));
                    for tap in 0..9 {
                        let (y, x_) = (py + tap / 3, px + tap % 3);
                        if (1..=shape.height).contains(&y) && (1..=shape.width).contains(&x_) {
                            let term = x[shape.at(image, y - 1, x_ - 1, c)] * weights[tap * shape.channels + c];
                            sum += term;
                            size += term.abs();
                        }
                    }
                    expected.push(sum, 10.0 * HALF_F32 * size);
                }
            }
        }
    }
    expected
}

/// Twice as large, bilinear, corners on corners. The place between two pixels is off by two f32 roundings of its
/// distance from the border, which counts with the pixels' difference.
pub fn upsample(x: &[f16], shape: MapShape) -> Expected {
    let x = widen(x);
    let between = |position: usize, length: usize| {
        let at = (position * (length - 1)) as f64 / (2 * length - 1) as f64;
        let before = (at as usize).min(length - 1);
        (before, (before + 1).min(length - 1), at - before as f64)
    };
    let mut expected = Expected::with_room(4 * shape.elements());
    for image in 0..shape.batch {
        for py in 0..2 * shape.height {
            let (above, below, down) = between(py, shape.height);
            for px in 0..2 * shape.width {
                let (left, right, across) = between(px, shape.width);
                for c in 0..shape.channels {
                    let pixel = |y, x_| x[shape.at(image, y, x_, c)];
                    let line = |y| pixel(y, left) * (1.0 - across) + pixel(y, right) * across;
                    let value = line(above) * (1.0 - down) + line(below) * down;
                    let corners = [pixel(above, left), pixel(above, right), pixel(below, left), pixel(below, right)];
                    let most = corners.iter().fold(0f64, |m, v| m.max(v.abs()));
                    let place_error = 3.0 * HALF_F32 * (shape.height + shape.width) as f64;
                    expected.push(value, 2.0 * most * place_error + 8.0 * HALF_F32 * most);
                }
            }
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(values: &[f32]) -> Vec<f16> {
        values.iter().map(|&v| f16::from_f32(v)).collect()
    }

    fn assert_close(expected: &Expected, by_hand: &[f64]) {
        assert_eq!(expected.value.len(), by_hand.len());
        for (value, hand) in expected.value.iter().zip(by_hand) {
            assert!((value - hand).abs() < 1e-6, "{:?} {by_hand:?}", expected.value);
        }
    }

    #[test]
    fn a_linear_layer_by_hand() {
        let (a, b) = (halves(&[1.0, 2.0, 3.0, 4.0]), halves(&[1.0, 0.0, 0.0, 1.0, 1.0, -1.0]));
        assert_close(&linear(&a, &b, &[0.0, 0.5, 10.0], 2), &[1.0, 2.5, 9.0, 3.0, 4.5, 9.0]);
    }

    #[test]
    fn attention_to_equal_scores_is_the_mean() {
        let shape = AttentionShape { batch: 1, tokens: 3, heads: 1, causal: false };
        let mut qkv = vec![f16::ZERO; 3 * 3 * HEAD];
        for token in 0..3 {
            qkv[token * 3 * HEAD + 2 * HEAD..(token + 1) * 3 * HEAD].fill(f16::from_f32(token as f32));
        }
        assert_close(&attention(&qkv, shape, 0.125, 0..3), &[1.0; 3 * HEAD]);
        let causal = attention(&qkv, AttentionShape { causal: true, ..shape }, 0.125, 0..3);
        assert_close(&causal, &[[0.0; HEAD], [0.5; HEAD], [1.0; HEAD]].concat());
    }

    #[test]
    fn attention_weighs_by_the_exponential() {
        let shape = AttentionShape { batch: 1, tokens: 2, heads: 1, causal: false };
        let mut qkv = vec![f16::ZERO; 2 * 3 * HEAD];
        qkv[0] = f16::from_f32(2.0); // query of token 0
        qkv[HEAD] = f16::from_f32(3.0); // its key
        qkv[2 * HEAD] = f16::ONE; // its value
        let share = (0.5f64 * 6.0).exp() / ((0.5f64 * 6.0).exp() + 1.0);
        let expected = attention(&qkv, shape, 0.5, 0..1);
        assert!((expected.value[0] - share).abs() < 1e-9 && expected.value[1] == 0.0);
    }

    #[test]
    fn a_normalised_row_by_hand() {
        let expected = layer_norm(&[1.0, 3.0, 1.0, 3.0], &[1.0, 1.0, 2.0, 2.0], &[0.0, 0.0, 0.0, 1.0], 0.0);
        assert_close(&expected, &[-1.0, 1.0, -2.0, 3.0]);
    }

    #[test]
    fn depthwise_pads_with_zeros() {
        let shape = MapShape { batch: 1, height: 1, width: 3, channels: 1 };
        let weights = halves(&[9.0, 9.0, 9.0, 1.0, 10.0, 100.0, 9.0, 9.0, 9.0]);
        assert_close(&depthwise(&halves(&[1.0, 2.0, 3.0]), &weights, &[0.5], shape), &[210.5, 321.5, 32.5]);
    }

    #[test]
    fn upsampling_keeps_the_corners() {
        let shape = MapShape { batch: 1, height: 1, width: 2, channels: 1 };
        let line = [0.0, 1.0, 2.0, 3.0];
        assert_close(&upsample(&halves(&[0.0, 3.0]), shape), &[line, line].concat());
    }

    #[test]
    fn a_wrong_result_is_told_from_rounding() {
        let (a, b) = (Random(1).halves(64, 1.0), Random(2).halves(640, 1.0));
        let expected = linear(&a, &b, &[0.0; 10], 64);
        let mut rounded: Vec<f16> = expected.value.iter().map(|&v| f16::from_f64(v)).collect();
        assert_eq!(expected.compare(&rounded), Ok(()));
        rounded[3] = f16::from_f64(expected.value[3] * 1.01);
        assert!(expected.compare(&rounded).is_err_and(|e| e.contains("element 3")));
        rounded[4] = f16::NAN;
        assert!(expected.compare(&rounded).is_err_and(|e| e.contains("element 4 is NaN")));
    }
}
