//! What the tests of the library for C run: a second compiler, CMake, valgrind. What a machine has is taken; else PyPI's wheels that
//! crates/lseg-c/tests/requirements.txt pins are fetched once, into target/capi-tools.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::package;
use crate::{Outcome, Places, run};

pub struct Tools {
    /// clang and its first arguments, for C and for C++.
    pub clang: [Vec<OsString>; 2],
    pub cmake: PathBuf,
    pub valgrind: Option<PathBuf>,
}

impl Tools {
    pub fn find(places: &Places) -> Outcome<Tools> {
        let wheels = places.target.join("capi-tools");
        let (clang, cmake) = (installed("clang"), installed("cmake"));
        if clang.is_none() || cmake.is_none() {
            fetch(places, &wheels)?;
        }
        let zig = wheels.join("ziglang/zig");
        let clang = match clang {
            Some(_) => [vec!["clang".into()], vec!["clang++".into()]],
            None => ["cc", "c++"].map(|word| vec![zig.clone().into(), word.into()]),
        };
        let cmake = cmake.unwrap_or(wheels.join("cmake/data/bin/cmake"));
        Ok(Tools { clang, cmake, valgrind: valgrind()? })
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Once for each change of the pins.
fn fetch(places: &Places, wheels: &std::path::Path) -> Outcome {
    let pins = package(places).join("tests/requirements.txt");
    let text = fs::read_to_string(&pins).map_err(|e| format!("{}: {e}", pins.display()))?;
    let stamp = wheels.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == text) {
        return Ok(());
    }
    eprintln!("no clang or no cmake in PATH: fetching PyPI's into {}", wheels.display());
    if wheels.exists() {
        fs::remove_dir_all(wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    pip.arg("--root-user-action=ignore").arg("--require-hashes").arg("--requirement").arg(&pins);
    run(pip.arg("--target").arg(wheels), "fetching clang and cmake with python3 -m pip")
        .map_err(|reason| format!("{reason}; install them (Debian: clang, cmake)"))?;
    fs::write(&stamp, text).map_err(|e| format!("{}: {e}", stamp.display()))
}

/// The machine's; CI (the variable CI is set) installs it, others go on without.
fn valgrind() -> Outcome<Option<PathBuf>> {
    let found = installed("valgrind");
    if found.is_some() || std::env::var_os("CI").is_none() {
        return Ok(found);
    }
    let mut apt = Command::new("apt-get");
    run(apt.args(["install", "--yes", "--quiet", "--no-install-recommends", "valgrind"]), "installing valgrind")?;
    installed("valgrind").map(Some).ok_or("apt-get has installed valgrind, but it is not in PATH".to_owned())
}
