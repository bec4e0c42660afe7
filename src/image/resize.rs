//! 8-bit RGB at another size, to the bit as two libraries resize it: Pillow's `Image.resize(…, BILINEAR)` (versions up to 12:
//! `src/libImaging/Resample.c`, rows first) and OpenCV's `cv2.resize(…, INTER_LINEAR)` (`modules/imgproc/src/resize.cpp`).
//!
//! By hand: results that are compared with published ones must have those libraries' fixed-point rounding, which other crates do
//! not promise.

use rayon::prelude::*;

use super::decode::Photo;

/// Bits of Pillow's weights below the point.
const PILLOW_BITS: u32 = 22;
/// Of OpenCV's.
const OPENCV_ONE: f32 = 2048.0;

/// What an output sees: inputs from `first` on, with these weights.
struct Window {
    first: usize,
    weights: Vec<i64>,
}

/// As Pillow does it: a triangle as wide as the reduction (antialias), rows first, each way rounded to 8 bits.
pub fn pillow(photo: &Photo, (height, width): (usize, usize)) -> Photo {
    let rows = (width != photo.width).then(|| along_rows(&photo.rgb, photo.width, &windows(photo.width, width)));
    let rgb = rows.as_deref().unwrap_or(&photo.rgb);
    let rgb = match height == photo.height {
        true => rgb.to_vec(),
        false => down_columns(rgb, 3 * width, &windows(photo.height, height)),
    };
    Photo { width, height, rgb }
}

/// Of each output of `to`.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let window = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = ((center - support + 0.5) as usize).min(from);
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle = |x: usize| (1.0 - ((x as f64 - center + 0.5) / support).abs()).max(0.0);
        let sum: f64 = (first..end).map(triangle).sum();
        let fixed = |x| (triangle(x) / sum * f64::from(1 << PILLOW_BITS) + 0.5) as i64;
        Window { first, weights: (first..end).map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// A sum of weighted bytes, rounded.
fn rounded(sum: i64) -> u8 {
    ((sum + (1 << (PILLOW_BITS - 1))) >> PILLOW_BITS).clamp(0, 255) as u8
}

fn along_rows(rgb: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = vec![0; rgb.len() / width * windows.len()];
    out.par_chunks_mut(3 * windows.len()).zip(rgb.par_chunks(3 * width)).for_each(|(out, row)| {
        for (pixel, window) in out.as_chunks_mut::<3>().0.iter_mut().zip(windows) {
            let seen = &row.as_chunks::<3>().0[window.first..];
            *pixel = std::array::from_fn(|c| {
                rounded(window.weights.iter().zip(seen).map(|(weight, pixel)| weight * i64::from(pixel[c])).sum())
            });
        }
    });
    out
}

fn down_columns(rgb: &[u8], row: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = vec![0; row * windows.len()];
    out.par_chunks_mut(row).zip(windows).for_each(|(out, window)| {
        for (i, out) in out.iter_mut().enumerate() {
            let seen = rgb[window.first * row..].iter().skip(i).step_by(row);
            *out = rounded(window.weights.iter().zip(seen).map(|(weight, value)| weight * i64::from(*value)).sum());
        }
    });
    out
}

/// Two inputs and their weights, in 2048ths.
#[derive(Clone, Copy)]
struct Two {
    low: usize,
    high: usize,
    weights: [i32; 2],
}

/// As OpenCV does it: two neighbours each way, no antialias.
pub fn opencv(photo: &Photo, (height, width): (usize, usize)) -> Photo {
    if (photo.height, photo.width) == (height, width) {
        return Photo { width, height, rgb: photo.rgb.clone() };
    }
    let mut rgb = vec![0; 3 * height * width];
    let row = |y: usize| photo.rgb[3 * photo.width * y..][..3 * photo.width].as_chunks::<3>().0;
    if (photo.height, photo.width) == (2 * height, 2 * width) {
        // The mean of four.
        rgb.par_chunks_mut(3 * width).enumerate().for_each(|(y, out)| {
            for (x, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let four = [row(2 * y), row(2 * y + 1)].map(|row| [row[2 * x], row[2 * x + 1]]);
                *pixel = std::array::from_fn(|c| {
                    ((four.as_flattened().iter().map(|pixel| u16::from(pixel[c])).sum::<u16>() + 2) >> 2) as u8
                });
            }
        });
        return Photo { width, height, rgb };
    }
    let columns: Vec<Two> = (0..width).map(|i| column(i, photo.width, width)).collect();
    rgb.par_chunks_mut(3 * width).enumerate().for_each(|(y, out)| {
        let Two { low, high, weights: [b0, b1] } = line(y, photo.height, height);
        let (top, bottom) = (row(low), row(high));
        for (pixel, Two { low, high, weights: [a0, a1] }) in out.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            *pixel = std::array::from_fn(|c| {
                let blend = |row: &[[u8; 3]]| a0 * i32::from(row[*low][c]) + a1 * i32::from(row[*high][c]);
                let (s0, s1) = (blend(top), blend(bottom));
                ((((b0 * (s0 >> 4)) >> 16) + ((b1 * (s1 >> 4)) >> 16) + 2) >> 2) as u8
            });
        }
    });
    Photo { width, height, rgb }
}

/// Where output `i` falls: the input below, and how far behind it.
fn position(i: usize, from: usize, to: usize) -> (i64, f32) {
    let place = ((i as f64 + 0.5) * (from as f64 / to as f64) - 0.5) as f32;
    let below = place.floor();
    (below as i64, place - below)
}

fn fixed(fraction: f32) -> [i32; 2] {
    [1.0 - fraction, fraction].map(|weight| (weight * OPENCV_ONE).round_ties_even() as i32)
}

fn column(i: usize, from: usize, to: usize) -> Two {
    let last = from as i64 - 1;
    let (below, fraction) = position(i, from, to);
    let (below, fraction) = if below < 0 || below >= last { (below.clamp(0, last), 0.0) } else { (below, fraction) };
    Two { low: below as usize, high: (below + 1).min(last) as usize, weights: fixed(fraction) }
}

/// At the border the weights stay, of one row.
fn line(i: usize, from: usize, to: usize) -> Two {
    let last = from as i64 - 1;
    let (below, fraction) = position(i, from, to);
    let [low, high] = [below, below + 1].map(|row| row.clamp(0, last) as usize);
    Two { low, high, weights: fixed(fraction) }
}
