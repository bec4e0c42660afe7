use std::path::Path;

use super::config::{Activation, Config, HeadBlockKind};
use crate::checkpoint::Checkpoint;
use crate::{Error, Result};

#[derive(Default)]
pub struct Flags {
    pub head_block: Option<HeadBlockKind>,
    pub depth: Option<usize>,
    pub activation: Option<Activation>,
}

pub fn recognise(_checkpoint: &Checkpoint, _flags: &Flags) -> Result<Config> {
    Err(Error::config(Path::new(""), "models cannot be recognised yet"))
}
