//! Local memory of a warp's threads: each its own bytes, nobody else's.

use super::{Request, Words};
use crate::fault::BadAccess;

pub struct LocalMemory {}

impl LocalMemory {
    /// `bytes` for each of 32 lanes, uninitialised.
    pub fn new(bytes: usize) -> LocalMemory {
        let _ = bytes;
        unimplemented!()
    }

    pub fn reset(&mut self) {
        unimplemented!()
    }

    pub fn load(&self, r: &Request, into: &mut Words) -> Result<(), BadAccess> {
        let _ = (r, into);
        unimplemented!()
    }

    pub fn store(&mut self, r: &Request, from: &Words) -> Result<(), BadAccess> {
        let _ = (r, from);
        unimplemented!()
    }
}
