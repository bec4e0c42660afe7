//! Products, and LayerNorm, as reference.rs has every operation.

use lseg_fast::ops::{Func, Gemm};

use super::Prepared;
use super::reference::{EPS, Near, Sum, apply, to_f64};

/// x·Wᵀ + b for `[rows, k]`, with nothing after it.
pub fn linear(x: &[f64], w: &[f64], k: usize, bias: Option<&[f64]>) -> Vec<Sum> {
    let mut out = Vec::with_capacity(x.len() / k * (w.len() / k));
    for row in x.chunks_exact(k) {
        for (n, w) in w.chunks_exact(k).enumerate() {
            let mut sum = Sum::dot(row.iter().copied(), w.iter().copied());
            if let Some(bias) = bias {
                sum.add(bias[n]);
            }
            out.push(sum);
        }
    }
    out
}

pub fn gemm(op: &Gemm, p: &Prepared) -> Vec<Option<Near>> {
    let Gemm { x, w: weights, epilogue, out } = op;
    let (k, n) = (weights.weight.k, weights.weight.n);
    let w = to_f64(&p.matrices[0].values);
    let bias = p.vectors.first().map(|bias| to_f64(bias));
    let all = to_f64(p.inputs[0].values.f32());
    let mut values = Vec::new();
    for (b, item) in all.chunks_exact(x.buf.rows() * k).enumerate() {
        values.extend(std::iter::repeat_n(None, out.first * n));
        let rows = &item[x.first * k..][..x.count * k];
        for (i, mut sum) in linear(rows, &w, k, bias.as_deref()).into_iter().enumerate() {
            for (add, input) in epilogue.add.iter().flatten().zip(&p.inputs[1..]) {
                let row = if add.count == out.count { add.first + i / n } else { add.first };
                sum.add(f64::from(input.values.f32()[(b * add.buf.rows() + row) * n + i % n]));
            }
            values.push(Some(apply(epilogue.func, sum.near())));
        }
    }
    values
}

/// Errors: of the mean, relative to the values' size over the deviation; of the deviation, relative.
pub fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], eps: f32) -> Vec<Near> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let magnitude = x.iter().map(|v| v.abs()).sum::<f64>() / n;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    let sum = 2.0 + n.sqrt();
    let one = |((v, w), b): ((&f64, &f64), &f64)| {
        let normed = (v - mean) * scale;
        let error = EPS * (sum * magnitude * scale + v.abs() * scale + (2.0 + 0.5 * sum) * normed.abs());
        Near { value: normed * w + b, bound: error * w.abs() + EPS * b.abs() }
    };
    x.iter().zip(weight).zip(bias).map(one).collect()
}

/// The same of values that have errors themselves: of a value, of the mean (at most the largest), and of the deviation.
pub fn norm_of_near(x: &[Near], weight: &[f64], bias: &[f64], eps: f32) -> Vec<Near> {
    let values: Vec<f64> = x.iter().map(|near| near.value).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    // Errors are independent: of a mean of n the root of their squares' sum over n, as of the deviation, which is a norm.
    let squares = x.iter().map(|near| near.bound.powi(2)).sum::<f64>();
    let (of_mean, of_scale) = (squares.sqrt() / n, (squares / n).sqrt() * scale);
    let normed = layer_norm(&values, weight, bias, eps);
    let more = |(x, w): (&Near, &f64)| {
        let error = (x.bound + of_mean) * scale + of_scale * ((x.value - mean) * scale).abs();
        error * w.abs()
    };
    normed
        .into_iter()
        .zip(x.iter().zip(weight).map(more))
        .map(|(near, more)| Near { bound: near.bound + more, ..near })
        .collect()
}

/// Of one item's tokens: the patches' and the class token's weights, and the bias.
pub fn readout(tokens: &[f64], d: usize, [patch, class, bias]: &[Vec<f64>; 3]) -> Vec<Near> {
    let vector = linear(&tokens[..d], class, d, Some(bias));
    let sums = linear(&tokens[d..], patch, d, None).into_iter().enumerate();
    let with_vector = |(i, sum): (usize, Sum)| {
        let add = vector[i % d];
        let (value, magnitude) = (sum.value + add.value, sum.magnitude + add.magnitude);
        apply(Func::Gelu, Sum { value, magnitude, terms: sum.terms + add.terms }.near())
    };
    sums.map(with_vector).collect()
}
