//! What the tests of the workspace's packages share. The feature `lseg` adds what needs the engine.

pub mod checkpoint;
#[cfg(feature = "lseg")]
pub mod models;
pub mod time;
