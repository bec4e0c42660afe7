pub mod checkpoint;
pub mod convert;
pub mod device;
pub mod error;
pub mod image;
pub mod model;
pub mod tokenizer;

pub use error::{Error, Result};
