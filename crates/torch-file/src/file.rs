//! An open file: what is in it, and the reading of its tensors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::elements::is_float;
use crate::layout::Layout;
use crate::limits::{MAX_REPEATED_BYTES, MAX_SHARING};
use crate::printable::shortened;
use crate::source::Source;
use crate::{Dtype, Error, Options, Result, Value, elements, legacy, safetensors, zip};

/// Bytes of a file's start by which its format is told.
const HEAD: u64 = 512;

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// PyTorch's since 1.6: a zip of a pickle and of the storages.
    TorchZip,
    /// PyTorch's before 1.6: five pickles, then the storages.
    TorchLegacy,
    /// A JSON header, then the tensors.
    Safetensors,
}

impl Format {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Format::TorchZip => "PyTorch zip",
            Format::TorchLegacy => "PyTorch before 1.6",
            Format::Safetensors => "safetensors",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor's element type and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its sizes, outermost first; none for a single number.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of all elements: what [`TorchFile::read_raw`] fills.
    pub fn bytes(&self) -> u64 {
        (self.count() as u64).saturating_mul(elements::size(self.dtype) as u64)
    }
}

/// `DTYPE [shape]`: `F32 [64, 3, 7, 7]`.
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&shortened(&format!("{} {:?}", self.dtype, self.shape)))
    }
}

/// An open checkpoint. Reads go by position, so one may be shared between threads.
pub struct TorchFile {
    source: Source,
    format: Format,
    contents: Contents,
}

/// What a format's reader finds in a file.
#[derive(Default)]
pub(crate) struct Contents {
    pub tensors: BTreeMap<String, Layout>,
    /// Entries of the state dict that are no tensors, with the name of their class.
    pub others: BTreeMap<String, Arc<str>>,
    pub metadata: BTreeMap<String, String>,
    pub settings: BTreeMap<String, Value>,
}

impl Contents {
    /// As in a dict, the last entry of a name counts.
    pub fn add_tensor(&mut self, name: String, layout: Layout) {
        self.others.remove(&name);
        self.tensors.insert(name, layout);
    }

    pub fn add_other(&mut self, name: String, class: Arc<str>) {
        self.tensors.remove(&name);
        self.others.insert(name, class);
    }
}

