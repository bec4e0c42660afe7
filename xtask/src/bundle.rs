//! target/bundle: everything that a machine with a GPU needs to test and measure this project, without Rust, without
//! network, without the repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gpu_run::stages::date;

use crate::built::{self, Built};
use crate::wheel::{self, Build};
use crate::{Outcome, Places, library, nvcc};

const MOST_BYTES: u64 = 80 << 20;
/// Packed: lent machines take 64 MiB with them.
const MOST_PACKED: u64 = 60 << 20;
/// What the programs read, from LSEG_TEST_ROOT: folders and files of the repository.
const DATA: &[&str] = &[
    "tests/golden/vit16",
    "tests/golden/vit16_relu",
    "tests/golden/vit32",
    "tests/golden/resnet",
    "weights/seeded",
    "weights/photos",
    "crates/lseg-py/tests",
];
/// What is compiled or interpreted there: a folder, whose places are kept, and files that lie beside it.
const GPU_FOLDER: &str = "benches/gpu";
const GPU: &[&str] = &[
    "tests/golden/full_size_case.py",
    "tests/golden/lseg_reference.py",
    "tests/golden/seeded.py",
    "tests/golden/published.py",
];
const RUN: &str = "#!/bin/sh\n\
                   # Everything that can be learnt on this machine's GPU, in nine minutes: run.sh --help.\n\
                   exec \"$(dirname \"$(readlink -f \"$0\")\")/bin/stages\" \"$@\"\n";

/// Which builds go into it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Profile {
    /// Optimised, stripped, for every architecture: target/bundle.
    Release,
    /// What `cargo test` has built anyway: target/bundle-quick.
    Dev,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Profile::Release => "bundle",
            Profile::Dev => "bundle-quick",
        }
    }
}

/// Makes it beside and gives it its name when it is complete; the folder.
pub fn make(places: &Places, profile: Profile) -> Outcome<PathBuf> {
    let nvcc = match profile {
        Profile::Release => Some(nvcc::find_or_fetch(places)?),
        // The tests were built with it or without it: so is this.
        Profile::Dev => nvcc::find_or_fetch(places).ok(),
    };
    if profile == Profile::Release {
        // Beside the bundle, for its rehearsal.
        library::build(places)?;
    }
    let built = built::programs(places, profile, nvcc.as_deref())?;
    let complete = places.target.join(profile.folder());
    let fresh = places.target.join(format!("{}.{}", profile.folder(), std::process::id()));
    let made = fill(places, profile, &built, nvcc.as_deref(), &fresh).and_then(|()| replace(&fresh, &complete));
    if made.is_err() {
        // What is left of a failed bundle is of no use; the reason for the failure is what counts.
        let _ = fs::remove_dir_all(&fresh);
    }
    made?;
    let bytes = size(&complete)?;
    let shown = format!("{}, {:.1} MiB", complete.display(), mib(bytes));
    if profile == Profile::Release && bytes > MOST_BYTES {
        return Err(format!(
            "{shown}, of at most {}: what grew? du -a {} | sort -n",
            MOST_BYTES >> 20,
            complete.display()
        ));
    }
    eprintln!("made {shown}");
    if profile == Profile::Release {
        pack(places, profile)?;
    }
    Ok(complete)
}

/// The same as one file, for the way to a machine: target/bundle.tar.gz.
fn pack(places: &Places, profile: Profile) -> Outcome {
    let complete = places.target.join(format!("{}.tar.gz", profile.folder()));
    let fresh = places.target.join(format!("{}.tar.gz.{}", profile.folder(), std::process::id()));
    let mut command = Command::new("tar");
    command.arg("-C").arg(&places.target).arg("-czf").arg(&fresh).arg(profile.folder());
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("tar failed ({status})")),
        Err(reason) => {
            eprintln!("tar: {reason}; the bundle is there as a folder alone");
            return Ok(());
        }
    }
    fs::rename(&fresh, &complete).map_err(|e| format!("{} to {}: {e}", fresh.display(), complete.display()))?;
    let bytes = fs::metadata(&complete).map_err(|e| format!("{}: {e}", complete.display()))?.len();
    let shown = format!("{}, {:.1} MiB", complete.display(), mib(bytes));
    if bytes > MOST_PACKED {
        return Err(format!("{shown}, of at most {}: what grew? tar -tvzf {}", MOST_PACKED >> 20, complete.display()));
    }
    eprintln!("packed {shown}");
    Ok(())
}

