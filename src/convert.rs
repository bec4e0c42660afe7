//! `convert`: a published checkpoint becomes one safetensors file with the needed tensors and the model's
//! configuration, tensor by tensor, so that memory holds one of them at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use flate2::Crc;
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::TensorInfo;
use serde::{Serialize, Serializer};
use torch_file::elements::{self, first_not_finite, to_f32};

use crate::atomic_file::{Durability, WriteSeek, write_whole};
use crate::checkpoint::{Checkpoint, Dtype, printable};
use crate::checksum;
use crate::model::config::Config;
use crate::model::required;
use crate::model::weights::TensorSpec;
use crate::safetensors_header;
use crate::{Error, Result};

/// What the written tensors' elements are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetDtype {
    /// Each tensor keeps its type; float64 becomes float32.
    #[default]
    Source,
    /// float16, except the batch norms' running statistics: they are divided by, and small ones would not survive.
    F16,
    /// float32.
    F32,
}

/// Where and how to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file to write.
    pub out: PathBuf,
    /// Element type of the weights in it.
    pub dtype: TargetDtype,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The preset's name, or `custom`.
    pub preset: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of the written file.
    pub bytes: u64,
    /// What the model does not need, by common names (`clip_pretrained.visual.*`) with the number of tensors.
    pub dropped: Vec<(String, usize)>,
}

/// Elements that are looked at, converted, summed and written at once, while they are in the processor's cache.
const CHUNK: usize = 1 << 18;

/// Writes `checkpoint` as the model `config` (from [`detect`](crate::model::detect::detect)) into one
/// safetensors file. `progress` gets the tensor bytes written and their total.
///
/// The file is written beside its target under a temporary name and renamed at the end; a failure leaves nothing. It holds
/// a checksum ([`crate::checksum`]) of itself; those of a PyTorch zip are compared while it is read.
///
/// # Errors
/// Before anything is written: [`Error::MissingTensor`] and [`Error::Tensor`] for a tensor that is not as the
/// model needs it, [`Error::Config`] for a configuration that contradicts itself. Then [`Error::Tensor`] for a
/// value that is no number or is beyond the range of the type it becomes, [`Error::Output`] where the target cannot be
/// written, [`Error::Checkpoint`] where the checkpoint is written to meanwhile, and what reading gives.
pub fn convert(
    checkpoint: &Checkpoint,
    config: &Config,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let refuse = |reason| Error::config(checkpoint.path(), reason);
    let json = config.to_json().map_err(refuse)?;
    let specs = required(config);
    let mut plan = Vec::with_capacity(specs.len());
    for spec in specs {
        let source = checkpoint.check(&spec.name, &spec.shape)?.dtype;
        plan.push((target(options.dtype, source, &spec.name), spec));
    }
    // Wide elements first: every tensor then starts at a multiple of its element's size.
    plan.sort_by_key(|(dtype, _)| std::cmp::Reverse(*dtype));

    let (header, total) = header(&plan, &json).map_err(refuse)?;
    write_whole(&options.out, Durability::Synced, |file| {
        let mut writer = Writer { file, out: &options.out, sum: Crc::new(), done: 0, total, progress };
        writer.write(&header)?;
        write_tensors(checkpoint, &plan, &mut writer)?;
        checkpoint.unchanged()?;
        writer.write_checksum()
    })?;
    Ok(Summary {
        preset: config.preset.clone(),
        tensors: plan.len(),
        parameters: plan.iter().map(|(_, spec)| elements(spec)).sum(),
        bytes: header.len() as u64 + total,
        dropped: dropped(checkpoint, &plan),
    })
}

fn write_tensors(checkpoint: &Checkpoint, plan: &[(Dtype, TensorSpec)], writer: &mut Writer<'_>) -> Result<()> {
    let (mut raw, mut changing) = (Vec::new(), Changing::default());
    for (dtype, spec) in plan {
        let source = checkpoint.check(&spec.name, &spec.shape)?.dtype;
        checkpoint.read_raw(&spec.name, &mut raw)?;
        for (i, chunk) in raw.chunks(CHUNK * elements::size(source)).enumerate() {
            checkpoint.check_finite(&spec.name, i * CHUNK, chunk)?;
            if source == *dtype {
                writer.write_data(chunk)?;
                continue;
            }
            let changed = changing.change(source, *dtype, chunk);
            if let Some((index, _)) = first_not_finite(*dtype, changed) {
                let size = elements::size(source);
                let value = elements::to_f64(source, &chunk[index * size..][..size]);
                return Err(beyond(checkpoint.path(), &spec.name, *dtype, value));
            }
            writer.write_data(changed)?;
        }
    }
    Ok(())
}

/// Elements on their way from one type to another, in buffers that serve again and again.
#[derive(Default)]
struct Changing {
    floats: Vec<f32>,
    halves: Vec<f16>,
    bytes: Vec<u8>,
}

