//! LSeg's checkpoints: what a file of [`torch_file`] holds under LSeg's own names, in whatever wrappers, with its settings and
//! errors in LSeg's words. Nothing in a file is executed, no tensor is read before it is asked for.
//!
//! ```no_run
//! # fn main() -> lseg_fast::Result<()> {
//! let checkpoint = lseg_fast::checkpoint::Checkpoint::open("demo_e200.ckpt".as_ref())?;
//! let mut weight = Vec::new();
//! checkpoint.read_f32("scratch.head1.weight", &[512, 256, 1, 1], &mut weight)?;
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use torch_file::elements::{first_not_finite, is_float};
use torch_file::{TorchFile, Value};

pub use torch_file::{Dtype, TensorInfo};

pub(crate) use torch_file::printable::shortened as printable;

use crate::file_kind::{Class, identify};
use crate::{Error, Result};

/// Bytes of a file that are read at once where all of it is.
const CHUNK: usize = 1 << 18;

/// What LSeg's own names start with, once a wrapper's name is taken off.
const ROOTS: [&str; 3] = ["clip_pretrained.", "pretrained.", "scratch."];

/// Names under which training code holds the network (Lightning's attribute, DataParallel, wrappers).
const WRAPPERS: [&str; 3] = ["net.", "module.", "model."];

/// What `torch.compile` puts into names, in front of whatever it compiled: the network or a part of it.
const COMPILED: &str = "_orig_mod";

/// A setting that the training code stored beside the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HyperParameter {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Something that is neither, by its class's name.
    Inert(String),
}

/// The stored settings that the shapes do not say: which head block, how often, with what activation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HyperParameters {
    /// Which kind of head block.
    pub arch_option: Option<HyperParameter>,
    /// How many times it is applied.
    pub block_depth: Option<HyperParameter>,
    /// Its activation.
    pub activation: Option<HyperParameter>,
}

/// An open checkpoint. Reads go by position, so one may be shared between threads.
pub struct Checkpoint {
    file: TorchFile,
    hyper_parameters: HyperParameters,
}

impl Checkpoint {
    /// Opens a file, tells its format by its contents and reads everything but the tensors' elements.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be opened; [`Error::Checkpoint`] where it is none of the formats, is
    /// damaged or cut short, or where its state dict is an object that only running its code would build.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(torch_file::Options::new().holding(is_networks).open(path)?)
    }

    /// As [`Self::open`], for a file that is in memory; errors call it `name`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self> {
        Self::of(torch_file::Options::new().holding(is_networks).open_bytes(name, bytes)?)
    }

    fn of(file: TorchFile) -> Result<Self> {
        let hyper_parameters = hyper_parameters(&file);
        Ok(Checkpoint { file: unwrapped(file)?, hyper_parameters })
    }

    /// The file's path, as it was opened.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes of memory that the file itself takes, beside what is known of it.
    pub(crate) fn held(&self) -> usize {
        self.file.held()
    }

    /// The file's format in words.
    pub fn format(&self) -> &'static str {
        self.file.format().name()
    }

    /// The names of all tensors, sorted, the network's without a wrapper's `net.`, `module.` or `model.`, and without the
    /// `_orig_mod.` of `torch.compile`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names()
    }

    /// A tensor's type and shape.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.file.info(name)
    }

    /// Checks that nobody wrote to the file since it was opened. To be called after the last reading: tensors that were read
    /// before could be of two files.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where its length or its time of change is another; [`Error::Io`].
    pub fn unchanged(&self) -> Result<()> {
        Ok(self.file.unchanged()?)
    }

    /// Checks that elements of a tensor, in its own type and from element `first` on, are all numbers.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the first that is not.
    pub(crate) fn check_finite(&self, name: &str, first: usize, bytes: &[u8]) -> Result<()> {
        let found = self.info(name).and_then(|info| first_not_finite(info.dtype, bytes));
        let Some((index, value)) = found else { return Ok(()) };
        Err(Error::Tensor {
            path: self.path().to_owned(),
            name: printable(name),
            expected: "finite values".to_owned(),
            found: format!("{value} at index {}", first + index),
            hint: "its training failed or the file is damaged; no result can come of it".to_owned(),
        })
    }

    /// Whether the file has a checksum of this tensor's storage, which reading it compares.
    pub(crate) fn is_summed(&self, name: &str) -> bool {
        self.file.is_summed(name)
    }

    /// All bytes of the file in turn, with the place of the first of them; `chunk` may change its copy.
    pub(crate) fn each_chunk(&self, mut chunk: impl FnMut(u64, &mut [u8])) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.file.size() {
            let part = (self.file.size() - at).min(buffer.len() as u64) as usize;
            self.file.read_at(at, &mut buffer[..part])?;
            chunk(at, &mut buffer[..part]);
            at += part as u64;
        }
        Ok(())
    }

    /// A safetensors file's `__metadata__`; empty for the other formats.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    /// What the file says about its head block.
    pub fn hyper_parameters(&self) -> &HyperParameters {
        &self.hyper_parameters
    }

    /// Checks that a tensor is there with this shape and with elements that are floats.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Tensor`].
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let info = self.info(name).ok_or_else(|| self.missing(name, &format!("{shape:?}")))?;
        let is_float = is_float(info.dtype);
        if is_float && info.shape == shape {
            return Ok(info);
        }
        let hint = if is_float {
            "the file belongs to another model, or its parts to different ones"
        } else {
            "save it as floats (F16, BF16, F32 or F64)"
        };
        Err(Error::Tensor {
            path: self.path().to_owned(),
            name: printable(name),
            expected: printable(&format!("float {shape:?}")),
            found: info.to_string(),
            hint: hint.to_owned(),
        })
    }

    /// Reads a tensor of float16, bfloat16, float32 or float64 as float32 into `out` (its former contents are
    /// lost), last dimension fastest.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Tensor`] where the shape is another or the elements are no floats;
    /// [`Error::Io`] or [`Error::Checkpoint`] where the file fails, was cut since it was opened, or has another checksum of
    /// these bytes (PyTorch's zip has some).
    pub fn read_f32(&self, name: &str, shape: &[usize], out: &mut Vec<f32>) -> Result<()> {
        self.check(name, shape)?;
        Ok(self.file.read_f32(name, out)?)
    }

    /// Reads a tensor's elements in their own type into `out` (its former contents are lost): little-endian,
    /// last dimension fastest.
    ///
    /// # Errors
    /// As [`Self::read_f32`]; any type and shape will do.
    pub fn read_raw(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.info(name).ok_or_else(|| self.missing(name, "of any shape"))?;
        Ok(self.file.read_raw(name, out)?)
    }

    /// The error for a tensor that is needed and not there.
    pub(crate) fn missing(&self, name: &str, expected: &str) -> Error {
        let hint = match self.file.other(name) {
            Some(class) => format!("the file has an object of class {class} there, and only tensors are read"),
            None => "the file is no LSeg checkpoint, or an incomplete one".to_owned(),
        };
        Error::MissingTensor {
            path: self.path().to_owned(),
            name: printable(name),
            expected: expected.to_owned(),
            hint,
        }
    }
}

