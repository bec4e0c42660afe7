//! From checkpoint tensors to device weights. Each loading function names the tensors that it takes, with their shapes, and
//! says what they become: so one walk lists them, counts what the model takes, or reads, checks, folds, uploads and forgets
//! them, one weight at a time.

use std::collections::HashSet;

use torch_file::elements::first_beyond;

use super::compose;
use crate::checkpoint::{Checkpoint, Dtype, printable};
use crate::error::{Error, Result};
use crate::memory::Need;
use crate::ops::{Linear, Matrix, Upload, Vector, Weight, conv, layer_norm, polyphase};

/// BatchNorm's epsilon, everywhere in the decoder and in ResNet.
const BN_EPS: f32 = 1e-5;

/// Makes the model's weights: from a checkpoint onto a device, or in shape alone for a list or a plan.
pub struct Loader<'a> {
    source: Option<(&'a Checkpoint, &'a mut dyn Upload)>,
    /// Of every convolution's bias: see [`super::scale`].
    scale: f32,
    /// Whether the file has float16 in all matrices.
    halves: bool,
    /// All that was named so far, as often as it was.
    tensors: Vec<TensorSpec>,
    /// All weights so far.
    weights: Vec<Weight>,
    /// Values that the host keeps, and bytes that it takes to make the weight that takes most.
    kept: usize,
    making: usize,
    /// Bytes of memory that the file takes.
    file: usize,
}

/// A tensor's name and shape as the checkpoint has it. Convolutions are [out, in, height, width], transposed ones [in, out,
/// height, width], linears [out, in]; other data layouts do not occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
}

