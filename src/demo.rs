//! The demo model inside the program: small, trained by this project on scenes of clip art (`weights/demo/`), with 8 bits a
//! weight (`crates/demo`). The build feature `demo` puts it there; it is on unless the build says `--no-default-features`.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// What it is called where a file's path would stand.
pub const NAME: &str = "embedded demo model";

#[cfg(feature = "demo")]
const MODEL: Option<fn() -> Vec<u8>> = Some(lseg_fast_demo::float16);
#[cfg(not(feature = "demo"))]
const MODEL: Option<fn() -> Vec<u8>> = None;

/// Opens the demo model, whose weights become float16 for it: 15 MB that the checkpoint holds.
///
/// # Errors
/// [`Error::NoModel`] where the build left it out.
pub fn checkpoint() -> Result<Checkpoint> {
    Checkpoint::from_bytes(NAME, MODEL.ok_or(Error::NoModel)?())
}

/// What a model file says about itself beside its configuration: its `__metadata__` entries `lseg-fast.training`,
/// `lseg-fast.licences` and `lseg-fast.limits`, without the prefix.
pub fn about(checkpoint: &Checkpoint) -> impl Iterator<Item = (&str, &str)> {
    let entry = |key| Some((key, checkpoint.metadata().get(&format!("lseg-fast.{key}"))?.as_str()));
    ["training", "licences", "limits"].into_iter().filter_map(entry)
}
