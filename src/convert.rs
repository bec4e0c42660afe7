//! `convert`: a published checkpoint becomes one safetensors file with the needed tensors and the model's
//! configuration, tensor by tensor, so that memory holds one of them at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::checkpoint::{Checkpoint, Dtype, printable};
use crate::model::config::{Config, METADATA_KEY};
use crate::model::tensors::{TensorSpec, required};
use crate::output::{Durability, write_whole};
use crate::{Error, Result};

/// What the written tensors' elements are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetDtype {
    /// Each tensor keeps its type; float64 becomes float32.
    #[default]
    Source,
    /// float16, except the batch norms' running statistics: they are divided by, and small ones would not survive.
    F16,
    F32,
}

/// Where and how to write.
#[derive(Clone, Debug)]
pub struct Options {
    pub out: PathBuf,
    pub dtype: TargetDtype,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub preset: String,
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of the written file.
    pub bytes: u64,
    /// What the model does not need, by common names (`clip_pretrained.visual.*`) with the number of tensors.
    pub dropped: Vec<(String, usize)>,
}

/// Elements that are converted and written at once.
const CHUNK: usize = 1 << 20;

/// Writes `checkpoint` as the model `config` (from [`recognise`](crate::model::recognise::recognise)) into one
/// safetensors file. `progress` gets the tensor bytes written and their total.
///
/// The file is written beside its target under a temporary name and renamed at the end; a failure leaves nothing.
///
/// # Errors
/// Before anything is written: [`Error::MissingTensor`] and [`Error::Tensor`] for a tensor that is not as the
/// model needs it, [`Error::Config`] for a configuration that contradicts itself. Then [`Error::Tensor`] for a
/// value beyond float16's range, [`Error::Output`] where the target cannot be written, and what reading gives.
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

    let (header, total) = header(&plan, json).map_err(refuse)?;
    write_whole(&options.out, Durability::Synced, |file| {
        let out = &options.out;
        file.write_all(&header).map_err(|e| Error::output(out, e))?;
        write_tensors(checkpoint, &plan, &mut Writer { file, out, done: 0, total, progress })
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
    let (mut raw, mut floats) = (Vec::new(), Vec::new());
    for (dtype, spec) in plan {
        let same = checkpoint.info(&spec.name).is_some_and(|info| info.dtype == *dtype);
        if same {
            checkpoint.read_raw(&spec.name, &mut raw)?;
            raw.chunks(4 * CHUNK).try_for_each(|chunk| writer.write(chunk))?;
        } else {
            checkpoint.read_f32(&spec.name, &spec.shape, &mut floats)?;
            for chunk in floats.chunks(CHUNK) {
                raw.clear();
                match dtype {
                    Dtype::F16 => narrow(checkpoint.path(), &spec.name, chunk, &mut raw)?,
                    _ => raw.extend(chunk.iter().flat_map(|x| x.to_le_bytes())),
                }
                writer.write(&raw)?;
            }
        }
    }
    Ok(())
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

/// The safetensors header with its length, padded so that the tensors start at a multiple of 8; and the number
/// of bytes of all tensors.
fn header(plan: &[(Dtype, TensorSpec)], config: String) -> Result<(Vec<u8>, u64), String> {
    let mut tensors = Vec::with_capacity(plan.len());
    let mut at = 0usize;
    for (dtype, spec) in plan {
        let start = at;
        at += elements(spec) as usize * (dtype.bitsize() / 8);
        let info = TensorInfo { dtype: *dtype, shape: spec.shape.clone(), data_offsets: (start, at) };
        tensors.push((spec.name.clone(), info));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), config)]);
    let header = Metadata::new(Some(metadata), tensors).map_err(|e| e.to_string())?;
    let mut json = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok((bytes, at as u64))
}

struct Writer<'a> {
    file: &'a mut dyn Write,
    out: &'a Path,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::output(self.out, e))?;
        self.done += bytes.len() as u64;
        (self.progress)(self.done, self.total);
        Ok(())
    }
}

/// float32 to float16. A finite value that would become infinite is an error: the model would be another.
fn narrow(path: &Path, name: &str, floats: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let mut halves = vec![f16::ZERO; floats.len()];
    halves.convert_from_f32_slice(floats);
    if let Some((value, _)) = floats.iter().zip(&halves).find(|(x, h)| h.is_infinite() && x.is_finite()) {
        return Err(Error::Tensor {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: format!("values within float16's range of ±{}", f16::MAX),
            found: format!("{value}"),
            hint: "convert with --dtype source or f32".to_owned(),
        });
    }
    out.extend(halves.iter().flat_map(|h| h.to_le_bytes()));
    Ok(())
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