impl TorchFile {
    /// Opens a file, tells its format by its contents and reads everything but the tensors' elements.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be opened; [`Error::UnknownFormat`]; [`Error::Refused`] where it is damaged or cut
    /// short, goes beyond a limit, holds no tensors or several state dicts, or where its state dict is an object that only
    /// running its code would build.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// As [`Self::open`], for a file in memory: `Vec<u8>`, or bytes that are part of the program. Errors call it `name`.
    ///
    /// ```
    /// # fn main() -> torch_file::Result<()> {
    /// let header = br#"{"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    /// let bytes = [&(header.len() as u64).to_le_bytes(), &header[..], &7i64.to_le_bytes()].concat();
    /// let file = torch_file::TorchFile::from_bytes("seven", bytes)?;
    /// let mut raw = Vec::new();
    /// file.read_raw("x", &mut raw)?;
    /// assert_eq!(raw, 7i64.to_le_bytes());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Options::new().open_bytes(name, bytes)
    }

    pub(crate) fn read(source: Source, options: &Options) -> Result<Self> {
        let head = source.bytes(0, source.len.min(HEAD))?;
        let (format, contents) = if head.starts_with(zip::MAGIC) {
            (Format::TorchZip, zip::open(&source, options)?)
        } else if safetensors::looks_like(&head, source.len) {
            if !options.keys.is_empty() {
                let keys = shortened(&options.keys.join("."));
                return Err(source.damaged(format!(
                    "is a safetensors file, which has no dicts such as {keys}; open it without the keys of one"
                )));
            }
            (Format::Safetensors, safetensors::open(&source)?)
        } else if head.first() == Some(&0x80) {
            (Format::TorchLegacy, legacy::open(&source, options)?)
        } else {
            return Err(Error::UnknownFormat { path: source.path, head });
        };
        if contents.tensors.is_empty() {
            let other =
                contents.others.iter().next().map_or(String::new(), |(name, class)| {
                    format!(" (its entry {} is of class {class})", shortened(name))
                });
            return Err(source.damaged(format!("holds no tensors{other}; a dict of tensors is expected")));
        }
        let bytes = contents.tensors.values().map(|layout| layout.info.bytes().max(layout.span()));
        let bytes = bytes.fold(0, u64::saturating_add);
        if bytes > source.len.saturating_mul(MAX_SHARING).saturating_add(MAX_REPEATED_BYTES) {
            return Err(source.damaged(format!(
                "has {} bytes and describes tensors that go through {} MiB of them; save the tensors with .contiguous()",
                source.len,
                bytes >> 20
            )));
        }
        Ok(TorchFile { source, format, contents })
    }

    /// The same file with other names for its entries: without what a wrapper put before them, say.
    ///
    /// ```no_run
    /// # fn main() -> torch_file::Result<()> {
    /// let file = torch_file::TorchFile::open("data_parallel.pt")?;
    /// let file = file.renamed(|name| name.strip_prefix("module.").unwrap_or(name).to_owned())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::SameName`] where two entries would have one name.
    pub fn renamed(self, mut new_name: impl FnMut(&str) -> String) -> Result<Self> {
        let TorchFile { source, format, contents } = self;
        let mut renamed = Contents { metadata: contents.metadata, settings: contents.settings, ..Contents::default() };
        let same = |name: &str| Error::SameName { path: source.path.clone(), name: shortened(name) };
        for (name, layout) in contents.tensors {
            let name = new_name(&name);
            if renamed.tensors.contains_key(&name) {
                return Err(same(&name));
            }
            renamed.tensors.insert(name, layout);
        }
        for (name, class) in contents.others {
            let name = new_name(&name);
            if renamed.tensors.contains_key(&name) || renamed.others.contains_key(&name) {
                return Err(same(&name));
            }
            renamed.others.insert(name, class);
        }
        Ok(TorchFile { source, format, contents: renamed })
    }

    /// The file's path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Bytes of memory that hold the file itself: 0 where it is read from a file, or is part of the program.
    pub fn held(&self) -> usize {
        self.source.held()
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.contents.tensors.keys().map(String::as_str)
    }

    /// A tensor's type and shape.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.contents.tensors.get(name).map(|layout| &layout.info)
    }

    /// Entries of the state dict that are no tensors that can be read: their names, and the names of their classes.
    pub fn others(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.contents.others.iter().map(|(name, class)| (name.as_str(), class.as_ref()))
    }

    /// The class of an entry that is no tensor.
    pub fn other(&self, name: &str) -> Option<&str> {
        self.contents.others.get(name).map(AsRef::as_ref)
    }

    /// A safetensors file's `__metadata__`; empty for the other formats.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// What a PyTorch file's root holds beside the state dict, by name: `epoch`, `args`, `hyper_parameters` and the like.
    /// Tensors are named by their class alone. Behind [`MAX_SETTINGS`](crate::limits::MAX_SETTINGS) values the rest is left out;
    /// Lightning's `hyper_parameters` come first.
    pub fn settings(&self) -> &BTreeMap<String, Value> {
        &self.contents.settings
    }

    /// One of Lightning's `hyper_parameters`, whether these are a dict or an object that carries them.
    ///
    /// ```no_run
    /// # fn main() -> torch_file::Result<()> {
    /// let file = torch_file::TorchFile::open("lightning.ckpt")?;
    /// let rate = file.hyper_parameter("lr").and_then(|value| value.as_float());
    /// # Ok(())
    /// # }
    /// ```
    pub fn hyper_parameter(&self, name: &str) -> Option<&Value> {
        self.contents.settings.get("hyper_parameters")?.get(name)
    }

    /// Whether the file has a checksum of this tensor's storage, which reading it compares. (PyTorch's zip has, unless it was told
    /// to leave them out.)
    pub fn is_summed(&self, name: &str) -> bool {
        self.contents.tensors.get(name).is_some_and(Layout::is_summed)
    }

    /// Reads a tensor of float16, bfloat16, float32 or float64 as float32 into `out` (its former contents are lost), last
    /// dimension fastest. [`TensorInfo::count`] says before how many there are.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::NotFloats`]; [`Error::Io`] or [`Error::Refused`] where the file fails, was cut since it
    /// was opened, or has another checksum of these bytes.
    pub fn read_f32(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        let layout = self.layout(name)?;
        if !is_float(layout.info.dtype) {
            let path = self.source.path.clone();
            return Err(Error::NotFloats { path, name: shortened(name), found: layout.info.clone() });
        }
        layout.read_f32(&self.source, out)
    }

    /// Reads a tensor's elements in their own type into `out` (its former contents are lost): little-endian, last dimension
    /// fastest. [`elements`] has what makes numbers of them.
    ///
    /// # Errors
    /// As [`Self::read_f32`]; any type will do.
    pub fn read_raw(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.layout(name)?.read_raw(&self.source, out)
    }

    fn layout(&self, name: &str) -> Result<&Layout> {
        self.contents.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.source.path.clone(),
            name: shortened(name),
            class: self.other(name).map(str::to_owned),
        })
    }

    /// The file's length in bytes, when it was opened.
    pub fn size(&self) -> u64 {
        self.source.len
    }

    /// Fills `buffer` with the file's own bytes from `offset`: for a checksum of all of it, say.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Refused`] where the file ends before.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.source.read_at(offset, buffer)
    }

    /// Checks that nobody wrote to the file since it was opened. To be called after the last reading: tensors that were read
    /// before could be of two files.
    ///
    /// # Errors
    /// [`Error::Refused`] where its length or its time of change is another; [`Error::Io`].
    pub fn unchanged(&self) -> Result<()> {
        self.source.unchanged()
    }
}

/// Without its contents, which may be long.
impl fmt::Debug for TorchFile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let tensors = self.contents.tensors.len();
        f.debug_struct("TorchFile")
            .field("path", &self.source.path)
            .field("format", &self.format)
            .field("tensors", &tensors)
            .finish_non_exhaustive()
    }
}
