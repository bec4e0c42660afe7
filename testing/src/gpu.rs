//! Whether there is a GPU to test on.

use lseg_fast::Result;

/// What was found; `None`, and a message, where there is no GPU or no kernels were built. Where both should be there, as `cargo
/// xtask test` says, nothing may be skipped.
pub fn found<T>(gpu: Result<T>) -> Option<T> {
    let should_be_there = ["VGPU_LIB", "LSEG_NVCC"].iter().all(|name| std::env::var_os(name).is_some());
    gpu.inspect_err(|reason| {
        assert!(!should_be_there, "{reason}");
        eprintln!("skipped: {reason}");
    })
    .ok()
}
