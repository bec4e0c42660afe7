//! The CUDA compiler: an installed one, or NVIDIA's wheels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, Places, run};

/// Where the wheels of CUDA 13 put it.
const IN_WHEELS: &str = "nvidia/cu13/bin/nvcc";

/// LSEG_NVCC, CUDA_HOME, PATH, or fetched.
pub fn find_or_fetch(places: &Places) -> Outcome<PathBuf> {
    if let Some(chosen) = std::env::var_os("LSEG_NVCC") {
        let chosen = PathBuf::from(chosen);
        if !chosen.is_file() {
            return Err(format!("LSEG_NVCC={}: there is no such file", chosen.display()));
        }
        return absolute(&chosen);
    }
    let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = home.into_iter().chain(std::env::split_paths(&path)).map(|d| d.join("nvcc")).find(|p| p.is_file());
    match installed {
        Some(installed) => absolute(&installed),
        None => fetch(places),
    }
}

fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Once: the wheels go to a directory beside, which gets its name when it is complete. Another pin is another directory.
fn fetch(places: &Places) -> Outcome<PathBuf> {
    let pins = places.root.join("kernels/requirements.txt");
    let text = fs::read_to_string(&pins).map_err(|e| format!("{}: {e}", pins.display()))?;
    let complete = places.target.join("cuda");
    let stamp = complete.join("requirements.txt");
    let nvcc = complete.join(IN_WHEELS);
    if nvcc.is_file() && fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == text) {
        return Ok(nvcc);
    }
    eprintln!("no nvcc in LSEG_NVCC, CUDA_HOME or PATH: fetching NVIDIA's wheels into {}", complete.display());
    let fresh = places.target.join(format!("cuda.{}", std::process::id()));
    let result = install(&pins, &fresh)
        .and_then(|()| {
            fs::write(fresh.join("requirements.txt"), &text).map_err(|e| format!("{}: {e}", fresh.display()))
        })
        .and_then(|()| replace(&fresh, &complete));
    if result.is_err() {
        // What is left of a failed fetch is of no use; the reason for the failure is what counts.
        let _ = fs::remove_dir_all(&fresh);
    }
    result?;
    if nvcc.is_file() { Ok(nvcc) } else { Err(format!("the wheels hold no {IN_WHEELS}")) }
}

fn install(pins: &Path, into: &Path) -> Outcome {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    pip.arg("--require-hashes").arg("--requirement").arg(pins).arg("--target").arg(into);
    run(&mut pip, "fetching nvcc with python3 -m pip").map_err(|reason| {
        format!(
            "{reason}; install CUDA's nvcc and name it with LSEG_NVCC, or make python3, pip and the network available"
        )
    })
}

fn replace(fresh: &Path, complete: &Path) -> Outcome {
    if complete.exists() {
        fs::remove_dir_all(complete).map_err(|e| format!("{}: {e}", complete.display()))?;
    }
    fs::rename(fresh, complete).map_err(|e| format!("{} to {}: {e}", fresh.display(), complete.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a machine without network sees, made sure of by pins that allow no index.
    #[test]
    fn without_network_the_reason_says_what_to_do_and_nothing_is_left() -> Result<(), Box<dyn std::error::Error>> {
        let root = std::env::temp_dir().join(format!("xtask-nvcc-{}", std::process::id()));
        let target = root.join("target");
        fs::create_dir_all(root.join("kernels"))?;
        fs::create_dir_all(&target)?;
        let hash = "0".repeat(64);
        let pins = format!("--no-index\nnvidia-cuda-nvcc==13.0.88 --hash=sha256:{hash}\n");
        fs::write(root.join("kernels/requirements.txt"), pins)?;
        let reason = fetch(&Places { root: root.clone(), target: target.clone() }).err().unwrap_or_default();
        assert!(reason.contains("name it with LSEG_NVCC"), "{reason}");
        assert_eq!(fs::read_dir(&target)?.count(), 0);
        fs::remove_dir_all(&root)?;
        Ok(())
    }
}
