//! The principal components of photos' vectors, from one pass over them: `Cov = E[x·xᵀ] − mean·meanᵀ`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, SymmetricEigen};
use rayon::prelude::*;
use serde_json::json;

use crate::safetensors_header;

use super::projection::{COMPONENTS, MEAN, TOTAL_VARIANCE, VARIANCE};

/// Vectors of a photo that are looked at, at most: an even grid of 128 × 128.
const MOST_VECTORS: usize = 1 << 14;
/// Vectors whose products are added at once.
const BLOCK: usize = 2048;
/// Columns of the sums of a task.
const COLUMNS: usize = 64;

/// Every `step`-th pixel on both axes.
#[derive(Clone, Copy)]
pub struct Grid {
    step: usize,
}

impl Grid {
    /// The closest of at most [`MOST_VECTORS`] pixels of a map of (height, width).
    pub fn of((height, width): (usize, usize)) -> Grid {
        let count = |step: usize| height.div_ceil(step) * width.div_ceil(step);
        Grid { step: (1..).find(|step| count(*step) <= MOST_VECTORS).expect("a step as long as a side leaves a line") }
    }

    /// Adds to `picked` the vectors on the grid among some rows of some columns of the map, `[rows, columns, channels]`.
    pub fn pick(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[f32],
        channels: usize,
        picked: &mut Vec<f32>,
    ) {
        let vectors = rows.flat_map(|y| columns.clone().map(move |x| (y, x))).zip(values.chunks_exact(channels));
        let on_grid = vectors.filter(|((y, x), _)| y % self.step == 0 && x % self.step == 0);
        on_grid.for_each(|(_, vector)| picked.extend_from_slice(vector));
    }
}

/// Sums over vectors of C channels, in float64.
pub struct Moments {
    count: u64,
    /// `[C]`
    sums: Vec<f64>,
    /// C × C, right on and below the diagonal.
    products: DMatrix<f64>,
}

