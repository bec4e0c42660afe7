//! The product's build script, in a package of its own that has nothing else: which nvcc it takes, and what it says without one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type Tested = Result<(), Box<dyn std::error::Error>>;

const MANIFEST: &str = "\
[package]
name = \"lseg-fast\"
version = \"0.1.0\"
edition = \"2024\"
build = \"build.rs\"
[build-dependencies]
flate2 = \"1.1\"
[workspace]
";

struct Package(PathBuf);

impl Package {
    fn new() -> std::io::Result<Package> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
        let package = Package(std::env::temp_dir().join(format!("lseg-fast-build-script-{}", std::process::id())));
        fs::create_dir_all(package.0.join("src"))?;
        fs::create_dir_all(package.0.join("kernels"))?;
        fs::write(package.0.join("Cargo.toml"), MANIFEST)?;
        fs::write(package.0.join("src/lib.rs"), "")?;
        for file in ["build.rs", "Cargo.lock", "kernels/spec.cuh"] {
            fs::copy(root.join(file), package.0.join(file))?;
        }
        Ok(package)
    }

    fn target(&self) -> PathBuf {
        self.0.join("target")
    }

    /// A folder that stands in PATH for one with an nvcc: links to all else in that, which may be the system's compilers.
    fn without_nvcc(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let bare = self.0.join("path").join(folder.strip_prefix("/").unwrap_or(folder));
        fs::create_dir_all(&bare)?;
        for entry in fs::read_dir(folder)? {
            let (file, link) = entry.map(|entry| (entry.path(), bare.join(entry.file_name())))?;
            if !file.ends_with("nvcc") && link.symlink_metadata().is_err() {
                symlink(file, link)?;
            }
        }
        Ok(bare)
    }

    /// Builds it as on a machine without an installed nvcc.
    fn build(&self, nvcc: Option<&str>) -> std::io::Result<Output> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folder = |folder: PathBuf| match folder.join("nvcc").exists() {
            true => self.without_nvcc(&folder),
            false => Ok(folder),
        };
        let without_nvcc = std::env::split_paths(&path).map(folder).collect::<std::io::Result<Vec<PathBuf>>>()?;
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.0).args(["check", "--offline"]).env("CARGO_TARGET_DIR", self.target());
        command.env("PATH", std::env::join_paths(without_nvcc).expect("they came from a PATH"));
        command.env_remove("CUDA_HOME").env_remove("LSEG_NVCC").env_remove("LSEG_CUDA_ARCHS");
        nvcc.map(|nvcc| command.env("LSEG_NVCC", nvcc));
        command.output()
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_fetched_nvcc_is_taken_when_asked_for_and_a_build_without_one_says_what_it_lacks() -> Tested {
    let package = Package::new()?;
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let without = package.build(None)?;
    let text = said(&without);
    assert!(without.status.success(), "{text}");
    let warnings: Vec<&str> = text.lines().filter(|line| line.starts_with("warning: lseg-fast")).collect();
    let [warning] = &*warnings else { panic!("not one warning: {text}") };
    for word in ["no nvcc", "without CUDA kernels", "cargo xtask vgpu", "LSEG_NVCC=fetched"] {
        assert!(warning.contains(word), "{word:?} is not in {warning}");
    }

    let missing = package.build(Some("fetched"))?;
    assert!(!missing.status.success());
    assert!(said(&missing).contains("`cargo xtask vgpu` fetches it"), "{}", said(&missing));

    // One that is too old, so that nothing is compiled: what it answers shows that it was asked.
    let nvcc = package.target().join("cuda/nvidia/cu13/bin/nvcc");
    fs::create_dir_all(nvcc.parent().ok_or("no folder")?)?;
    fs::write(&nvcc, "#!/bin/sh\necho 'Cuda compilation tools, release 11.0, V11.0.1'\n")?;
    fs::set_permissions(&nvcc, fs::Permissions::from_mode(0o755))?;
    let fetched = package.build(Some("fetched"))?;
    assert!(!fetched.status.success());
    assert!(said(&fetched).contains("is of CUDA 11.0"), "{}", said(&fetched));
    Ok(())
}
