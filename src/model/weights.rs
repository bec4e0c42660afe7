//! From checkpoint tensors to device weights: each is read, checked, folded, uploaded and forgotten, one at a time.

use crate::checkpoint::finite::first_beyond;
use crate::checkpoint::{Checkpoint, Dtype, printable};
pub use crate::device::ConvShape;
use crate::device::{Conv, ConvTranspose, LayerNorm, Linear, Matrix, Upload, Vector, Weight};
use crate::error::{Error, Result};
use crate::memory::Need;

/// BatchNorm's epsilon, everywhere in the decoder and in ResNet.
const BN_EPS: f32 = 1e-5;

/// Makes the model's weights: from a checkpoint onto a device, or in shape alone for a plan.
pub struct Loader<'a> {
    source: Option<(&'a Checkpoint, &'a mut dyn Upload)>,
    /// Of every convolution's bias: see [`super::scale`].
    scale: f32,
    /// Whether the file has float16 in all matrices.
    halves: bool,
    /// All weights so far.
    weights: Vec<Weight>,
    /// Values that the host keeps, and bytes that it takes to make the weight that takes most.
    kept: usize,
    making: usize,
}

/// A tensor's name and shape as the checkpoint has it.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
}

/// What follows a convolution and can be folded into it.
#[derive(Clone, Copy)]
pub enum After<'a> {
    Nothing,
    Bias,
    /// BatchNorm with running statistics, under this name.
    BatchNorm(&'a str),
}

impl<'a> Loader<'a> {
    pub fn new(checkpoint: &'a Checkpoint, device: &'a mut dyn Upload) -> Self {
        Loader { source: Some((checkpoint, device)), ..Loader::shapes(checkpoint) }
    }

    /// Reads nothing, uploads nothing: every handle has its shape and no place.
    pub fn shapes(checkpoint: &Checkpoint) -> Self {
        let mut matrices =
            checkpoint.names().filter_map(|name| checkpoint.info(name)).filter(|info| info.shape.len() > 1);
        let halves = matrices.all(|info| info.dtype == Dtype::F16);
        Loader { source: None, scale: 1.0, halves, weights: Vec::new(), kept: 0, making: 0 }
    }

    /// Whether matrices, and so activations, are kept as float16.
    pub fn is_half(&self) -> bool {
        self.source.as_ref().is_some_and(|(_, device)| device.largest_weight() < f32::MAX)
    }

    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The scale of the convolutions' biases from now on.
    pub fn set_scale(&mut self, scale: f32) {
        self.scale = scale;
    }

    /// The weights so far.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// What the weights so far take, where they take `bytes` of the device's memory.
    pub fn need(&self, bytes: u64) -> Need {
        Need { device: bytes, host: 4 * self.kept as u64, passing: self.making as u64 }
    }

    /// A weight is to come, which is read as float32 and then rearranged or narrowed.
    fn announce(&mut self, weight: Weight) {
        let (n, k) = weight.size();
        self.making = self.making.max(8 * n * k);
        self.weights.push(weight);
    }

    /// A tensor's values for the host, which were looked at as a weight; empty in shape alone.
    pub fn host(&mut self, tensor: Tensor<'_>) -> Result<Vec<f32>> {
        let values = tensor.shape.iter().product::<usize>();
        self.kept += values;
        // The head makes one matrix of it, in float64.
        self.making = self.making.max(12 * values);
        match &self.source {
            Some((checkpoint, _)) => read(checkpoint, tensor),
            None => Ok(Vec::new()),
        }
    }

    /// A matrix that `make` reads and rearranges; `name` is the tensor that it is made of.
    pub fn matrix(
        &mut self,
        name: &str,
        (n, k): (usize, usize),
        make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>,
    ) -> Result<Matrix> {
        self.announce(Weight::Matrix { n, k, halves: self.halves });
        match &mut self.source {
            Some((checkpoint, device)) => device.matrix(n, k, &made(checkpoint, name, device.largest_weight(), make)?),
            None => Ok(Matrix { index: 0, n, k }),
        }
    }

    /// The weights of a convolution, `[outputs, kernel·kernel·inputs]`, that `make` reads and rearranges.
    fn filters(
        &mut self,
        name: &str,
        shape: ConvShape,
        make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>,
    ) -> Result<Matrix> {
        let (n, k) = (shape.outputs, shape.kernel * shape.kernel * shape.inputs);
        self.announce(Weight::Filters(shape));
        match &mut self.source {
            Some((checkpoint, device)) => {
                device.filters(shape, &made(checkpoint, name, device.largest_weight(), make)?)
            }
            None => Ok(Matrix { index: 0, n, k }),
        }
    }