impl Moments {
    pub fn new(channels: usize) -> Moments {
        Moments { count: 0, sums: vec![0.0; channels], products: DMatrix::zeros(channels, channels) }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds `[n, C]`.
    pub fn add(&mut self, vectors: &[f32]) {
        let channels = self.sums.len();
        self.count += (vectors.len() / channels) as u64;
        for block in vectors.chunks(BLOCK * channels) {
            let block: Vec<f64> = block.iter().map(|value| f64::from(*value)).collect();
            for vector in block.chunks_exact(channels) {
                self.sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
            }
            let vectors = DMatrixView::from_slice(&block, channels, block.len() / channels);
            let transposed = vectors.transpose();
            let tasks = self.products.as_mut_slice().par_chunks_mut(COLUMNS * channels).enumerate();
            tasks.for_each(|(task, columns)| {
                let (first, count) = (task * COLUMNS, columns.len() / channels);
                let mut columns = DMatrixViewMut::from_slice(columns, channels, count);
                // Above the diagonal is what is below.
                let mut below = columns.rows_range_mut(first..);
                below.gemm(1.0, &vectors.rows_range(first..), &transposed.columns(first, count), 1.0);
            });
        }
    }

    /// The axes of the largest variance.
    ///
    /// # Errors
    /// Where the vectors are too few for so many; where their variances cannot be told.
    pub fn basis(self, count: usize) -> Result<Basis, String> {
        if self.count < count as u64 + 1 {
            return Err(format!("--pca {count} takes at least {} vectors, and there are {}", count + 1, self.count));
        }
        let (channels, n) = (self.sums.len(), self.count as f64);
        let mean: Vec<f64> = self.sums.iter().map(|sum| sum / n).collect();
        let covariance =
            DMatrix::from_fn(channels, channels, |i, j| self.products[(i.max(j), i.min(j))] / n - mean[i] * mean[j]);
        let total_variance = covariance.trace().max(0.0);
        // Far more than it takes: so it ends whatever the sums are.
        let steps = 1000 * channels;
        let eigen = SymmetricEigen::try_new(covariance, f64::EPSILON, steps)
            .ok_or("the vectors' covariances have no axes: are all their values numbers?")?;
        let mut order: Vec<usize> = (0..channels).collect();
        order.sort_by(|i, j| eigen.eigenvalues[*j].total_cmp(&eigen.eigenvalues[*i]));
        order.truncate(count);
        let components = order.iter().flat_map(|i| signed(eigen.eigenvectors.column(*i).as_slice())).collect();
        // Rounding leaves a little below 0 where there is none.
        let variance = order.iter().map(|i| eigen.eigenvalues[*i].max(0.0) as f32).collect();
        let mean = mean.iter().map(|mean| *mean as f32).collect();
        Ok(Basis { vectors: self.count, mean, components, variance, total_variance })
    }
}

/// An axis has no sign: the one that makes its largest entry positive, as scikit-learn's.
fn signed(axis: &[f64]) -> Vec<f32> {
    let largest =
        axis.iter().fold(0.0, |largest: f64, value| if value.abs() > largest.abs() { *value } else { largest });
    axis.iter().map(|value| (value * largest.signum()) as f32).collect()
}

/// The principal components of vectors of C channels.
pub struct Basis {
    vectors: u64,
    /// `[C]`
    mean: Vec<f32>,
    /// `[D, C]`, of length 1 and at right angles, by falling variance.
    components: Vec<f32>,
    /// `[D]`, of the vectors along each: the mean of squares.
    variance: Vec<f32>,
    total_variance: f64,
}

impl Basis {
    /// Writes it as safetensors, with what else is told of the vectors.
    ///
    /// # Errors
    /// What writing yields.
    pub fn write(&self, out: &mut dyn Write, mut about: BTreeMap<String, String>) -> io::Result<()> {
        about.insert("vectors".to_owned(), self.vectors.to_string());
        about.insert(TOTAL_VARIANCE.to_owned(), self.total_variance.to_string());
        let (channels, count) = (self.mean.len(), self.variance.len());
        let tensors = [
            (MEAN, vec![channels], &self.mean),
            (COMPONENTS, vec![count, channels], &self.components),
            (VARIANCE, vec![count], &self.variance),
        ];
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        header.insert("__metadata__".to_owned(), json!(about));
        for (name, shape, values) in &tensors {
            let begin = end;
            end += 4 * values.len();
            header.insert((*name).to_owned(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
        }
        out.write_all(&safetensors_header::framed(serde_json::Value::Object(header).to_string().into_bytes()))?;
        tensors.iter().try_for_each(|(_, _, values)| out.write_all(bytemuck::cast_slice(values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` vectors on a line through `mean`, and a little beside it.
    fn moments(n: usize, mean: [f32; 3]) -> Moments {
        let mut moments = Moments::new(3);
        for i in 0..n {
            let t = i as f32 - (n - 1) as f32 / 2.0;
            let beside = if i % 2 == 0 { 0.25 } else { -0.25 };
            moments.add(&[mean[0] - 0.6 * t, mean[1] - 0.8 * t, mean[2] + beside]);
        }
        moments
    }

    #[test]
    fn the_first_axis_is_the_lines_and_its_largest_entry_positive() {
        let basis = moments(1000, [5.0, -3.0, 100.0]).basis(2).unwrap();
        let expected = [0.6, 0.8, 0.0, 0.0, 0.0, 1.0];
        assert!(basis.components.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{:?}", basis.components);
        assert!(basis.mean.iter().zip([5.0, -3.0, 100.0]).all(|(a, b)| (a - b).abs() < 1e-4), "{:?}", basis.mean);
        let variance = (1000.0_f64.powi(2) - 1.0) / 12.0;
        assert!((f64::from(basis.variance[0]) / variance - 1.0).abs() < 1e-4, "{:?}", basis.variance);
        assert!((basis.variance[1] - 0.0625).abs() < 1e-4, "{:?}", basis.variance);
        assert!((basis.total_variance / (variance + 0.0625) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn too_few_vectors_are_told() {
        assert!(moments(3, [0.0; 3]).basis(3).err().unwrap().contains("at least 4 vectors, and there are 3"));
        assert!(moments(4, [0.0; 3]).basis(3).is_ok());
        assert!(Moments::new(3).basis(1).is_err());
    }

    #[test]
    fn equal_vectors_have_no_variance_and_some_axes() {
        let mut moments = Moments::new(2);
        moments.add(&[3.0; 20]);
        let basis = moments.basis(2).unwrap();
        assert!(basis.variance.iter().all(|variance| (0.0..1e-12).contains(variance)), "{:?}", basis.variance);
        assert!(basis.components.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn a_grid_has_all_pixels_or_at_most_so_many_whatever_the_pieces() {
        for (size, count) in
            [((128, 128), 16_384), ((129, 128), 65 * 64), ((1, 40_000), 13_334), ((480, 640), 96 * 128)]
        {
            let (grid, mut picked) = (Grid::of(size), Vec::new());
            let map: Vec<f32> = (0..size.0 * size.1).map(|i| i as f32).collect();
            grid.pick(0..size.0, 0..size.1, &map, 1, &mut picked);
            assert_eq!(picked.len(), count, "{size:?}");
            let mut in_pieces = Vec::new();
            for y in 0..size.0 {
                let row = &map[y * size.1..][..size.1];
                grid.pick(y..y + 1, 0..7, &row[..7], 1, &mut in_pieces);
                grid.pick(y..y + 1, 7..size.1, &row[7..], 1, &mut in_pieces);
            }
            assert_eq!(picked, in_pieces, "{size:?}");
        }
    }
}
