//! Vectors on fewer channels: less their mean, then multiplied by axes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};
use rayon::prelude::*;
use torch_file::{Format, TorchFile};

use crate::Error;
use crate::embedding;
use crate::image::npy::MAGIC;
use crate::image::npy::read::{MAX_BYTES, Matrix};

use super::super::Failure;

/// Vectors of a task.
const BLOCK: usize = 1024;
/// Values of a safetensors file's axes, at most: those of the largest `.npy` in float32.
const MAX_VALUES: usize = (MAX_BYTES / 4) as usize;

/// The largest value: with it, and vectors as large as a network's may be, no product of 65,536 channels is beyond float32.
const LARGEST: f32 = 1e16;

/// Names in a basis' file.
pub const MEAN: &str = "mean";
pub const COMPONENTS: &str = "components";
pub const VARIANCE: &str = "explained_variance";
pub const TOTAL_VARIANCE: &str = "total_variance";
/// What a basis' file tells of the vectors that it was fitted to, which others that it is put to should share.
pub const ORIGIN: [&str; 3] = ["model_checksum", "preset", "normalized"];

/// A linear map of vectors, from a file.
pub struct Projection {
    path: PathBuf,
    /// `[C]`
    mean: Option<Vec<f32>>,
    /// D × C
    axes: DMatrix<f32>,
    variance: Option<f64>,
    metadata: BTreeMap<String, String>,
}

impl Projection {
    /// Reads a matrix `[D, C]` of NumPy's, or a safetensors file with the tensors `mean` `[C]` and `components` `[D, C]`.
    ///
    /// # Errors
    /// Where the file cannot be read; where it is anything else, or has a value that is no number.
    pub fn read(path: &Path) -> Result<Projection, Failure> {
        let io = |e| Error::io("read the projection", path, e);
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(wrong(path, "is no regular file"));
        }
        let file = File::open(path).map_err(io)?;
        let mut head = Vec::new();
        (&file).take(MAGIC.len() as u64).read_to_end(&mut head).map_err(io)?;
        if head != MAGIC {
            return Projection::of_safetensors(path);
        }
        (&file).take(MAX_BYTES + 1 - MAGIC.len() as u64).read_to_end(&mut head).map_err(io)?;
        if head.len() as u64 > MAX_BYTES {
            return Err(wrong(path, format!("has more than {} MiB", MAX_BYTES >> 20)));
        }
        let Matrix { rows, columns, values } = Matrix::parse(&head).map_err(|reason| wrong(path, reason))?;
        check_values(path, "the matrix", &values)?;
        let axes = DMatrix::from_row_slice(rows, columns, &values);
        Ok(Projection { path: path.to_owned(), mean: None, axes, variance: None, metadata: BTreeMap::new() })
    }

    fn of_safetensors(path: &Path) -> Result<Projection, Failure> {
        let torch = |error: torch_file::Error| match error {
            torch_file::Error::Io { action, path, source, .. } => Error::Io { action, path, source }.into(),
            torch_file::Error::UnknownFormat { .. } => wrong(path, "is neither a .npy nor a safetensors file"),
            other => wrong(path, other.reason()),
        };
        let file = TorchFile::open(path).map_err(torch)?;
        if file.format() != Format::Safetensors {
            return Err(wrong(path, format!("is a file of {}", file.format())));
        }
        let tensor = |name: &str, dimensions: usize| {
            let info = file.info(name).ok_or_else(|| wrong(path, format!("has no tensor {name}")))?;
            if info.shape.len() != dimensions || !(1..=MAX_VALUES).contains(&info.count()) {
                return Err(wrong(path, format!("has the tensor {name}, {info}")));
            }
            let mut values = Vec::new();
            file.read_f32(name, &mut values).map_err(torch)?;
            check_values(path, name, &values)?;
            Ok((info.shape.clone(), values))
        };
        let ((shape, axes), (_, mean)) = (tensor(COMPONENTS, 2)?, tensor(MEAN, 1)?);
        if mean.len() != shape[1] {
            return Err(wrong(path, format!("has a mean of {} and components {shape:?}", mean.len())));
        }
        let metadata = file.metadata().clone();
        let total = metadata.get(TOTAL_VARIANCE).and_then(|total| total.parse().ok()).filter(|total| *total > 0.0);
        let kept = tensor(VARIANCE, 1).ok().map(|(_, variance)| variance.into_iter().map(f64::from).sum::<f64>());
        let variance = kept.zip(total).map(|(kept, total): (f64, f64)| (kept / total).clamp(0.0, 1.0));
        let axes = DMatrix::from_row_slice(shape[0], shape[1], &axes);
        Ok(Projection { path: path.to_owned(), mean: Some(mean), axes, variance, metadata })
    }

    /// The file that it is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Channels of the vectors that it takes.
    pub fn inputs(&self) -> usize {
        self.axes.ncols()
    }

    /// Channels of those that it gives.
    pub fn outputs(&self) -> usize {
        self.axes.nrows()
    }

    /// The part of the variance that is left of the vectors that it was fitted to, 0 to 1, where its file tells that.
    pub fn variance(&self) -> Option<f64> {
        self.variance
    }

    /// # Errors
    /// Where vectors have another number of channels than it takes.
    pub fn check(&self, channels: usize) -> Result<(), Failure> {
        if self.inputs() == channels {
            return Ok(());
        }
        let (path, [rows, columns]) = (self.path.display(), [self.outputs(), self.inputs()]);
        Err(Failure::call(format!(
            "{path}: projects vectors of {columns} channels on {rows}; this model's have {channels}, expected [D, {channels}]"
        )))
    }

    /// In words: what is told of the vectors that it was fitted to and is not so of those of this `origin`.
    pub fn differs(&self, origin: &BTreeMap<String, String>) -> Option<String> {
        let others = ORIGIN.iter().filter_map(|key| {
            let (then, now) = (self.metadata.get(*key)?, origin.get(*key)?);
            (then != now).then(|| format!("{key} {then}, and it is {now} here"))
        });
        let others: Vec<String> = others.collect();
        (!others.is_empty()).then(|| format!("{}: fitted with {}", self.path.display(), others.join("; ")))
    }

    /// `[n, C]` → `[n, D]`, in `out`. The values are less the mean then.
    fn apply(&self, values: &mut [f32], out: &mut Vec<f32>) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        out.resize(values.len() / inputs * outputs, 0.0);
        out.par_chunks_mut(BLOCK * outputs).zip(values.par_chunks_mut(BLOCK * inputs)).for_each(|(out, values)| {
            if let Some(mean) = &self.mean {
                values.chunks_exact_mut(inputs).for_each(|vector| {
                    vector.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
                });
            }
            // Vectors one after the other are the columns of a matrix.
            let count = values.len() / inputs;
            let vectors = DMatrixView::from_slice(values, inputs, count);
            DMatrixViewMut::from_slice(out, outputs, count).gemm(1.0, &self.axes, &vectors, 0.0);
        });
    }
}

