pub mod checkpoint;
pub mod convert;
pub mod engine;
pub mod error;
pub mod image;
pub mod labels;
pub mod model;
pub mod output;
pub mod protocol;
pub mod tokenizer;

pub use error::{Error, Result};
