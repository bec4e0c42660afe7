//! The pixels' embeddings, and how they become an array file of any size without ever lying whole in memory.

use std::io::{self, Write};

use half::f16;

use crate::image::npy::{self, Dtype};
use crate::resample::Taps;
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

/// The size at which embeddings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Half the network's, as computed.
    Half,
    /// The network's: ×2 bilinear, align_corners=True.
    Full,
    /// The photo's: as [`At::Full`], then bilinear with align_corners=False.
    Photo {
        /// The photo's rows.
        height: usize,
        /// Pixels of a row of it.
        width: usize,
    },
}

impl Embedding {
    /// The first value that float16 cannot hold, if there is one. Resizing only averages, so that its results fit where
    /// the map does.
    pub fn beyond_f16(&self) -> Option<f32> {
        beyond_f16(&self.data)
    }

    /// (height, width) at a size.
    pub fn size(&self, at: At) -> (usize, usize) {
        match at {
            At::Half => (self.height, self.width),
            At::Full => (2 * self.height, 2 * self.width),
            At::Photo { height, width } => (height, width),
        }
    }

    /// Writes a NumPy file `[channels, height, width]`, one channel after the other. With `normalise` each pixel's vector
    /// is brought to length 1 last of all (a zero vector stays zero). Memory: a few planes.
    ///
    /// # Errors
    /// What writing to `out` yields; `InvalidInput` if `data` is not of the size that the other fields tell.
    pub fn write(&self, out: &mut impl Write, at: At, dtype: Dtype, normalise: bool) -> io::Result<()> {
        let (height, width) = self.size(at);
        if self.data.len() != self.channels * self.height * self.width || self.data.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an embedding of another size than it says"));
        }
        let rows: Vec<Taps> = (0..height).map(|i| taps(at, i, self.height, height)).collect();
        let columns: Vec<Taps> = (0..width).map(|i| taps(at, i, self.width, width)).collect();
        let scale = normalise.then(|| self.inverse_norms(&rows, &columns)).transpose()?;
        npy::write_header(out, dtype, &[self.channels, height, width])?;
        self.planes(&rows, &columns, |plane| {
            if let Some(scale) = &scale {
                plane.iter_mut().zip(scale).for_each(|(v, scale)| *v *= scale);
            }
            npy::write_values(out, dtype, plane)
        })
    }

    /// 1 / the length of each resized vector; 0 for a zero vector.
    fn inverse_norms(&self, rows: &[Taps], columns: &[Taps]) -> io::Result<Vec<f32>> {
        let mut norms = vec![0.0f32; rows.len() * columns.len()];
        self.planes(rows, columns, |plane| {
            norms.iter_mut().zip(&*plane).for_each(|(norm, v)| *norm += v * v);
            Ok(())
        })?;
        norms.iter_mut().for_each(|norm| *norm = inverse_length(*norm));
        Ok(norms)
    }

    /// Resizes one channel after the other and hands each to `take`.
    fn planes(
        &self,
        rows: &[Taps],
        columns: &[Taps],
        mut take: impl FnMut(&mut [f32]) -> io::Result<()>,
    ) -> io::Result<()> {
        let pixels = self.height * self.width;
        let mut group = vec![0.0; GROUP * pixels];
        let mut line = vec![0.0; self.width];
        let mut plane = vec![0.0; rows.len() * columns.len()];
        for first in (0..self.channels).step_by(GROUP) {
            let count = GROUP.min(self.channels - first);
            for (i, vector) in self.data.chunks_exact(self.channels).enumerate() {
                for (k, value) in vector[first..first + count].iter().enumerate() {
                    group[k * pixels + i] = *value;
                }
            }
            for channel in group.chunks_exact(pixels).take(count) {
                resize(channel, rows, columns, &mut line, &mut plane);
                take(&mut plane)?;
            }
        }
        Ok(())
    }
}

/// Brings each vector of `[n, channels]` to length 1; a zero vector stays zero.
pub fn normalise(data: &mut [f32], channels: usize) {
    for vector in data.chunks_exact_mut(channels) {
        let scale = inverse_length(vector.iter().map(|v| v * v).sum());
        vector.iter_mut().for_each(|v| *v *= scale);
    }
}