fn check_values(path: &Path, name: &str, values: &[f32]) -> Result<(), Failure> {
    // What is no number is not in order with any.
    match values.iter().position(|value| !(-LARGEST..=LARGEST).contains(value)) {
        Some(i) => Err(wrong(path, format!("has {:e} at index {i} of {name}, beyond {LARGEST:e}", values[i]))),
        None => Ok(()),
    }
}

fn wrong(path: &Path, found: impl AsRef<str>) -> Failure {
    Failure::call(format!(
        "{}: {}; --project takes a .npy of [D, channels], or a pca.safetensors as --pca writes it, with mean and components",
        path.display(),
        found.as_ref()
    ))
}

/// What becomes of vectors before they are written.
#[derive(Clone, Copy)]
pub struct Finish<'a> {
    /// Each is brought to length 1, before it is projected.
    pub normalise: bool,
    pub projection: Option<&'a Projection>,
}

impl Finish<'_> {
    /// Channels of what becomes of vectors of so many.
    pub fn channels(&self, of: usize) -> usize {
        self.projection.map_or(of, Projection::outputs)
    }

    /// What becomes of `[n, channels]`: in the same place, or in `memory`.
    pub fn apply<'b>(&self, values: &'b mut [f32], channels: usize, memory: &'b mut Vec<f32>) -> &'b [f32] {
        if self.normalise {
            embedding::normalise(values, channels);
        }
        match self.projection {
            Some(projection) => {
                projection.apply(values, memory);
                memory
            }
            None => values,
        }
    }

    /// As [`Finish::apply`].
    pub fn of(&self, mut values: Vec<f32>, channels: usize) -> Vec<f32> {
        let mut projected = Vec::new();
        self.apply(&mut values, channels, &mut projected);
        if self.projection.is_some() { projected } else { values }
    }
}