    /// A vector or table that `make` reads and rearranges; `name` is the tensor that it is made of.
    pub fn made_vector(
        &mut self,
        name: &str,
        len: usize,
        make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>,
    ) -> Result<Vector> {
        self.announce(Weight::Vector(len));
        match &mut self.source {
            Some((checkpoint, device)) => device.vector(&made(checkpoint, name, f32::MAX, make)?),
            None => Ok(Vector { index: 0, len }),
        }
    }

    pub fn vector(&mut self, name: &str, shape: &[usize]) -> Result<Vector> {
        self.made_vector(name, shape.iter().product(), |checkpoint| read(checkpoint, Tensor { name, shape }))
    }

    /// A matrix as the file has it.
    pub fn table(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix> {
        self.matrix(name, (n, k), |checkpoint| read(checkpoint, Tensor { name, shape: &[n, k] }))
    }

    /// `{name}.weight` `[n, k]` and `{name}.bias` `[n]`.
    pub fn linear(&mut self, name: &str, n: usize, k: usize) -> Result<Linear> {
        self.named_linear(&format!("{name}.weight"), &format!("{name}.bias"), n, k)
    }

    pub fn named_linear(&mut self, weight: &str, bias: &str, n: usize, k: usize) -> Result<Linear> {
        let weight = self.table(weight, n, k)?;
        Ok(Linear { weight, bias: Some(self.vector(bias, &[n])?) })
    }

    /// A table `name` `[k, n]` that multiplies from the right (x·T), without bias.
    pub fn projection(&mut self, name: &str, k: usize, n: usize) -> Result<Linear> {
        let weight = self.matrix(name, (n, k), |checkpoint| {
            let table = read(checkpoint, Tensor { name, shape: &[k, n] })?;
            Ok((0..n * k).map(|i| table[i % k * n + i / k]).collect())
        })?;
        Ok(Linear { weight, bias: None })
    }

    pub fn layer_norm(&mut self, name: &str, width: usize, eps: f32) -> Result<LayerNorm> {
        let weight = self.vector(&format!("{name}.weight"), &[width])?;
        Ok(LayerNorm { weight, bias: self.vector(&format!("{name}.bias"), &[width])?, eps })
    }

    /// `{name}.weight` `[outputs, inputs, kernel, kernel]`, with what follows folded in.
    pub fn conv(&mut self, name: &str, shape: ConvShape, after: After<'_>) -> Result<Conv> {
        let ConvShape { outputs, inputs, kernel, stride, pad } = shape;
        let k = kernel * kernel * inputs;
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let weight = self.filters(&weight_name, shape, |checkpoint| {
            let dims = [outputs, inputs, kernel, kernel];
            let weight = read(checkpoint, Tensor { name: &weight_name, shape: &dims })?;
            let mut rows = channels_last(&weight, outputs, inputs, kernel);
            if let After::BatchNorm(bn) = after {
                let (scale, _) = batch_norm(checkpoint, bn, outputs)?;
                rows.chunks_exact_mut(k).zip(scale).for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
            }
            Ok(rows)
        })?;
        let scaled = scaled_by(self.scale);
        let bias = match after {
            After::Nothing => None,
            After::Bias => Some(self.made_vector(&bias_name, outputs, |checkpoint| {
                read(checkpoint, Tensor { name: &bias_name, shape: &[outputs] }).map(scaled)
            })?),
            After::BatchNorm(bn) => Some(self.made_vector(&format!("{bn}.bias"), outputs, |checkpoint| {
                Ok(scaled(batch_norm(checkpoint, bn, outputs)?.1))
            })?),
        };
        Ok(Conv { weight, bias, kernel, stride, pad })
    }

    /// A 1×1 convolution, as the linear layer it is.
    pub fn conv_as_linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let conv = self.conv(name, ConvShape::one(outputs, inputs, 1), After::Bias)?;
        Ok(Linear { weight: conv.weight, bias: conv.bias })
    }

    /// `{name}.weight` `[channels, channels, stride, stride]` and its bias.
    pub fn conv_transpose(&mut self, name: &str, channels: usize, stride: usize) -> Result<ConvTranspose> {
        let taps = stride * stride;
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let weight = self.matrix(&weight_name, (taps * channels, channels), |checkpoint| {
            let shape = [channels, channels, stride, stride];
            let weight = read(checkpoint, Tensor { name: &weight_name, shape: &shape })?;
            // [input, output, tap] → rows (tap, output), columns input
            let at = |tap: usize, output: usize, input: usize| weight[(input * channels + output) * taps + tap];
            let rows = (0..taps).flat_map(|tap| (0..channels).map(move |output| (tap, output)));
            Ok(rows.flat_map(|(tap, output)| (0..channels).map(move |input| at(tap, output, input))).collect())
        })?;
        let scaled = scaled_by(self.scale);
        let bias = self.made_vector(&bias_name, taps * channels, |checkpoint| {
            Ok(scaled(read(checkpoint, Tensor { name: &bias_name, shape: &[channels] })?).repeat(taps))
        })?;
        Ok(ConvTranspose { weight, bias, stride })
    }
}