/// What a file says about its head block.
fn hyper_parameters(file: &TorchFile) -> HyperParameters {
    let get = |name| {
        file.hyper_parameter(name).map(|value| match value {
            Value::Int(value) => HyperParameter::Number(*value),
            Value::Text(text) => HyperParameter::Text(text.clone()),
            other => HyperParameter::Inert(other.class().to_owned()),
        })
    };
    let found = HyperParameters {
        arch_option: get("arch_option"),
        block_depth: get("block_depth"),
        activation: get("activation"),
    };
    // An object that has contents, but none of these, may hide them all.
    let inert = match file.settings().get("hyper_parameters") {
        None | Some(Value::None | Value::Dict(_)) => return found,
        Some(Value::Object { entries, .. }) if entries.is_empty() || found != HyperParameters::default() => {
            return found;
        }
        Some(other) => Some(HyperParameter::Inert(other.class().to_owned())),
    };
    HyperParameters { arch_option: inert.clone(), block_depth: inert.clone(), activation: inert }
}

/// Takes the wrappers' names off the network's tensors, so that a file loads the same with and without them.
fn unwrapped(file: TorchFile) -> Result<TorchFile> {
    let names = file.names().chain(file.others().map(|(name, _)| name)).map(uncompiled);
    let wrappers: BTreeSet<String> = names.filter_map(|name| wrapper(&name).map(str::to_owned)).collect();
    let mut wrappers = wrappers.into_iter();
    let prefix = wrappers.next().unwrap_or_default();
    if let Some(second) = wrappers.next() {
        return Err(Error::checkpoint(
            file.path(),
            format!(
                "holds two networks, with names that start with \"{}\" and \"{}\"; save one of them alone",
                printable(&prefix),
                printable(&second)
            ),
        ));
    }
    let plain = |name: &str| {
        let name = uncompiled(name);
        name.strip_prefix(&prefix).unwrap_or(&name).to_owned()
    };
    Ok(file.renamed(plain)?)
}

/// A name as it was before `torch.compile`.
fn uncompiled(name: &str) -> Cow<'_, str> {
    if !name.contains(COMPILED) {
        return name.into();
    }
    let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
    let parts = path.split('.').filter(|&part| part != COMPILED && !path.is_empty());
    parts.chain([last]).collect::<Vec<_>>().join(".").into()
}

/// Whether a network's tensor has this name, in whatever wrappers.
fn is_networks(name: &str) -> bool {
    wrapper(&uncompiled(name)).is_some()
}

/// The wrapper's part of a network's name (empty where there is none), or `None` for other names.
fn wrapper(name: &str) -> Option<&str> {
    let mut rest = name;
    while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| rest.strip_prefix(wrapper)) {
        rest = inner;
    }
    ROOTS.iter().any(|root| rest.starts_with(root)).then(|| &name[..name.len() - rest.len()])
}

/// The errors of a file, in the words of who looks for LSeg in it.
impl From<torch_file::Error> for Error {
    fn from(error: torch_file::Error) -> Self {
        use torch_file::Error as E;
        let path = error.path().to_owned();
        let reason = match error {
            E::Io { action, path, source, .. } => return Error::Io { action, path, source },
            E::UnknownFormat { ref head, .. } => foreign(head).unwrap_or_else(|| error.reason()),
            E::Elsewhere { dict, first, .. } => format!(
                "is no LSeg checkpoint: its tensors are in {dict}, the first of them is {first}; names such as \
                 scratch.head1.weight are expected"
            ),
            E::SameName { name, .. } => {
                format!("holds two networks: {name} is in it compiled and not compiled; save one of them alone")
            }
            other => other.reason(),
        };
        Error::Checkpoint { path, reason }
    }
}

/// What a file that is none of the formats seems to be.
fn foreign(head: &[u8]) -> Option<String> {
    let expected = "expected a PyTorch checkpoint (.ckpt, .pt, .pth) or a safetensors file";
    if head.is_empty() {
        return Some(format!("is empty; download it again; {expected}"));
    }
    let found = identify(head).filter(|found| found.class != Class::Text)?;
    let remedy = match found.class {
        Class::LfsPointer => "fetch it with `git lfs pull`; ",
        Class::WebPage => "download it again; ",
        Class::Archive => "unpack it, or save the model again with torch.save; ",
        _ => "",
    };
    Some(format!("is {}; {remedy}{expected}", found.what))
}
