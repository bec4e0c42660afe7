//! Which of a file's dicts is read.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use crate::source::Source;
use crate::{Result, TorchFile};

/// Whether a name is one that is looked for.
type IsName<'a> = Box<dyn Fn(&str) -> bool + 'a>;

/// Which dict of a PyTorch file is read, where [`TorchFile::open`] would take another or cannot choose. (A safetensors file has
/// none: the keys of one are refused.)
///
/// ```no_run
/// # fn main() -> torch_file::Result<()> {
/// use torch_file::Options;
/// // The averaged weights of {"model": …, "ema": …, "optimizer": …}.
/// let ema = Options::new().dict(["ema"]).open("checkpoint.pth")?;
/// // Wherever training code put it: the dict in which something starts so.
/// let backbone = Options::new().holding(|name| name.starts_with("backbone.")).open("checkpoint.pth")?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "they open a file by `open` or `open_bytes`"]
pub struct Options<'a> {
    pub(crate) keys: Vec<String>,
    pub(crate) is_looked_for: Option<IsName<'a>>,
}

impl<'a> Options<'a> {
    /// Those of [`TorchFile::open`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the dict that these keys lead to, from the root on, whatever else is said. Without keys: it is looked for.
    pub fn dict<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Looks for the dict in which some tensor has a name for which `is_looked_for` is true. Where no dict has one, the state
    /// dict or the root is read as ever, or [`Error::Elsewhere`](crate::Error::Elsewhere) says that they hold no tensors at all.
    pub fn holding(mut self, is_looked_for: impl Fn(&str) -> bool + 'a) -> Self {
        self.is_looked_for = Some(Box::new(is_looked_for));
        self
    }

    /// As [`TorchFile::open`].
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<TorchFile> {
        TorchFile::read(Source::open(path.as_ref())?, self)
    }

    /// As [`TorchFile::from_bytes`].
    ///
    /// # Errors
    /// As [`TorchFile::from_bytes`].
    pub fn open_bytes(&self, name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<TorchFile> {
        TorchFile::read(Source::memory(name, bytes.into()), self)
    }
}

/// The keys, and whether names are looked for.
impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Options").field("dict", &self.keys).field("holding", &self.is_looked_for.is_some()).finish()
    }
}