/// Of a convolution's bias.
fn scaled_by(scale: f32) -> impl Fn(Vec<f32>) -> Vec<f32> {
    move |mut bias| {
        bias.iter_mut().for_each(|b| *b *= scale);
        bias
    }
}

pub fn read(checkpoint: &Checkpoint, tensor: Tensor<'_>) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    checkpoint.read_f32(tensor.name, tensor.shape, &mut values)?;
    Ok(values)
}

/// As [`read`], refused where a value is no finite number.
pub fn finite(checkpoint: &Checkpoint, tensor: Tensor<'_>) -> Result<Vec<f32>> {
    made(checkpoint, tensor.name, f32::MAX, |checkpoint| read(checkpoint, tensor))
}

/// What `make` yields for a device that holds sizes up to `limit`.
fn made(
    checkpoint: &Checkpoint,
    name: &str,
    limit: f32,
    make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let values = make(checkpoint)?;
    match first_beyond(&values, limit) {
        None => Ok(values),
        Some((_, computed)) => Err(refused(checkpoint, name, limit, computed)),
    }
}

/// Why a weight that the tensor `name` became cannot be held: the tensor itself, or what was computed of it.
fn refused(checkpoint: &Checkpoint, name: &str, limit: f32, computed: f32) -> Error {
    let Some(info) = checkpoint.info(name) else { return checkpoint.missing(name, "of any shape") };
    let own = match read(checkpoint, Tensor { name, shape: &info.shape }) {
        Ok(values) => first_beyond(&values, limit),
        Err(error) => return error,
    };
    let (found, value) = match own {
        Some((i, value)) => (format!("{value} at {:?}", place(i, &info.shape)), value),
        None => (format!("{computed} with what follows folded in"), computed),
    };
    if !value.is_finite() {
        return damaged(checkpoint, name, "finite numbers", found);
    }
    Error::NotFinite(format!(
        "{}: tensor {}: float16, in which a GPU holds a model, ends at {limit}, and there is {found}",
        checkpoint.path().display(),
        printable(name)
    ))
}

fn damaged(checkpoint: &Checkpoint, name: &str, expected: &str, found: String) -> Error {
    Error::Tensor {
        path: checkpoint.path().to_owned(),
        name: printable(name),
        expected: expected.to_owned(),
        found,
        hint: "the file is damaged, or its training went astray: take another copy or an earlier one".to_owned(),
    }
}

/// The index in each dimension of the `i`-th element.
fn place(i: usize, shape: &[usize]) -> Vec<usize> {
    let mut step: usize = shape.iter().product();
    let index = |size: &usize| {
        step /= size;
        i / step % size
    };
    shape.iter().map(index).collect()
}

/// `[outputs, inputs, kernel, kernel]` → `[outputs, kernel, kernel, inputs]`.
fn channels_last(weight: &[f32], outputs: usize, inputs: usize, kernel: usize) -> Vec<f32> {
    let taps = kernel * kernel;
    let mut rows = vec![0.0; weight.len()];
    for output in 0..outputs {
        let (from, to) = (&weight[output * inputs * taps..], &mut rows[output * inputs * taps..][..inputs * taps]);
        for (i, value) in to.iter_mut().enumerate() {
            *value = from[i % inputs * taps + i / inputs];
        }
    }
    rows
}

/// BatchNorm in evaluation is y = scale·x + shift.
fn batch_norm(checkpoint: &Checkpoint, name: &str, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let part = |part: &str| finite(checkpoint, Tensor { name: &format!("{name}.{part}"), shape: &[channels] });
    let (weight, bias) = (part("weight")?, part("bias")?);
    let (mean, variance) = (part("running_mean")?, part("running_var")?);
    if let Some((i, v)) = variance.iter().enumerate().find(|(_, v)| **v + BN_EPS <= 0.0) {
        let name = format!("{name}.running_var");
        return Err(damaged(checkpoint, &name, &format!("variances above -{BN_EPS:e}"), format!("{v} at [{i}]")));
    }
    let scale: Vec<f32> = weight.iter().zip(variance).map(|(w, v)| w / (v + BN_EPS).sqrt()).collect();
    let shift = bias.iter().zip(mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    Ok((scale, shift))
}
