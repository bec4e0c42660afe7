//! Files of the project.

use std::path::{Path, PathBuf};

/// Where the project lies: LSEG_TEST_ROOT where the test programs were moved elsewhere, as to a machine with a GPU.
pub fn root() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the workspace").to_owned();
    std::env::var_os("LSEG_TEST_ROOT").map_or_else(here, PathBuf::from)
}
