//! From checkpoint tensors to device weights: each is read, checked, folded, uploaded and forgotten, one at a time.

use crate::checkpoint::{Checkpoint, Dtype};
pub use crate::device::ConvShape;
use crate::device::{Conv, ConvTranspose, LayerNorm, Linear, Matrix, Upload, Vector, Weight};
use crate::error::Result;
use crate::memory::Need;

/// BatchNorm's epsilon, everywhere in the decoder and in ResNet.
const BN_EPS: f32 = 1e-5;

/// Makes the model's weights: from a checkpoint onto a device, or in shape alone for a plan.
pub struct Loader<'a> {
    source: Option<(&'a Checkpoint, &'a mut dyn Upload)>,
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
        Loader { source: None, halves, weights: Vec::new(), kept: 0, making: 0 }
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

    /// A tensor's values for the host; empty in shape alone.
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

    /// A matrix that `make` reads and rearranges.
    pub fn matrix(&mut self, n: usize, k: usize, make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>) -> Result<Matrix> {
        self.announce(Weight::Matrix { n, k, halves: self.halves });
        match &mut self.source {
            Some((checkpoint, device)) => device.matrix(n, k, &make(checkpoint)?),
            None => Ok(Matrix { index: 0, n, k }),
        }
    }

    /// The weights of a convolution, `[outputs, kernel·kernel·inputs]`, that `make` reads and rearranges.
    fn filters(&mut self, shape: ConvShape, make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>) -> Result<Matrix> {
        let (n, k) = (shape.outputs, shape.kernel * shape.kernel * shape.inputs);
        self.announce(Weight::Filters(shape));
        match &mut self.source {
            Some((checkpoint, device)) => device.filters(shape, &make(checkpoint)?),
            None => Ok(Matrix { index: 0, n, k }),
        }
    }

    /// A vector or table that `make` reads and rearranges.
    pub fn made_vector(&mut self, len: usize, make: impl FnOnce(&Checkpoint) -> Result<Vec<f32>>) -> Result<Vector> {
        self.announce(Weight::Vector(len));
        match &mut self.source {
            Some((checkpoint, device)) => device.vector(&make(checkpoint)?),
            None => Ok(Vector { index: 0, len }),
        }
    }

    pub fn vector(&mut self, name: &str, shape: &[usize]) -> Result<Vector> {
        self.made_vector(shape.iter().product(), |checkpoint| read(checkpoint, Tensor { name, shape }))
    }

    /// A matrix as the file has it.
    pub fn table(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix> {
        self.matrix(n, k, |checkpoint| read(checkpoint, Tensor { name, shape: &[n, k] }))
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
        let weight = self.matrix(n, k, |checkpoint| {
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
        let weight = self.filters(shape, |checkpoint| {
            let dims = [outputs, inputs, kernel, kernel];
            let weight = read(checkpoint, Tensor { name: &format!("{name}.weight"), shape: &dims })?;
            let mut rows = channels_last(&weight, outputs, inputs, kernel);
            if let After::BatchNorm(bn) = after {
                let (scale, _) = batch_norm(checkpoint, bn, outputs)?;
                rows.chunks_exact_mut(k).zip(scale).for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
            }
            Ok(rows)
        })?;
        let bias = match after {
            After::Nothing => None,
            After::Bias => Some(self.vector(&format!("{name}.bias"), &[outputs])?),
            After::BatchNorm(bn) => {
                Some(self.made_vector(outputs, |checkpoint| Ok(batch_norm(checkpoint, bn, outputs)?.1))?)
            }
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
        let weight = self.matrix(taps * channels, channels, |checkpoint| {
            let shape = [channels, channels, stride, stride];
            let weight = read(checkpoint, Tensor { name: &format!("{name}.weight"), shape: &shape })?;
            // [input, output, tap] → rows (tap, output), columns input
            let at = |tap: usize, output: usize, input: usize| weight[(input * channels + output) * taps + tap];
            let rows = (0..taps).flat_map(|tap| (0..channels).map(move |output| (tap, output)));
            Ok(rows.flat_map(|(tap, output)| (0..channels).map(move |input| at(tap, output, input))).collect())
        })?;
        let bias = self.made_vector(taps * channels, |checkpoint| {
            Ok(read(checkpoint, Tensor { name: &format!("{name}.bias"), shape: &[channels] })?.repeat(taps))
        })?;
        Ok(ConvTranspose { weight, bias, stride })
    }
}

pub fn read(checkpoint: &Checkpoint, tensor: Tensor<'_>) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    checkpoint.read_f32(tensor.name, tensor.shape, &mut values)?;
    Ok(values)
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
    let part = |part: &str| read(checkpoint, Tensor { name: &format!("{name}.{part}"), shape: &[channels] });
    let (weight, bias) = (part("weight")?, part("bias")?);
    let (mean, variance) = (part("running_mean")?, part("running_var")?);
    let scale: Vec<f32> = weight.iter().zip(variance).map(|(w, v)| w / (v + BN_EPS).sqrt()).collect();
    let shift = bias.iter().zip(mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    Ok((scale, shift))
}