impl TensorSpec {
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        TensorSpec { name: name.into(), shape: shape.to_vec() }
    }

    /// `{name}.weight` of this shape and `{name}.bias` of `bias` values.
    pub fn layer(name: &str, weight: &[usize], bias: usize) -> [Self; 2] {
        [Self::new(format!("{name}.weight"), weight), Self::new(format!("{name}.bias"), &[bias])]
    }

    /// Weight, bias, mean and variance.
    fn batch_norm(name: &str, channels: usize) -> [Self; 4] {
        let [weight, bias] = Self::layer(name, &[channels], channels);
        let statistic = |part: &str| Self::new(format!("{name}.{part}"), &[channels]);
        [weight, bias, statistic("running_mean"), statistic("running_var")]
    }
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
        Loader { halves: matrices.all(|info| info.dtype == Dtype::F16), file: checkpoint.held(), ..Loader::list() }
    }

    /// As [`Loader::shapes`], without a file: for the tensors' names.
    pub fn list() -> Self {
        let (tensors, weights) = (Vec::new(), Vec::new());
        Loader { source: None, scale: 1.0, halves: false, tensors, weights, kept: 0, making: 0, file: 0 }
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
        Need { device: bytes, host: 4 * self.kept as u64, transient: (self.making + self.file) as u64 }
    }

    /// All tensors that were named, each once, where it was needed first.
    pub fn into_tensors(self) -> Vec<TensorSpec> {
        let mut seen = HashSet::new();
        self.tensors.into_iter().filter(|tensor| seen.insert(tensor.name.clone())).collect()
    }

    /// What a model's file has and nothing is computed with: what `load` names is listed, and never read.
    pub fn unused<T>(&mut self, load: impl FnOnce(&mut Loader<'_>) -> Result<T>) -> Result<()> {
        let mut list = Loader::list();
        load(&mut list)?;
        self.tensors.append(&mut list.tensors);
        Ok(())
    }

    /// A weight is to come, which is read as float32 and then rearranged or narrowed.
    fn announce(&mut self, weight: Weight, sources: &[TensorSpec]) {
        let (n, k) = weight.size();
        self.making = self.making.max(8 * n * k);
        self.weights.push(weight);
        self.tensors.extend_from_slice(sources);
    }

    /// A tensor's values that the host keeps, or as many made of them.
    pub fn host(&mut self, tensor: &TensorSpec) -> Result<Vec<f32>> {
        self.kept += tensor.shape.iter().product::<usize>();
        self.values(tensor)
    }

    /// A tensor's values, which are looked at as a weight later; empty in shape alone.
    pub fn values(&mut self, tensor: &TensorSpec) -> Result<Vec<f32>> {
        let values = tensor.shape.iter().product::<usize>();
        // The head makes one matrix of it, in float64.
        self.making = self.making.max(12 * values);
        self.tensors.push(tensor.clone());
        match &self.source {
            Some((checkpoint, _)) => read(checkpoint, tensor),
            None => Ok(Vec::new()),
        }
    }

    /// A matrix that `make` makes of the sources' values. An error about what was made names the first of them.
    pub fn matrix<const N: usize>(
        &mut self,
        (n, k): (usize, usize),
        sources: [TensorSpec; N],
        make: impl FnOnce([Vec<f32>; N]) -> Vec<f32>,
    ) -> Result<Matrix> {
        self.announce(Weight::Matrix { n, k, halves: self.halves }, &sources);
        match &mut self.source {
            Some((checkpoint, device)) => {
                device.matrix(n, k, &made(checkpoint, &sources, device.largest_weight(), make)?)
            }
            None => Ok(Matrix { index: 0, n, k }),
        }
    }

    /// As [`Loader::matrix`]: the weights of a convolution, `[outputs, kernel·kernel·inputs]`.
    fn filters<const N: usize>(
        &mut self,
        shape: conv::Shape,
        sources: [TensorSpec; N],
        make: impl FnOnce([Vec<f32>; N]) -> Vec<f32>,
    ) -> Result<Matrix> {
        let weight = Weight::Filters(shape);
        self.announce(weight, &sources);
        let (n, k) = weight.size();
        match &mut self.source {
            Some((checkpoint, device)) => {
                device.filters(shape, &made(checkpoint, &sources, device.largest_weight(), make)?)
            }
            None => Ok(Matrix { index: 0, n, k }),
        }
    }

    /// As [`Loader::matrix`]: a vector, or a table that is kept as one.
    pub fn made_vector<const N: usize>(
        &mut self,
        len: usize,
        sources: [TensorSpec; N],
        make: impl FnOnce([Vec<f32>; N]) -> Vec<f32>,
    ) -> Result<Vector> {
        self.announce(Weight::Vector(len), &sources);
        match &mut self.source {
            Some((checkpoint, device)) => device.vector(&made(checkpoint, &sources, f32::MAX, make)?),
            None => Ok(Vector { index: 0, len }),
        }
    }

    /// A vector as the file has it.
    pub fn vector(&mut self, tensor: TensorSpec) -> Result<Vector> {
        self.made_vector(tensor.shape.iter().product(), [tensor], |[values]| values)
    }

    /// A matrix as the file has it.
    pub fn table(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix> {
        self.matrix((n, k), [TensorSpec::new(name, &[n, k])], |[values]| values)
    }

    /// `{name}.weight` `[n, k]` and `{name}.bias` `[n]`.
    pub fn linear(&mut self, name: &str, n: usize, k: usize) -> Result<Linear> {
        self.named_linear(&format!("{name}.weight"), &format!("{name}.bias"), n, k)
    }

    pub fn named_linear(&mut self, weight: &str, bias: &str, n: usize, k: usize) -> Result<Linear> {
        let weight = self.table(weight, n, k)?;
        Ok(Linear { weight, bias: Some(self.vector(TensorSpec::new(bias, &[n]))?) })
    }

    /// A table `name` `[k, n]` that multiplies from the right (x·T), without bias.
    pub fn projection(&mut self, name: &str, k: usize, n: usize) -> Result<Linear> {
        let weight = self.matrix((n, k), [TensorSpec::new(name, &[k, n])], |[table]| {
            (0..n * k).map(|i| table[i % k * n + i / k]).collect()
        })?;
        Ok(Linear { weight, bias: None })
    }

    pub fn layer_norm(&mut self, name: &str, width: usize, eps: f32) -> Result<layer_norm::Weights> {
        let [weight, bias] = TensorSpec::layer(name, &[width], width);
        Ok(layer_norm::Weights { weight: self.vector(weight)?, bias: self.vector(bias)?, eps })
    }

    /// `{name}.weight` `[outputs, inputs, kernel, kernel]`, with what follows folded in.
    pub fn conv(&mut self, name: &str, shape: conv::Shape, after: After<'_>) -> Result<conv::Weights> {
        let conv::Shape { outputs, inputs, kernel, stride, pad } = shape;
        let scaled = scaled_by(self.scale);
        let [filters, own_bias] = TensorSpec::layer(name, &[outputs, inputs, kernel, kernel], outputs);
        let (weight, bias) = match after {
            After::Nothing => (self.filters(shape, [filters], |[filters]| channels_last(&filters, shape))?, None),
            After::Bias => (
                self.filters(shape, [filters], |[filters]| channels_last(&filters, shape))?,
                Some(self.made_vector(outputs, [own_bias], |[bias]| scaled(bias))?),
            ),
            After::BatchNorm(norm) => {
                let norm = TensorSpec::batch_norm(norm, outputs);
                self.check_batch_norm(&norm)?;
                let [weight, bias, mean, variance] = norm;
                let sources = [filters, weight.clone(), bias.clone(), mean.clone(), variance.clone()];
                let folded = self.filters(shape, sources, |[filters, weight, bias, mean, variance]| {
                    let (scale, _) = batch_norm(&weight, &bias, &mean, &variance);
                    let mut rows = channels_last(&filters, shape);
                    let each = rows.chunks_exact_mut(kernel * kernel * inputs).zip(scale);
                    each.for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
                    rows
                })?;
                let shift =
                    self.made_vector(outputs, [bias, weight, mean, variance], |[bias, weight, mean, variance]| {
                        scaled(batch_norm(&weight, &bias, &mean, &variance).1)
                    })?;
                (folded, Some(shift))
            }
        };
        Ok(conv::Weights { weight, bias, kernel, stride, pad })
    }

    /// A 1×1 convolution, as the linear layer it is.
    pub fn conv_as_linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let conv = self.conv(name, conv::Shape::one(outputs, inputs, 1), After::Bias)?;
        Ok(Linear { weight: conv.weight, bias: conv.bias })
    }

    /// A 1×1 convolution `{linear}` from `inputs` channels and the 3×3 one `{name}` behind it, as one. `shape` is that of the latter.
    pub fn conv_behind_linear(
        &mut self,
        name: &str,
        has_bias: bool,
        shape: conv::Shape,
        linear: &str,
        inputs: usize,
    ) -> Result<conv::Weights> {
        let conv::Shape { outputs, inputs: middle, kernel, stride, pad } = shape;
        let [filters, own_bias] = TensorSpec::layer(name, &[outputs, middle, kernel, kernel], outputs);
        let [weight, bias] = TensorSpec::layer(linear, &[middle, inputs, 1, 1], middle);
        let both = conv::Shape { inputs, ..shape };
        let mut sources = vec![filters, weight, bias];
        sources.extend(has_bias.then_some(own_bias));
        let (weight, bias) = self.composed(Weight::Filters(both), conv::BORDERS * outputs, &sources, |read| {
            let filters = channels_last(&read[0], shape);
            let composed = compose::conv_behind_linear(&filters, &read[1], both, middle);
            (composed, compose::conv_borders(&filters, &read[2], read.get(3).map(Vec::as_slice)))
        })?;
        Ok(conv::Weights { weight, bias: Some(bias), kernel, stride, pad })
    }

    /// A transposed convolution `{transposed}` of `channels` whose stride is its kernel and the 3×3 one `{name}` without bias
    /// behind it, as one.
    pub fn polyphase(&mut self, name: &str, transposed: &str, shape: polyphase::Shape) -> Result<polyphase::Weights> {
        let polyphase::Shape { outputs, inputs: channels, stride } = shape;
        let plain = conv::Shape::three(outputs, channels, 1);
        let filters = TensorSpec::new(format!("{name}.weight"), &[outputs, channels, 3, 3]);
        let [weight, bias] = TensorSpec::layer(transposed, &[channels, channels, stride, stride], channels);
        let biases = shape.phases() * polyphase::BORDERS * outputs;
        let (weight, bias) = self.composed(Weight::Phases(shape), biases, &[filters, weight, bias], |read| {
            let filters = channels_last(&read[0], plain);
            let composed = compose::polyphase(&filters, &read[1], shape, channels);
            (composed, compose::polyphase_borders(&filters, &read[2], shape))
        })?;
        Ok(polyphase::Weights { weight, bias, stride })
    }

    /// A weight that is multiplied out of the first two sources, and so many biases of them all, on all threads.
    fn composed(
        &mut self,
        weight: Weight,
        biases: usize,
        sources: &[TensorSpec],
        compose: impl Fn(&[Vec<f32>]) -> (Vec<f32>, Vec<f64>) + Sync,
    ) -> Result<(Matrix, Vector)> {
        self.announce(weight, sources);
        self.announce(Weight::Vector(biases), &[]);
        let (n, k) = weight.size();
        // The sources, twice in another order, and in float64; what becomes of them.
        let values: usize = sources.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        self.making = self.making.max(16 * values + 12 * n * k);
        let Some((checkpoint, device)) = &mut self.source else {
            return Ok((Matrix { index: 0, n, k }, Vector { index: 0, len: biases }));
        };
        let read: Vec<Vec<f32>> = sources.iter().map(|tensor| read(checkpoint, tensor)).collect::<Result<_>>()?;
        let (mut values, mut bias) = Default::default();
        device.in_parallel(&mut || (values, bias) = compose(&read))?;
        let (bias, limit) = (scaled(bias, self.scale), device.largest_weight());
        if let Some((_, beyond)) = first_beyond(&values, limit).or_else(|| first_beyond(&bias, f32::MAX)) {
            return Err(refused(checkpoint, sources, limit, beyond));
        }
        let matrix = match weight {
            Weight::Filters(shape) => device.filters(shape, &values),
            Weight::Phases(shape) => device.phases(shape, &values),
            Weight::Matrix { .. } | Weight::Vector(_) => device.matrix(n, k, &values),
        }?;
        Ok((matrix, device.vector(&bias)?))
    }

    /// Refuses a BatchNorm that cannot be folded. Each of its tensors is looked at by itself: an infinite variance would hide
    /// in a weight of zeros.
    fn check_batch_norm(&self, norm: &[TensorSpec; 4]) -> Result<()> {
        let Some((checkpoint, _)) = &self.source else { return Ok(()) };
        let finite = |tensor| made(checkpoint, std::array::from_ref(tensor), f32::MAX, |[values]| values);
        let [affine @ .., variance] = norm;
        affine.iter().try_for_each(|tensor| finite(tensor).map(drop))?;
        match finite(variance)?.iter().enumerate().find(|(_, v)| **v + BN_EPS <= 0.0) {
            None => Ok(()),
            Some((i, v)) => {
                let expected = format!("variances above -{BN_EPS:e}");
                Err(damaged(checkpoint, &variance.name, &expected, format!("{v} at [{i}]")))
            }
        }
    }
}

