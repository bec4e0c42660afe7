use std::fs::File;
use std::path::Path;

pub use safetensors::Dtype;

use crate::{Error, Result};

pub struct TensorInfo {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

pub struct Checkpoint;

impl Checkpoint {
    pub fn open(path: &Path) -> Result<Checkpoint> {
        File::open(path).map_err(|e| Error::io("open", path, e))?;
        Err(Error::checkpoint(path, "checkpoints cannot be read yet"))
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [].into_iter()
    }
    pub fn info(&self, _name: &str) -> Option<&TensorInfo> {
        None
    }
}
