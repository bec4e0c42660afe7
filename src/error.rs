//! Every way in which this library fails. Each variant says when it happens; each message says what was
//! expected, what was found and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The library's error. Messages are one line, without a trailing full stop, ready for `error: {message}`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open, read or list a file that was asked for.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb that fits "cannot … FILE".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A result could not be written: its folder cannot be created, the disk is full, permission is missing.
    #[error("cannot write {}: {source}; nothing was left half-written", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file is no checkpoint that this program reads, or is damaged or cut short.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// A checkpoint lacks a tensor that its model needs.
    #[error("{}: tensor {name} {expected} is missing; {hint}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its shape or type as the model needs it.
        expected: String,
        /// What to do.
        hint: String,
    },

    /// A checkpoint's tensor has another shape or element type than its model needs.
    #[error("{}: tensor {name}: expected {expected}, found {found}; {hint}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its shape or type as the model needs it.
        expected: String,
        /// Its shape or type in the file.
        found: String,
        /// What to do.
        hint: String,
    },

    /// A checkpoint's configuration contradicts itself or cannot be told from its tensors.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// No model was named, and the build left the demo model out.
    #[error(
        "this build has no demo model (build feature `demo`); convert the published LSeg checkpoint (lseg-fast convert \
         demo_e200.ckpt --out lseg.safetensors) and pass --model lseg.safetensors"
    )]
    NoModel,

    /// A photo cannot be decoded, or is larger than allowed.
    #[error("{}: {reason}", path.display())]
    Photo {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// The list of labels is empty, has an empty or a repeated label, or a label is too long for the text tower.
    #[error("{0}")]
    Labels(String),

    /// A template without a place for the label.
    #[error("{0}")]
    Template(String),

    /// A palette that is not known, or a file of colours that cannot be read or understood.
    #[error("{0}")]
    Palette(String),

    /// A points file that cannot be understood, or a point that is not in its photo.
    #[error("{0}")]
    Points(String),

    /// A data set that is not laid out as its kind is, a list of photos or a state that does not fit it.
    #[error("{0}")]
    Data(String),

    /// A camera, a video or a pipe of frames that cannot be opened, is lost, or is not what it was said to be.
    #[error("{0}")]
    Video(String),

    /// A frame or a size that the model cannot take (zero pixels, a buffer that does not match its size).
    #[error("{0}")]
    Size(String),

    /// The asked-for device does not exist here, or failed.
    #[error("{0}")]
    Device(String),

    /// A ticket, a lane or labels that belong to another lane or network, or a lane too many or too few.
    #[error("{0}")]
    Foreign(String),

    /// As many frames are in flight as a lane takes.
    #[error("{0}")]
    Busy(String),

    /// The device failed in a way that ended this engine: another may work.
    #[error("{0}")]
    Lost(String),

    /// More memory is needed than is free or was allowed.
    #[error("{0}")]
    Memory(String),

    /// A result that is no number: the model's weights, or what its device can hold, are at fault.
    #[error("{0}")]
    NotFinite(String),
}

impl Error {
    /// An [`Error::Io`] for `path`; `action` is a verb that fits "cannot … FILE".
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source }
    }

    /// An [`Error::Checkpoint`] for `path`.
    pub fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.to_owned(), reason: reason.into() }
    }

    /// An [`Error::Config`] for `path`.
    pub fn config(path: &Path, reason: impl Into<String>) -> Self {
        Error::Config { path: path.to_owned(), reason: reason.into() }
    }

    /// An [`Error::Photo`] for `path`.
    pub fn photo(path: &Path, reason: impl Into<String>) -> Self {
        Error::Photo { path: path.to_owned(), reason: reason.into() }
    }

    /// The same error of a device, with more behind its message.
    pub(crate) fn with(mut self, more: &str) -> Self {
        if let Error::Device(message) | Error::Lost(message) | Error::Memory(message) | Error::NotFinite(message) =
            &mut self
        {
            message.push_str(more);
        }
        self
    }

    /// An [`Error::Output`] for `path`.
    pub fn output(path: &Path, source: io::Error) -> Self {
        Error::Output { path: path.to_owned(), source }
    }
}
