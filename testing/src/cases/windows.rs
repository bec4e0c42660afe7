//! Windows of a photo, their sums and what is made of these, as obvious loops in float64.

use bytemuck::cast_slice;
use lseg_fast::ops::add_window::Place;
use lseg_fast::ops::cut_windows::TAPS;
use lseg_fast::ops::{AddWindow, CutWindows, MergeScales};

use super::Prepared;
use super::photo;
use super::reference::{Near, Sum, upsample};

const EPS: f64 = f32::EPSILON as f64;

pub fn cut_windows(op: &CutWindows, p: &Prepared) -> Vec<Near> {
    let photo = &photo::colours(&op.photo, &p.inputs[0])[0];
    let (seen, weights, (height, width)) = (p.inputs[1].values.u32(), p.inputs[2].values.f32(), op.window());
    let taps = |at: usize| -> Vec<(usize, f64)> {
        (at * TAPS..(at + 1) * TAPS).map(|k| (seen[k] as usize, f64::from(weights[k]))).collect()
    };
    let (patch, [batch, h, w, _]) = (op.patch, op.out.shape);
    let mut out = Vec::new();
    for (b, py, px) in (0..batch).flat_map(|b| (0..h).flat_map(move |y| (0..w).map(move |x| (b, y, x)))) {
        for (ky, kx) in (0..patch).flat_map(|ky| (0..patch).map(move |kx| (ky, kx))) {
            let first = b * (height + width);
            let (rows, columns) = (taps(first + py * patch + ky), taps(first + height + px * patch + kx));
            out.extend((0..3).map(|c| {
                let mut colour = Sum::default();
                for (row, row_weight) in &rows {
                    for (column, weight) in &columns {
                        colour.add(row_weight * weight * photo[*row][*column][c].value);
                    }
                }
                let Near { value, bound } = colour.near();
                let (mean, std) = (f64::from(op.normalise.mean[c]), f64::from(op.normalise.std[c]));
                Near { value: (value - mean) / std, bound: (bound + 4.0 * EPS) / std }
            }));
        }
    }
    out
}

pub fn add_window(op: &AddWindow, p: &Prepared) -> Vec<Near> {
    let place = cast_slice::<u32, Place>(p.inputs[2].values.u32())[op.item];
    let ([_, h, w, c], (rows, columns)) = (op.map.shape, op.window());
    let item: Vec<f64> =
        p.inputs[1].values.f32()[op.item * h * w * c..][..h * w * c].iter().copied().map(f64::from).collect();
    let map: Vec<Near> = match op.doubled {
        true => upsample(&item, (h, w), c),
        false => item.iter().map(|value| Near { value: *value, bound: 0.0 }).collect(),
    };
    let mut sums: Vec<Near> =
        p.inputs[0].values.f32().iter().map(|value| Near { value: f64::from(*value), bound: 0.0 }).collect();
    for row in place.rows[0]..place.rows[1] {
        let to_row = (place.to_row + row - place.rows[0]) % place.ring;
        for column in place.columns[0]..place.columns[1] {
            let from = if place.mirrored == 1 { columns as u32 - 1 - column } else { column };
            let pixel = place.base + to_row * place.width + place.to_column + column - place.columns[0];
            for k in 0..c {
                let (sum, added) =
                    (&mut sums[pixel as usize * c + k], map[(row as usize * columns + from as usize) * c + k]);
                let is_fresh = row >= place.fresh_row && column >= place.fresh_column;
                *sum = if is_fresh { added } else { plus(*sum, added) };
            }
        }
    }
    assert!(place.rows[1] as usize <= rows);
    sums
}

fn plus(a: Near, b: Near) -> Near {
    let value = a.value + b.value;
    Near { value, bound: a.bound + b.bound + EPS * value.abs() }
}

pub fn merge_scales(op: &MergeScales, p: &Prepared) -> Vec<Near> {
    let sums = p.inputs[0].values.f32();
    let [rows, row_weights, columns, column_weights] = [1, 2, 3, 4].map(|i| &p.inputs[i].values);
    let pairs = |places: &super::Values, weights: &super::Values, at: usize| {
        [2 * at, 2 * at + 1].map(|k| (places.u32()[k] as usize, weights.f32()[k]))
    };
    let [_, h, w, c] = op.out.shape;
    let mut out = Vec::new();
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        for k in 0..c {
            let mut sum = Sum::default();
            for scale in 0..op.scales() {
                for (row, row_weight) in pairs(rows, row_weights, scale * h + y) {
                    for (column, column_weight) in pairs(columns, column_weights, scale * w + x) {
                        if row_weight != 0.0 && column_weight != 0.0 {
                            let value = f64::from(sums[(row + column) * c + k]);
                            sum.add(f64::from(row_weight) * f64::from(column_weight) * value);
                        }
                    }
                }
            }
            // Two products a value.
            let Near { value, bound } = sum.near();
            out.push(Near { value, bound: bound + 2.0 * EPS * sum.magnitude });
        }
    }
    out
}
