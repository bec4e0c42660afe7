//! The virtual GPU's library, built for the CPU at hand, under the names of the driver's.

use std::ffi::OsString;
use std::fs;

use crate::{Outcome, Places, cargo, run};

/// Makes target/vgpu/libcuda.so and libcuda.so.1. A directory of its own keeps the flags from rebuilding everything else.
pub fn build(places: &Places) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Err("the virtual GPU is a Linux library (libcuda.so)".into());
    }
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" -C target-cpu=native");
    let own = places.target.join("vgpu-build");
    let mut build = cargo();
    build.current_dir(&places.root).args(["build", "--locked", "--release", "--package", "vgpu", "--lib"]);
    build.arg("--target-dir").arg(&own).env("RUSTFLAGS", flags);
    run(&mut build, "building the virtual GPU")?;
    let built = own.join("release/libvgpu_cuda.so");
    fs::create_dir_all(places.vgpu()).map_err(|e| format!("{}: {e}", places.vgpu().display()))?;
    for name in ["libcuda.so", "libcuda.so.1"] {
        let place = places.vgpu().join(name);
        let fresh = places.vgpu().join(format!("{name}.{}", std::process::id()));
        // A program that has the old one open keeps it.
        fs::copy(&built, &fresh)
            .and_then(|_| fs::rename(&fresh, &place))
            .map_err(|e| format!("{} to {}: {e}", built.display(), place.display()))?;
    }
    Ok(())
}

/// The library path with the virtual GPU first.
pub fn search_path(places: &Places) -> Outcome<OsString> {
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let rest = std::env::split_paths(&before).filter(|p| !p.as_os_str().is_empty());
    std::env::join_paths([places.vgpu()].into_iter().chain(rest))
        .map_err(|e| format!("{}: cannot stand in a library path: {e}", places.vgpu().display()))
}
