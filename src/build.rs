//! What this build is.

use crate::device::cuda::MODULES;

/// The crate's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built of, or why none is known.
pub const COMMIT: &str = env!("LSEG_FAST_COMMIT");

/// The compute capabilities that this build has machine code for (87 is 8.7), beside PTX for all later ones; `None` where it has no
/// CUDA kernels.
pub fn kernels() -> Option<Vec<u32>> {
    let any = MODULES.first()?;
    Some(any.cubins.iter().map(|(arch, _)| *arch).collect())
}