fn scaled(values: Vec<f64>, scale: f32) -> Vec<f32> {
    values.into_iter().map(|value| (value * f64::from(scale)) as f32).collect()
}

/// Of a convolution's bias.
fn scaled_by(scale: f32) -> impl Fn(Vec<f32>) -> Vec<f32> {
    move |mut bias| {
        bias.iter_mut().for_each(|b| *b *= scale);
        bias
    }
}

fn read(checkpoint: &Checkpoint, tensor: &TensorSpec) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    checkpoint.read_f32(&tensor.name, &tensor.shape, &mut values)?;
    Ok(values)
}

/// What `make` makes of the sources, for a device that holds sizes up to `limit`.
fn made<const N: usize>(
    checkpoint: &Checkpoint,
    sources: &[TensorSpec; N],
    limit: f32,
    make: impl FnOnce([Vec<f32>; N]) -> Vec<f32>,
) -> Result<Vec<f32>> {
    let read: Vec<Vec<f32>> = sources.iter().map(|tensor| read(checkpoint, tensor)).collect::<Result<_>>()?;
    let values = make(read.try_into().unwrap_or_else(|_| unreachable!("each source was read")));
    match first_beyond(&values, limit) {
        None => Ok(values),
        Some((_, computed)) => Err(refused(checkpoint, sources, limit, computed)),
    }
}

