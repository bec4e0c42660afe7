//! Language-driven semantic segmentation (LSeg, arXiv 2201.03546): words in, photo in, pixels named out.
//!
//! [`Engine`] is the whole of it for most programs: load a model, set the labels, segment frames. The command line
//! is built on the same calls.

#[cfg(feature = "bench")]
pub mod bench;
pub mod checkpoint;
pub mod checksum;
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
pub mod memory;
pub mod model;
pub mod ops;
pub mod output;
pub mod plan;
pub mod points;
pub mod printable;
pub mod protocol;
pub mod report;
pub mod resample;
pub mod tokenizer;
mod unit_vector;

pub use embedding::Embedding;
pub use engine::{
    Alpha, DeviceChoice, Engine, Extras, Frame, LongLabels, Options, Scores, Segmentation, Segmented, Wait,
};
pub use error::{Error, Result};
pub use protocol::Size;