/// The first value that float16 cannot hold, if there is one.
pub fn beyond_f16(data: &[f32]) -> Option<f32> {
    data.iter().copied().find(|v| v.abs() > f16::MAX.to_f32())
}

fn inverse_length(squares: f32) -> f32 {
    unit_vector::factor(1.0, squares.sqrt().into()) as f32
}

fn taps(at: At, i: usize, half: usize, to: usize) -> Taps {
    match at {
        At::Half => Taps::identity(i),
        At::Full => Taps::upsample(i, half),
        At::Photo { .. } => Taps::through_upsample(i, half, to),
    }
}

/// One channel `[rows, line.len()]` to `plane` `[rows', columns']`.
fn resize(channel: &[f32], rows: &[Taps], columns: &[Taps], line: &mut [f32], plane: &mut [f32]) {
    let width = line.len();
    for (row, out) in rows.iter().zip(plane.chunks_exact_mut(columns.len())) {
        line.fill(0.0);
        for (y, weight) in row.iter() {
            line.iter_mut().zip(&channel[y * width..][..width]).for_each(|(l, v)| *l += weight * v);
        }
        for (column, out) in columns.iter().zip(out) {
            *out = column.iter().map(|(x, weight)| weight * line[x]).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of a written file.
    fn written(map: &Embedding, at: At, normalise: bool) -> Vec<f32> {
        let mut file = Vec::new();
        map.write(&mut file, at, Dtype::F32, normalise).unwrap();
        file[128..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// One row of two pixels, 17 channels (more than a group).
    fn map() -> Embedding {
        let pixel = |x: usize| (0..17).map(move |c| if c == 3 { 4.0 } else { (x * 17 + c) as f32 });
        Embedding { channels: 17, height: 1, width: 2, data: (0..2).flat_map(pixel).collect() }
    }

    #[test]
    fn channels_come_first_and_are_resized_one_by_one() {
        let half = written(&map(), At::Half, false);
        assert_eq!((half[0], half[1], half[6], half[7], half[32], half[33]), (0.0, 17.0, 4.0, 4.0, 16.0, 33.0));
        let full = written(&map(), At::Full, false);
        assert_eq!(full.len(), 17 * 2 * 4);
        for (got, want) in full[..4].iter().zip([0.0, 17.0 / 3.0, 34.0 / 3.0, 17.0]) {
            assert!((got - want).abs() < 1e-5);
        }
        assert_eq!(full[..4], full[4..8]);
        // The network's size is the photo's: nothing more happens.
        assert_eq!(written(&map(), At::Photo { height: 2, width: 4 }, false), full);
        // The photo is one pixel: the mean of the middle two of the four.
        assert!((written(&map(), At::Photo { height: 1, width: 1 }, false)[0] - 8.5).abs() < 1e-5);
    }

    #[test]
    fn vectors_are_of_length_one_after_resizing_and_zeros_stay() {
        let mut map = map();
        map.data[..17].fill(0.0);
        for (at, pixels) in [(At::Half, 2), (At::Full, 8), (At::Photo { height: 3, width: 5 }, 15)] {
            let values = written(&map, at, true);
            let length = |i: usize| values.iter().skip(i).step_by(pixels).map(|v| v * v).sum::<f32>().sqrt();
            assert_eq!(length(0), 0.0);
            assert!((1..pixels).map(length).all(|l| l == 0.0 || (l - 1.0).abs() < 1e-6));
            assert!((length(pixels - 1) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn float16_holds_65504_and_no_more() {
        let mut map = map();
        map.data[5] = -65_504.0;
        assert_eq!(map.beyond_f16(), None);
        map.data[9] = 65_505.0;
        assert_eq!(map.beyond_f16(), Some(65_505.0));
        let wrong = Embedding { width: 3, ..map };
        assert_eq!(
            wrong.write(&mut Vec::new(), At::Half, Dtype::F32, false).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
