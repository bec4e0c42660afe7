//! What the kernels compute, in float64, and how far the kernel's result may be from it.
//!
//! Every bound is a worst case of the kernel's roundings, so a right kernel never fails it: ½ unit in the last place of
//! f16 for the result, and of f32 for each step before. It is small beside what one wrong element adds.

use half::f16;

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

    /// A result in f32.
    fn push(&mut self, value: f64, error: f64) {
        self.value.push(value);
        self.bound.push(error);
    }

    /// `error`: of the number before it is rounded to f16.
    fn push_half(&mut self, value: f64, error: f64) {
        self.push(value, error + HALF_F16 * (value.abs() + error) + HALF_F16_SUBNORMAL);
    }

    /// The first result that is no number, or else the one farthest off.
    pub fn compare(&self, got: &[f64]) -> Result<(), String> {
        if got.len() != self.value.len() {
            return Err(format!("{} results, {} expected", got.len(), self.value.len()));
        }
        if let Some(i) = got.iter().position(|g| !g.is_finite()) {
            return Err(format!("element {i} is {}, expected {}", got[i], self.value[i]));
        }
        let ratio = |i: usize| (got[i] - self.value[i]).abs() / self.bound[i];
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

pub fn widen(values: &[f16]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

/// [rows, depth] · [columns, depth]ᵀ + bias. The kernel rounds each of `depth` sums to f32 in any order; a tensor core
/// may cut instead of round, and to one bit less: twice the error, and one more for the largest term's alignment.
pub fn product(a: &[f16], b: &[f16], bias: &[f32], depth: usize) -> Expected {
    let (a, b) = (widen(a), widen(b));
    let mut expected = Expected::with_room(a.len() / depth * bias.len());
    for row in a.chunks(depth) {
        for (column, bias) in b.chunks(depth).zip(bias) {
            let (mut sum, mut size) = (f64::from(*bias), f64::from(bias.abs()));
            for (x, y) in row.iter().zip(column) {
                sum += x * y;
                size += (x * y).abs();
            }
            expected.push_half(sum, 3.0 * HALF_F32 * (depth + 1) as f64 * size);
        }
    }
    expected
}

pub const WIDTH: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct WeightedShape {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
}

/// softmax(scores)·v: [batch, queries, 64].
///
/// Errors: the difference of two scores is off by a few roundings of them; 2^x has two units. So each weight is off by a
/// small share, which counts once above and once below the fraction. Rounding the weights to f16 counts above only; weights
/// below f16's normal numbers lose an absolute amount, beside a sum that is at least 1 (the largest weight).
pub fn weighted(scores: &[f32], v: &[f16], shape: WeightedShape) -> Expected {
    let WeightedShape { batch, queries, keys } = shape;
    let v = widen(v);
    let mut expected = Expected::with_room(batch * queries * WIDTH);
    for (row, scores) in scores.chunks(keys).enumerate() {
        let v = &v[row / queries * keys * WIDTH..][..keys * WIDTH];
        let scores: Vec<f64> = scores.iter().map(|&s| f64::from(s)).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let size = scores.iter().fold(0f64, |most, s| most.max(s.abs()));
        let weight_error = HALF_F32 * (16.0 * size + 4.0 + keys as f64);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        for d in 0..WIDTH {
            let (mut sum, mut size, mut most) = (0.0, 0.0, 0f64);
            for (weight, v) in weights.iter().zip(v.chunks(WIDTH)) {
                sum += weight * v[d];
                size += weight * v[d].abs();
                most = most.max(v[d].abs());
            }
            let lost = HALF_F16_SUBNORMAL * keys as f64 * most;
            expected.push_half(sum / total, ((HALF_F16 + 2.0 * weight_error) * size + lost) / total);
        }
    }
    expected
}

#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
}

/// softmax(q·kᵀ / 8)·v, all [tokens, heads, 64].
///
/// Errors: as of [`weighted`], and of each score: 64 sums in f32 as of [`product`], and the rounding of a query's subnormal
/// eighth.
pub fn attention(q: &[f16], k: &[f16], v: &[f16], shape: AttentionShape) -> Expected {
    let AttentionShape { heads, queries, keys } = shape;
    let (q, k, v) = (widen(q), widen(k), widen(v));
    let of = |x: &[f64], token: usize, head: usize, d: usize| x[(token * heads + head) * WIDTH + d];
    let mut expected = Expected::with_room(queries * heads * WIDTH);
    for query in 0..queries {
        for head in 0..heads {
            let mut scores = Vec::with_capacity(keys);
            let mut most_error = 0f64;
            for key in 0..keys {
                let terms = (0..WIDTH).map(|d| of(&q, query, head, d) / 8.0 * of(&k, key, head, d));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let subnormal: f64 = (0..WIDTH).map(|d| HALF_F16_SUBNORMAL * of(&k, key, head, d).abs()).sum();
                most_error = most_error.max(3.0 * HALF_F32 * (WIDTH + 1) as f64 * size + subnormal);
                scores.push(sum);
            }
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let size = scores.iter().fold(0f64, |most, s| most.max(s.abs()));
            let weight_error = 2.0 * most_error + HALF_F32 * (16.0 * size + 4.0 + 2.0 * keys as f64);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..WIDTH {
                let (mut sum, mut size, mut most) = (0.0, 0.0, 0f64);
                for (key, weight) in weights.iter().enumerate() {
                    let value = of(&v, key, head, d);
                    sum += weight * value;
                    size += weight * value.abs();
                    most = most.max(value.abs());
                }
                // Weights below f16's normal numbers lose an absolute amount, in the scale of the largest score so far.
                let lost = HALF_F16_SUBNORMAL * keys as f64 * most;
                let rounding = HALF_F16 + 2.0 * weight_error + 3.0 * HALF_F32 * (keys + 1) as f64;
                expected.push_half(sum / total, (rounding * size + lost) / total);
            }
        }
    }
    expected
}

/// (x − mean) / √(variance + epsilon) of rows of `width`. The f32 mean is off by the roundings of a thread's and the block's
/// sums, as is the variance; the reciprocal root by two units.
pub fn standardise(x: &[f32], width: usize, epsilon: f32) -> Expected {
    let steps = (width / 128 + 16) as f64;
    let mut expected = Expected::with_room(x.len());
    for row in x.chunks(width) {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let n = width as f64;
        let mean = row.iter().sum::<f64>() / n;
        let scale = 1.0 / (row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + f64::from(epsilon)).sqrt();
        let mean_error = HALF_F32 * steps * row.iter().map(|v| v.abs()).sum::<f64>() / n;
        for v in &row {
            let normal = (v - mean) * scale;
            let error = mean_error * scale + normal.abs() * (HALF_F32 * (steps + 8.0) + (mean_error * scale).powi(2));
            expected.push_half(normal, error);
        }
    }
    expected
}

/// Of pixels of eight f32.
#[derive(Clone, Copy, Debug)]
pub struct ImageShape {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
}

impl ImageShape {
    pub fn elements(self) -> usize {
        self.batch * self.height * self.width * 8
    }

    fn at(self, image: usize, y: usize, x: usize, part: usize) -> usize {
        ((image * self.height + y) * self.width + x) * 8 + part
    }
}

/// 3×3 around each pixel: nine f32 roundings.
pub fn filter(x: &[f32], weights: &[f32], shape: ImageShape) -> Expected {
    let mut expected = Expected::with_room(shape.elements());
    for image in 0..shape.batch {
        for py in 0..shape.height {
            for px in 0..shape.width {
                for part in 0..8 {
                    let (mut sum, mut size) = (0.0, 0.0);
                    for (tap, weight) in weights.iter().enumerate() {
                        let (y, x_) = (py + tap / 3, px + tap % 3);
                        if (1..=shape.height).contains(&y) && (1..=shape.width).contains(&x_) {
                            let term = f64::from(x[shape.at(image, y - 1, x_ - 1, part)]) * f64::from(*weight);
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
pub fn enlarge(x: &[f32], shape: ImageShape) -> Expected {
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
                for part in 0..8 {
                    let pixel = |y, x_| f64::from(x[shape.at(image, y, x_, part)]);
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
    use crate::random::Random;

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
    fn a_product_by_hand() {
        let (a, b) = (halves(&[1.0, 2.0, 3.0, 4.0]), halves(&[1.0, 0.0, 0.0, 1.0, 1.0, -1.0]));
        assert_close(&product(&a, &b, &[0.0, 0.5, 10.0], 2), &[1.0, 2.5, 9.0, 3.0, 4.5, 9.0]);
    }

    #[test]
    fn equal_scores_weigh_equally() {
        let v: Vec<f16> = (0..3).flat_map(|key| [f16::from_f32(key as f32); WIDTH]).collect();
        let shape = WeightedShape { batch: 1, queries: 2, keys: 3 };
        assert_close(&weighted(&[5.0; 6], &v, shape), &[1.0; 2 * WIDTH]);
    }

    #[test]
    fn scores_weigh_by_the_exponential() {
        let mut v = vec![f16::ZERO; 2 * WIDTH];
        v[0] = f16::ONE;
        let share = 3f64.exp() / (3f64.exp() + 1.0);
        let expected = weighted(&[3.0, 0.0], &v, WeightedShape { batch: 1, queries: 1, keys: 2 });
        assert!((expected.value[0] - share).abs() < 1e-9 && expected.value[1] == 0.0);
    }

    #[test]
    fn attention_by_hand() {
        // One head, one query (8, 0, …), keys (0, …) and (3, 0, …): scores 0 and 3.
        let (mut q, mut k, mut v) = (vec![f16::ZERO; WIDTH], vec![f16::ZERO; 2 * WIDTH], vec![f16::ZERO; 2 * WIDTH]);
        (q[0], k[WIDTH], v[WIDTH]) = (f16::from_f32(8.0), f16::from_f32(3.0), f16::ONE);
        let share = 3f64.exp() / (3f64.exp() + 1.0);
        let expected = attention(&q, &k, &v, AttentionShape { heads: 1, queries: 1, keys: 2 });
        assert!((expected.value[0] - share).abs() < 1e-9 && expected.value[1] == 0.0);
    }

    #[test]
    fn a_standardised_row_by_hand() {
        assert_close(&standardise(&[1.0, 3.0, 1.0, 3.0], 4, 0.0), &[-1.0, 1.0, -1.0, 1.0]);
    }

    #[test]
    fn a_filter_pads_with_zeros() {
        let shape = ImageShape { batch: 1, height: 1, width: 3 };
        let x: Vec<f32> = [1.0, 2.0, 3.0].iter().flat_map(|&v| [v; 8]).collect();
        let by_hand: Vec<f64> = [210.0, 321.0, 32.0].iter().flat_map(|&v| [v; 8]).collect();
        assert_close(&filter(&x, &[9.0, 9.0, 9.0, 1.0, 10.0, 100.0, 9.0, 9.0, 9.0], shape), &by_hand);
    }

    #[test]
    fn enlarging_keeps_the_corners() {
        let shape = ImageShape { batch: 1, height: 1, width: 2 };
        let x: Vec<f32> = [0.0, 3.0].iter().flat_map(|&v| [v; 8]).collect();
        let line: Vec<f64> = [0.0, 1.0, 2.0, 3.0].iter().flat_map(|&v| [v; 8]).collect();
        assert_close(&enlarge(&x, shape), &[line.clone(), line].concat());
    }

    #[test]
    fn a_wrong_result_is_told_from_rounding() {
        let (a, b) = (Random(1).halves(64, 1.0), Random(2).halves(640, 1.0));
        let expected = product(&a, &b, &[0.0; 10], 64);
        let mut rounded: Vec<f64> = expected.value.iter().map(|&v| f16::from_f64(v).to_f64()).collect();
        assert_eq!(expected.compare(&rounded), Ok(()));
        rounded[3] = expected.value[3] * 1.01;
        assert!(expected.compare(&rounded).is_err_and(|e| e.contains("element 3")));
        rounded[4] = f64::NAN;
        assert!(expected.compare(&rounded).is_err_and(|e| e.contains("element 4 is NaN")));
    }
}
