//! Every way in which reading fails.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use crate::TensorInfo;
use crate::printable::printable;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The crate's error. Its message is one line, `FILE: REASON` without a trailing full stop; what it repeats of a file has no
/// control characters and is not endless.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open or read the file.
    #[non_exhaustive]
    Io {
        /// `open` or `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The file's first bytes are those of no format that is read.
    #[non_exhaustive]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most 512.
        head: Vec<u8>,
    },

    /// The file is damaged, cut short, beyond a [limit](crate::limits), or in a form that is not read.
    #[non_exhaustive]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        reason: String,
    },

    /// No dict of the file has a name that [`Options::holding`](crate::Options::holding) looks for.
    #[non_exhaustive]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// The keys that lead to the first dict with tensors.
        dict: String,
        /// The name of the first of them.
        first: String,
    },

    /// There is no tensor of this name.
    #[non_exhaustive]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The class of what has this name.
        class: Option<String>,
    },

    /// A tensor that was asked for as floats has elements of another kind.
    #[non_exhaustive]
    NotFloats {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// What it is.
        found: TensorInfo,
    },

    /// After a renaming two entries would have one name.
    #[non_exhaustive]
    SameName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl Error {
    /// The file that could not be read.
    pub fn path(&self) -> &Path {
        match self {
            Error::Io { path, .. }
            | Error::UnknownFormat { path, .. }
            | Error::Refused { path, .. }
            | Error::Elsewhere { path, .. }
            | Error::MissingTensor { path, .. }
            | Error::NotFloats { path, .. }
            | Error::SameName { path, .. } => path,
        }
    }

    /// The message without the file's path, for who shows that in another way.
    pub fn reason(&self) -> String {
        match self {
            Error::Io { action, source, .. } => format!("cannot {action} it: {source}"),
            Error::UnknownFormat { head, .. } => unknown(head),
            Error::Refused { reason, .. } => reason.clone(),
            Error::Elsewhere { dict, first, .. } => format!(
                "has no tensor of a name that is looked for; its tensors are in {dict}, the first of them is {first}"
            ),
            Error::MissingTensor { name, class: None, .. } => format!("tensor {name} is missing"),
            Error::MissingTensor { name, class: Some(class), .. } => format!(
                "tensor {name} is missing; the file has an object of class {class} there, and only tensors are read"
            ),
            Error::NotFloats { name, found, .. } => {
                format!("tensor {name}: expected floats (F16, BF16, F32 or F64), found {found}")
            }
            Error::SameName { name, .. } => format!("two entries would be called {name}"),
        }
    }

    fn message(&self) -> String {
        // A name may hold a line feed: the message is one line.
        let path = self.path().to_string_lossy();
        let path = printable(&path);
        match self {
            Error::Io { action, source, .. } => format!("cannot {action} {path}: {source}"),
            _ => format!("{path}: {}", self.reason()),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Error::Refused { path: path.to_owned(), reason: reason.into() }
    }
}

fn unknown(head: &[u8]) -> String {
    let expected = "expected a PyTorch checkpoint (.ckpt, .pt, .pth) or a safetensors file";
    if head.is_empty() {
        return format!("is empty; {expected}");
    }
    let mut start = String::new();
    for byte in head.iter().take(8) {
        let _ = write!(start, " {byte:02x}");
    }
    format!("is of no known format (it starts with bytes{start}); {expected}")
}
