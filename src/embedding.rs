//! The pixels' embeddings, and how they become array files.

use std::io::{self, Write};

use half::f16;

use crate::image::npy::{self, Dtype};
use crate::unit_vector;

/// Channels taken out of the map at once: one cache line.
const GROUP: usize = 16;

/// The embeddings of a photo's pixels at half the network's size: `head1`'s output, of any length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// Length of an embedding: the dimension that pixels and words share.
    pub channels: usize,
    /// Half the network's height.
    pub height: usize,
    /// Half the network's width.
    pub width: usize,
    /// `[height, width, channels]`
    pub data: Vec<f32>,
}

/// A size to which a device brings embeddings ([`Engine::embed_resized`](crate::Engine::embed_resized)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The network's: ×2 bilinear, align_corners=True.
    Full,
    /// The photo's: as [`At::Full`], then bilinear with align_corners=False.
    Photo,
}

impl Embedding {
    /// The first value that float16 cannot hold, if there is one.
    pub fn beyond_f16(&self) -> Option<f32> {
        beyond_f16(&self.data)
    }

    /// Writes a NumPy file `[channels, height, width]`, one channel after the other. With `normalise` each pixel's vector
    /// is brought to length 1 (a zero vector stays zero). Memory: a few planes.
    ///
    /// # Errors
    /// What writing to `out` yields; `InvalidInput` if `data` is not of the size that the other fields tell.
    pub fn write(&self, out: &mut impl Write, dtype: Dtype, normalise: bool) -> io::Result<()> {
        if self.data.len() != self.channels * self.height * self.width || self.data.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an embedding of another size than it says"));
        }
        let scale: Option<Vec<f32>> =
            normalise.then(|| self.data.chunks_exact(self.channels).map(inverse_length).collect());
        npy::write_header(out, dtype, &[self.channels, self.height, self.width])?;
        let pixels = self.height * self.width;
        let mut group = vec![0.0; GROUP * pixels];
        for first in (0..self.channels).step_by(GROUP) {
            let count = GROUP.min(self.channels - first);
            for (i, vector) in self.data.chunks_exact(self.channels).enumerate() {
                for (k, value) in vector[first..first + count].iter().enumerate() {
                    group[k * pixels + i] = *value;
                }
            }
            for plane in group.chunks_exact_mut(pixels).take(count) {
                if let Some(scale) = &scale {
                    plane.iter_mut().zip(scale).for_each(|(v, scale)| *v *= scale);
                }
                npy::write_values(out, dtype, plane)?;
            }
        }
        Ok(())
    }
}

/// Brings each vector of `[n, channels]` to length 1; a zero vector stays zero.
pub fn normalise(data: &mut [f32], channels: usize) {
    for vector in data.chunks_exact_mut(channels) {
        let scale = inverse_length(vector);
        vector.iter_mut().for_each(|v| *v *= scale);
    }
}

/// The first value that float16 cannot hold, if there is one.
pub fn beyond_f16(data: &[f32]) -> Option<f32> {
    data.iter().copied().find(|v| v.abs() > f16::MAX.to_f32())
}

/// 0 for a zero vector.
fn inverse_length(vector: &[f32]) -> f32 {
    let squares: f32 = vector.iter().map(|v| v * v).sum();
    unit_vector::factor(1.0, squares.sqrt().into()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of a written file.
    fn written(map: &Embedding, normalise: bool) -> Vec<f32> {
        let mut file = Vec::new();
        map.write(&mut file, Dtype::F32, normalise).unwrap();
        file[128..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// One row of two pixels, 17 channels (more than a group).
    fn map() -> Embedding {
        let pixel = |x: usize| (0..17).map(move |c| if c == 3 { 4.0 } else { (x * 17 + c) as f32 });
        Embedding { channels: 17, height: 1, width: 2, data: (0..2).flat_map(pixel).collect() }
    }

    #[test]
    fn channels_come_first() {
        let half = written(&map(), false);
        assert_eq!((half[0], half[1], half[6], half[7], half[32], half[33]), (0.0, 17.0, 4.0, 4.0, 16.0, 33.0));
        assert_eq!(half.len(), 17 * 2);
    }

    #[test]
    fn vectors_are_of_length_one_and_zeros_stay() {
        let mut map = map();
        map.data[..17].fill(0.0);
        let values = written(&map, true);
        let length = |i: usize| values.iter().skip(i).step_by(2).map(|v| v * v).sum::<f32>().sqrt();
        assert!(length(0) == 0.0 && (length(1) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn float16_holds_65504_and_no_more() {
        let mut map = map();
        map.data[5] = -65_504.0;
        assert_eq!(map.beyond_f16(), None);
        map.data[9] = 65_505.0;
        assert_eq!(map.beyond_f16(), Some(65_505.0));
        let wrong = Embedding { width: 3, ..map };
        assert_eq!(wrong.write(&mut Vec::new(), Dtype::F32, false).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
