//! The programs of a bundle, as cargo builds them and names their places.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::bundle::Profile;
use crate::{Outcome, Places, cargo};

/// The test program that makes sense on a GPU.
const TESTS: &str = "cuda";

/// Machine code in it, and in the wheel; other GPUs run their PTX. Everything thrice would be too large.
pub const TEST_ARCHS: &str = "90";

pub struct Built {
    pub program: PathBuf,
    pub stages: PathBuf,
    pub tests: PathBuf,
}

/// A release in builds of its own; the others out of one build, the one that `cargo test` has made.
pub fn programs(places: &Places, profile: Profile, nvcc: Option<&Path>) -> Outcome<Built> {
    let artifacts = match profile {
        Profile::Dev => build(places, nvcc, None, &["test", "--no-run", "--workspace"])?,
        Profile::Release => release(places, nvcc)?,
    };
    // The virtual GPU has tests of the same name.
    let (ours, xtask) = (places.root.join("Cargo.toml"), places.root.join("xtask/Cargo.toml"));
    Ok(Built {
        program: executable(&artifacts, &ours, "bin", "lseg-fast")?,
        stages: executable(&artifacts, &xtask, "bin", "stages")?,
        tests: executable(&artifacts, &ours, "test", TESTS)?,
    })
}

/// Without the demo model, which nothing there needs, and the golden networks, which lie in files beside them. The program
/// runs on every architecture, the tests on fewer.
fn release(places: &Places, nvcc: Option<&Path>) -> Outcome<Vec<Value>> {
    let ours = ["--release", "--package", "lseg-fast", "--no-default-features", "--features", "cli,bench,overlay"];
    let program = [&["build", "--bin", "lseg-fast"], &ours[..]].concat();
    let tests = [&["test", "--no-run", "--test", TESTS], &ours[..]].concat();
    let mut artifacts = build(places, nvcc, Some(TEST_ARCHS), &tests)?;
    // Last: the tests came with a program of their architectures, under the same name.
    artifacts.extend(build(places, nvcc, None, &program)?);
    artifacts.extend(build(places, nvcc, None, &["build", "--release", "--package", "xtask", "--bin", "stages"])?);
    Ok(artifacts)
}

/// What cargo says of each thing that it has built.
fn build(places: &Places, nvcc: Option<&Path>, archs: Option<&str>, arguments: &[&str]) -> Outcome<Vec<Value>> {
    let mut command = cargo();
    command.current_dir(&places.root).args(arguments).args(["--locked", "--message-format=json-render-diagnostics"]);
    match nvcc {
        Some(nvcc) => command.env("LSEG_NVCC", nvcc),
        None => command.env_remove("LSEG_NVCC"),
    };
    if let Some(archs) = archs {
        command.env("LSEG_CUDA_ARCHS", archs);
    }
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo {} failed ({})", arguments.join(" "), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The last one of that package, kind and name that is a program, and no test harness unless it is a test.
fn executable(artifacts: &[Value], manifest: &Path, kind: &str, name: &str) -> Outcome<PathBuf> {
    let fits = |artifact: &&Value| {
        let is_kind = artifact["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
        let is_its = artifact["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
        is_its && is_kind && artifact["target"]["name"] == name && artifact["profile"]["test"] == (kind == "test")
    };
    let found = artifacts.iter().rev().filter(fits).find_map(|artifact| artifact["executable"].as_str());
    found.map(PathBuf::from).ok_or(format!("cargo built no {kind} {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_program_is_told_from_its_own_tests_and_those_of_others() {
        let artifact = |manifest: &str, kind: &str, test: bool, executable: &str| {
            let target = json!({"kind": [kind], "name": "a"});
            let profile = json!({"test": test});
            json!({"manifest_path": manifest, "target": target, "profile": profile, "executable": executable})
        };
        let artifacts = [
            artifact("ours", "bin", true, "harness"),
            artifact("ours", "bin", false, "program"),
            artifact("ours", "test", true, "test"),
            artifact("others", "test", true, "another"),
        ];
        let ours = |kind, name| executable(&artifacts, Path::new("ours"), kind, name);
        assert_eq!(ours("bin", "a"), Ok("program".into()));
        assert_eq!(ours("test", "a"), Ok("test".into()));
        assert!(ours("bin", "b").is_err_and(|reason| reason.contains("\"b\"")));
    }
}