fn fill(places: &Places, profile: Profile, built: &Built, nvcc: Option<&Path>, folder: &Path) -> Outcome {
    // Links cost nothing; a release is stripped, and what cargo built must stay as it is.
    let place = if profile == Profile::Release { copy } else { link };
    place(&built.program, &folder.join("bin/lseg-fast"))?;
    place(&built.stages, &folder.join("bin/stages"))?;
    place(&built.tests, &folder.join("bin/tests"))?;
    if profile == Profile::Release {
        strip(folder)?;
        let wheel = wheel::make(places, Build::Bundle, None)?;
        copy(&wheel, &folder.join("wheel").join(wheel.file_name().unwrap_or_default()))?;
    }
    for file in tracked(places, DATA)? {
        let path = Path::new(&file);
        if DATA.iter().any(|data| path.starts_with(data)) {
            copy(&places.root.join(path), &folder.join("root").join(path))?;
        }
    }
    for file in tracked(places, &[GPU_FOLDER])? {
        let place = Path::new(&file).strip_prefix(GPU_FOLDER).map_err(|e| format!("{file}: {e}"))?;
        copy(&places.root.join(&file), &folder.join("gpu").join(place))?;
    }
    for file in GPU.iter().map(Path::new) {
        let name = file.file_name().ok_or("a file without a name")?;
        copy(&places.root.join(file), &folder.join("gpu").join(name))?;
    }
    write(&folder.join("commit.txt"), &commit(places, nvcc)?)?;
    let run = folder.join("run.sh");
    write(&run, RUN)?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", run.display()))
}

/// Of the repository's own files: what else lies in its folders stays there.
fn tracked(places: &Places, of: &[&str]) -> Outcome<Vec<String>> {
    let listed = git(places, &[&["ls-files", "-z", "--"], of].concat())?;
    Ok(listed.split('\0').filter(|file| !file.is_empty()).map(str::to_owned).collect())
}

fn git(places: &Places, arguments: &[&str]) -> Outcome<String> {
    let mut command = Command::new("git");
    command.current_dir(&places.root).args(arguments);
    let output = command.output().map_err(|e| format!("git: {e}; the bundle takes the files that git knows"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("git {}: {said}; the bundle takes the files that git knows", arguments[0]));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("git {}: {e}", arguments[0]))
}

/// Which commit, whether with changes, when, with which nvcc.
fn commit(places: &Places, nvcc: Option<&Path>) -> Outcome<String> {
    let hash = git(places, &["rev-parse", "HEAD"])?;
    let changes = git(places, &["status", "--porcelain"])?;
    let state = if changes.is_empty() { "" } else { " with changes" };
    let nvcc = nvcc.map_or(Ok("no nvcc, so no CUDA kernels".to_owned()), version)?;
    Ok(format!("{}{state}\nbuilt {}\n{nvcc}\n", hash.trim(), date::iso(date::now())))
}

fn version(nvcc: &Path) -> Outcome<String> {
    let output = Command::new(nvcc).arg("--version").output().map_err(|e| format!("{}: {e}", nvcc.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("release"));
    Ok(line.unwrap_or("nvcc of an unknown version").trim().to_owned())
}

/// Without debugging information; where there is no `strip`, as it is.
fn strip(folder: &Path) -> Outcome {
    let mut command = Command::new("strip");
    for path in fs::read_dir(folder.join("bin")).into_iter().flatten().flatten() {
        if path.path().is_file() {
            command.arg(path.path());
        }
    }
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("strip failed ({status})")),
        Err(reason) => {
            eprintln!("strip: {reason}; the bundle keeps its debugging information (binutils have strip)");
            Ok(())
        }
    }
}

pub fn copy(from: &Path, to: &Path) -> Outcome {
    parent(to)?;
    fs::copy(from, to).map(|_| ()).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn link(from: &Path, to: &Path) -> Outcome {
    parent(to)?;
    fs::hard_link(from, to).or_else(|_| copy(from, to).map_err(std::io::Error::other)).map_err(|e| e.to_string())
}

pub fn write(path: &Path, text: &str) -> Outcome {
    parent(path)?;
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn parent(path: &Path) -> Outcome {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

pub fn replace(fresh: &Path, complete: &Path) -> Outcome {
    if complete.exists() {
        fs::remove_dir_all(complete).map_err(|e| format!("{}: {e}", complete.display()))?;
    }
    fs::rename(fresh, complete).map_err(|e| format!("{} to {}: {e}", fresh.display(), complete.display()))
}

fn size(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        bytes += match path.is_dir() {
            true => size(&path)?,
            false => fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len(),
        };
    }
    Ok(bytes)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_the_bundle_is_in_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let missing: Vec<&&str> = DATA.iter().chain(GPU).filter(|path| !root.join(path).exists()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