/// Why what these sources became cannot be held: one of them itself, or what was computed of them. Those behind the first are
/// float32 on every device.
fn refused(checkpoint: &Checkpoint, sources: &[TensorSpec], limit: f32, computed: f32) -> Error {
    for (tensor, limit) in sources.iter().zip([limit].into_iter().chain(std::iter::repeat(f32::MAX))) {
        match read(checkpoint, tensor).map(|values| first_beyond(&values, limit)) {
            Ok(None) => {}
            Ok(Some((i, value))) => {
                let found = format!("{value} at {:?}", place(i, &tensor.shape));
                return beyond(checkpoint, &tensor.name, limit, value, found);
            }
            Err(error) => return error,
        }
    }
    beyond(checkpoint, &sources[0].name, limit, computed, format!("{computed} with what follows folded in"))
}

fn beyond(checkpoint: &Checkpoint, name: &str, limit: f32, value: f32, found: String) -> Error {
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
fn channels_last(weight: &[f32], conv::Shape { outputs, inputs, kernel, .. }: conv::Shape) -> Vec<f32> {
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
fn batch_norm(weight: &[f32], bias: &[f32], mean: &[f32], variance: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale: Vec<f32> = weight.iter().zip(variance).map(|(w, v)| w / (v + BN_EPS).sqrt()).collect();
    let shift = bias.iter().zip(mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    (scale, shift)
}
