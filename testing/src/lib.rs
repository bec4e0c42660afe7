//! What the tests of the workspace's packages share. The feature `lseg` adds what needs the engine, `torch` what
//! needs the reader of checkpoints.

#[cfg(feature = "lseg")]
pub mod cases;
pub mod checkpoint;
pub mod files;
#[cfg(feature = "lseg")]
pub mod golden;
#[cfg(feature = "lseg")]
pub mod gpu;
#[cfg(feature = "lseg")]
pub mod hostile;
#[cfg(feature = "lseg")]
pub mod models;
#[cfg(feature = "lseg")]
pub mod network;
pub mod process;
#[cfg(feature = "lseg")]
pub mod protocols;
#[cfg(feature = "lseg")]
pub mod results;
#[cfg(feature = "torch")]
pub mod stranger;
pub mod time;
