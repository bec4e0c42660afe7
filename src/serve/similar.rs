//! What in a picture is like one of its pixels: the cosine of its embedding with every other's.

use crate::embedding::Embedding;

/// `[height, width]` cosines at half the network's size, of the pixel (x, y) of a picture of this (width, height).
pub fn cosines(map: &Embedding, (x, y): (usize, usize), (width, height): (usize, usize)) -> Vec<f32> {
    let cell = |at: usize, of: usize, cells: usize| ((2 * at + 1) * cells / (2 * of)).min(cells - 1);
    let pixel = cell(y, height, map.height) * map.width + cell(x, width, map.width);
    let vector = &map.data[pixel * map.channels..][..map.channels];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let length = dot(vector, vector).sqrt();
    let cosine = |other: &[f32]| {
        let lengths = length * dot(other, other).sqrt();
        if lengths > 0.0 { dot(vector, other) / lengths } else { 0.0 }
    };
    map.data.chunks_exact(map.channels).map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_most_like_itself() {
        let data = vec![1.0, 0.0, 0.0, 2.0, 3.0, 3.0, 0.0, 0.0];
        let map = Embedding { channels: 2, height: 2, width: 2, data };
        let near = |values: Vec<f32>, expected: [f32; 4]| {
            assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
        };
        near(cosines(&map, (0, 0), (10, 10)), [1.0, 0.0, 0.5_f32.sqrt(), 0.0]);
        near(cosines(&map, (9, 4), (10, 10)), [0.0, 1.0, 0.5_f32.sqrt(), 0.0]);
        // A zero vector is like nothing.
        near(cosines(&map, (9, 9), (10, 10)), [0.0; 4]);
        assert_eq!(cosines(&map, (0, 0), (1, 1)).len(), 4);
    }
}