impl Changing {
    /// Elements of type `from` as elements of type `to`, float16 or float32.
    fn change(&mut self, from: Dtype, to: Dtype, bytes: &[u8]) -> &[u8] {
        let count = bytes.len() / elements::size(from);
        self.floats.resize(count, 0.0);
        self.bytes.resize(count * elements::size(to), 0);
        to_f32(from, bytes, &mut self.floats);
        if to == Dtype::F16 {
            self.halves.resize(count, f16::ZERO);
            self.halves.convert_from_f32_slice(&self.floats);
            self.bytes.as_chunks_mut().0.iter_mut().zip(&self.halves).for_each(|(to, x)| *to = x.to_le_bytes());
        } else {
            self.bytes.as_chunks_mut().0.iter_mut().zip(&self.floats).for_each(|(to, x)| *to = x.to_le_bytes());
        }
        &self.bytes
    }
}

/// The error for a number that would become infinite: the model would be another.
fn beyond(path: &Path, name: &str, dtype: Dtype, value: f64) -> Error {
    let (range, hint) = if dtype == Dtype::F16 {
        (format!("float16's range of ±{}", f16::MAX), "convert with --dtype source or f32")
    } else {
        (format!("float32's range of ±{:?}", f32::MAX), "no type that is computed with can hold it")
    };
    Error::Tensor {
        path: path.to_owned(),
        name: name.to_owned(),
        expected: format!("values within {range}"),
        found: format!("{value:?}"),
        hint: hint.to_owned(),
    }
}

fn target(wanted: TargetDtype, source: Dtype, name: &str) -> Dtype {
    let statistic = name.ends_with(".running_mean") || name.ends_with(".running_var");
    match wanted {
        TargetDtype::Source if source == Dtype::F64 => Dtype::F32,
        TargetDtype::Source => source,
        TargetDtype::F16 if statistic => Dtype::F32,
        TargetDtype::F16 => Dtype::F16,
        TargetDtype::F32 => Dtype::F32,
    }
}

/// The checked shapes are in the file, so that their products fit.
fn elements(spec: &TensorSpec) -> u64 {
    spec.shape.iter().map(|&d| d as u64).product()
}

/// A safetensors header. Its fields come in this order: the checksum has its place in the file.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: Stated<'a>,
    #[serde(flatten)]
    tensors: Tensors,
}

/// What the file says of itself.
#[derive(Serialize)]
struct Stated<'a> {
    #[serde(rename = "lseg-fast.checksum")]
    checksum: &'a str,
    #[serde(rename = "lseg-fast.config")]
    config: &'a str,
}

/// In the order of their bytes.
struct Tensors(Vec<(String, TensorInfo)>);

impl Serialize for Tensors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, info)| (name, info)))
    }
}

/// The safetensors header with its length, padded so that the tensors start at a multiple of 8; and the number
/// of bytes of all tensors.
fn header(plan: &[(Dtype, TensorSpec)], config: &str) -> Result<(Vec<u8>, u64), String> {
    let mut tensors = Vec::with_capacity(plan.len());
    let mut at = 0usize;
    for (dtype, spec) in plan {
        let start = at;
        at += elements(spec) as usize * elements::size(*dtype);
        let info = TensorInfo { dtype: *dtype, shape: spec.shape.clone(), data_offsets: (start, at) };
        tensors.push((spec.name.clone(), info));
    }
    let header = Header { metadata: Stated { checksum: checksum::ZEROS, config }, tensors: Tensors(tensors) };
    let json = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    Ok((safetensors_header::framed(json), at as u64))
}

struct Writer<'a> {
    file: &'a mut dyn WriteSeek,
    out: &'a Path,
    /// Of all that is written.
    sum: Crc,
    /// Bytes of tensors.
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sum.update(bytes);
        self.file.write_all(bytes).map_err(|e| Error::output(self.out, e))
    }

    fn write_data(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)?;
        self.done += bytes.len() as u64;
        (self.progress)(self.done, self.total);
        Ok(())
    }

    /// Puts the sum into its place.
    fn write_checksum(self) -> Result<()> {
        let place = self.file.seek(SeekFrom::Start(checksum::PLACE as u64));
        let written = place.and_then(|_| self.file.write_all(checksum::digits(&self.sum).as_bytes()));
        written.map_err(|e| Error::output(self.out, e))
    }
}

/// The file's tensors that the model does not need, each under the shortest part of its name that no needed
/// tensor shares.
fn dropped(checkpoint: &Checkpoint, plan: &[(Dtype, TensorSpec)]) -> Vec<(String, usize)> {
    let kept: BTreeSet<&str> = plan.iter().map(|(_, spec)| spec.name.as_str()).collect();
    let shared: BTreeSet<&str> =
        kept.iter().flat_map(|name| name.match_indices('.').map(|(i, _)| &name[..=i])).collect();
    let mut groups = BTreeMap::new();
    for name in checkpoint.names().filter(|name| !kept.contains(name)) {
        let own = name.match_indices('.').map(|(i, _)| &name[..=i]).find(|part| !shared.contains(part));
        let group = match own {
            Some(part) => format!("{part}*"),
            // PyTorch counts the batches that each batch norm saw.
            None if name.ends_with(".num_batches_tracked") => "*.num_batches_tracked".to_owned(),
            None => name.to_owned(),
        };
        *groups.entry(printable(&group)).or_insert(0) += 1;
    }
    groups.into_iter().collect()
}
