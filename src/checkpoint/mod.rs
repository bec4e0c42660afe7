//! Checkpoints from strangers, read as data: safetensors, PyTorch's zip format and the one before it. Nothing in
//! a file is executed, no tensor is read before it is asked for.
//!
//! ```no_run
//! # fn main() -> lseg_fast::Result<()> {
//! let checkpoint = lseg_fast::checkpoint::Checkpoint::open("demo_e200.ckpt".as_ref())?;
//! let mut weight = Vec::new();
//! checkpoint.read_f32("scratch.head1.weight", &[512, 256, 1, 1], &mut weight)?;
//! # Ok(())
//! # }
//! ```

pub(crate) mod finite;
mod layout;
mod pickle;
mod safetensors;
mod source;
mod torch;
mod torch_legacy;
mod torch_zip;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use ::safetensors::Dtype;

use crate::foreign::{Class, recognise};
use crate::{Error, Result};
use layout::Layout;
use source::Source;

/// The objects beside the tensors: a real file's take a few hundred KB.
const MAX_PICKLE: u64 = 64 << 20;

/// The tensors together may have this many times the file's bytes, and as many more as the constant says: some share
/// a storage, some repeat one number. A file of kilobytes must not fill the memory of who loads it.
const MAX_SHARING: u64 = 4;
const MAX_REPEATED_BYTES: u64 = 256 << 20;

/// What LSeg's own names start with, once a wrapper's name is taken off.
const ROOTS: [&str; 3] = ["clip_pretrained.", "pretrained.", "scratch."];

/// Names under which training code holds the network (Lightning's attribute, DataParallel, wrappers).
const WRAPPERS: [&str; 3] = ["net.", "module.", "model."];

/// What `torch.compile` puts into names, in front of whatever it compiled: the network or a part of it.
const COMPILED: &str = "_orig_mod";

/// A tensor's element type and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A setting that the training code stored beside the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HyperParameter {
    Number(i64),
    Text(String),
    /// Something that is neither, by its class's name.
    Inert(String),
}

/// The stored settings that the shapes do not say: which head block, how often, with what activation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HyperParameters {
    pub arch_option: Option<HyperParameter>,
    pub block_depth: Option<HyperParameter>,
    pub activation: Option<HyperParameter>,
}

/// An open checkpoint. Reads go by position, so one may be shared between threads.
pub struct Checkpoint {
    source: Source,
    format: &'static str,
    contents: Contents,
}

/// What a format's reader finds in a file.
#[derive(Default)]
struct Contents {
    tensors: BTreeMap<String, Layout>,
    /// Entries of the state dict that are no tensors, with the name of their class.
    inert: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
    hyper_parameters: HyperParameters,
}

impl Contents {
    /// As in a dict, the last entry of a name counts.
    fn add_tensor(&mut self, name: String, layout: Layout) {
        self.inert.remove(&name);
        self.tensors.insert(name, layout);
    }

    fn add_inert(&mut self, name: String, class: String) {
        self.tensors.remove(&name);
        self.inert.insert(name, class);
    }
}

