//! Language-driven semantic segmentation (LSeg, arXiv 2201.03546): words in, photo in, pixels named out.
//!
//! [`Engine`] is the whole of it for most programs: load a model, set the labels, segment frames. The command line
//! is built on the same calls.

pub mod bench;
pub mod cases;
pub mod checkpoint;
pub mod convert;
pub mod demo;
pub mod device;
pub mod embedding;
pub mod ending;
pub mod engine;
pub mod error;
mod foreign;
pub mod image;
pub mod labels;
pub mod model;
pub mod output;
pub mod points;
pub mod printable;
pub mod protocol;
pub mod report;
pub mod resample;
pub mod tokenizer;

pub use embedding::Embedding;
pub use engine::{
    Alpha, DeviceChoice, Engine, Extras, Frame, LongLabels, Options, Scores, Segmentation, Segmented, Wait,
};
pub use error::{Error, Result};
pub use protocol::Size;
