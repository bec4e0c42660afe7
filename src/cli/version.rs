//! What this build is: `lseg-fast --version`.

use std::fmt::Write;
use std::sync::LazyLock;

use crate::build;

/// Of the build: whether each is in it.
const FEATURES: [(&str, bool); 6] = [
    ("cli", cfg!(feature = "cli")),
    ("overlay", cfg!(feature = "overlay")),
    ("demo", cfg!(feature = "demo")),
    ("bench", cfg!(feature = "bench")),
    ("golden", cfg!(feature = "golden")),
    ("serve", cfg!(feature = "serve")),
];

/// The version, the commit, the features and the kernels' architectures, a line each.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features: Vec<&str> = FEATURES.into_iter().filter_map(|(name, is_in)| is_in.then_some(name)).collect();
        format!(
            "{}\ncommit: {}\nfeatures: {}\nCUDA kernels: {}",
            build::VERSION,
            build::COMMIT,
            features.join(", "),
            kernels()
        )
    });
    &TEXT
}

fn kernels() -> String {
    let Some(archs) = build::kernels() else { return "none, this build is for the CPU alone".to_owned() };
    let mut text = String::new();
    for arch in archs {
        let _ = write!(text, "sm_{arch}, ");
    }
    text + "PTX"
}