impl Checkpoint {
    /// Opens a file, tells its format by its contents and reads everything but the tensors' elements.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be opened; [`Error::Checkpoint`] where it is none of the formats, is
    /// damaged or cut short, or where its state dict is an object that only running its code would build.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(Source::open(path)?)
    }

    /// As [`Self::open`], for a file whose bytes are part of the program; errors call it `name`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`].
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::read(Source::memory(name, bytes))
    }

    fn read(source: Source) -> Result<Self> {
        let head = source.bytes(0, source.len.min(512))?;
        let (format, contents) = if head.starts_with(torch_zip::MAGIC) {
            ("PyTorch zip", torch_zip::open(&source)?)
        } else if safetensors::looks_like(&head, source.len) {
            ("safetensors", safetensors::open(&source)?)
        } else if head.first() == Some(&0x80) {
            ("PyTorch before 1.6", torch_legacy::open(&source)?)
        } else {
            return Err(source.damaged(foreign(&head)));
        };
        let contents = unwrapped(contents).map_err(|reason| source.damaged(reason))?;
        if contents.tensors.is_empty() {
            let inert =
                contents.inert.iter().next().map_or(String::new(), |(name, class)| {
                    format!(" (its entry {} is of class {class})", printable(name))
                });
            return Err(source.damaged(format!("holds no tensors{inert}; a dict of tensors is expected")));
        }
        let bytes = contents.tensors.values().fold(0u64, |sum, layout| sum.saturating_add(layout.bytes()));
        if bytes > source.len.saturating_mul(MAX_SHARING).saturating_add(MAX_REPEATED_BYTES) {
            return Err(source.damaged(format!(
                "has {} bytes and describes tensors of {} MiB that repeat them; save the tensors with .contiguous()",
                source.len,
                bytes >> 20
            )));
        }
        Ok(Checkpoint { source, format, contents })
    }

    /// The file's path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The file's format in words.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// The names of all tensors, sorted, the network's without a wrapper's `net.`, `module.` or `model.`, and without the
    /// `_orig_mod.` of `torch.compile`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contents.tensors.keys().map(String::as_str)
    }

    /// A tensor's type and shape.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.contents.tensors.get(name).map(|layout| &layout.info)
    }

    /// A safetensors file's `__metadata__`; empty for the other formats.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// What the file says about its head block.
    pub fn hyper_parameters(&self) -> &HyperParameters {
        &self.contents.hyper_parameters
    }

    /// Checks that a tensor is there with this shape and with elements that are floats.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Tensor`].
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        self.float(name, shape).map(|layout| &layout.info)
    }

    /// Reads a tensor of float16, bfloat16, float32 or float64 as float32 into `out` (its former contents are
    /// lost), last dimension fastest.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Tensor`] where the shape is another or the elements are no floats;
    /// [`Error::Io`] or [`Error::Checkpoint`] where the file fails or was cut since it was opened.
    pub fn read_f32(&self, name: &str, shape: &[usize], out: &mut Vec<f32>) -> Result<()> {
        self.float(name, shape)?.read_f32(&self.source, out)
    }

    /// Reads a tensor's elements in their own type into `out` (its former contents are lost): little-endian,
    /// last dimension fastest.
    ///
    /// # Errors
    /// As [`Self::read_f32`]; any type and shape will do.
    pub fn read_raw(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        let layout = self.contents.tensors.get(name).ok_or_else(|| self.missing(name, "of any shape"))?;
        layout.read_raw(&self.source, out)
    }

    fn float(&self, name: &str, shape: &[usize]) -> Result<&Layout> {
        let layout = self.contents.tensors.get(name).ok_or_else(|| self.missing(name, &format!("{shape:?}")))?;
        let is_float = layout::is_float(layout.info.dtype);
        if is_float && layout.info.shape == shape {
            return Ok(layout);
        }
        let hint = if is_float {
            "the file belongs to another model, or its parts to different ones"
        } else {
            "save it as floats (F16, BF16, F32 or F64)"
        };
        Err(Error::Tensor {
            path: self.source.path.clone(),
            name: printable(name),
            expected: printable(&format!("float {shape:?}")),
            found: layout::describe(&layout.info),
            hint: hint.to_owned(),
        })
    }

    /// The error for a tensor that is needed and not there.
    pub(crate) fn missing(&self, name: &str, expected: &str) -> Error {
        let hint = match self.contents.inert.get(name) {
            Some(class) => format!("the file has an object of class {class} there, and only tensors are read"),
            None => "the file is no LSeg checkpoint, or an incomplete one".to_owned(),
        };
        Error::MissingTensor {
            path: self.source.path.clone(),
            name: printable(name),
            expected: expected.to_owned(),
            hint,
        }
    }
}

/// Takes the wrappers' names off the network's tensors, so that a file loads the same with and without them.
fn unwrapped(contents: Contents) -> Result<Contents, String> {
    let names = contents.tensors.keys().chain(contents.inert.keys()).map(|name| uncompiled(name));
    let wrappers: BTreeSet<String> = names.filter_map(|name| wrapper(&name).map(str::to_owned)).collect();
    let mut wrappers = wrappers.into_iter();
    let prefix = wrappers.next().unwrap_or_default();
    if let Some(second) = wrappers.next() {
        return Err(format!(
            "holds two networks, with names that start with \"{prefix}\" and \"{second}\"; save one of them alone"
        ));
    }
    let Contents { tensors, inert, metadata, hyper_parameters } = contents;
    let (tensors, inert) = (renamed(tensors, &prefix)?, renamed(inert, &prefix)?);
    if let Some(name) = inert.keys().find(|name| tensors.contains_key(*name)) {
        return Err(twice(name));
    }
    Ok(Contents { tensors, inert, metadata, hyper_parameters })
}

/// The entries under their own names, without `prefix` where they have it.
fn renamed<T>(entries: BTreeMap<String, T>, prefix: &str) -> Result<BTreeMap<String, T>, String> {
    let mut renamed = BTreeMap::new();
    for (name, entry) in entries {
        let plain = uncompiled(&name);
        let plain = plain.strip_prefix(prefix).unwrap_or(&plain);
        if renamed.insert(plain.to_owned(), entry).is_some() {
            return Err(twice(plain));
        }
    }
    Ok(renamed)
}

fn twice(name: &str) -> String {
    format!("holds two networks: {} is in it compiled and not compiled; save one of them alone", printable(name))
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

/// What a file that is none of the formats seems to be.
fn foreign(head: &[u8]) -> String {
    let expected = "expected a PyTorch checkpoint (.ckpt, .pt, .pth) or a safetensors file";
    if head.is_empty() {
        return format!("is empty; download it again; {expected}");
    }
    if let Some(found) = recognise(head).filter(|found| found.class != Class::Text) {
        let remedy = match found.class {
            Class::LfsPointer => "fetch it with `git lfs pull`; ",
            Class::WebPage => "download it again; ",
            Class::Archive => "unpack it, or save the model again with torch.save; ",
            _ => "",
        };
        return format!("is {}; {remedy}{expected}", found.what);
    }
    let start = head.iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    format!("is of no known format (it starts with bytes {start}); {expected}")
}

/// A stranger's text for a message: one line, no control characters, not endless.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", crate::printable::printable(&text[..end])),
        None => crate::printable::printable(text).into_owned(),
    }
}
