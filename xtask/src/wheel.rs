//! The Python wheel: built for the oldest Linux that is promised, measured, and tested in fresh environments as its users have them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bundle::{Profile, replace};
use crate::{Outcome, Places, built, dist, library, nvcc, run};

/// The crate.
const CRATE: &str = "crates/lseg-py";
/// The oldest C library: of 2012, and what pip calls it.
const COMPATIBILITY: &str = "manylinux2014";
/// What a wheel may have.
const MOST_BYTES: u64 = 40_000_000;
/// Pythons beside the one at hand that a wheel for 3.10 and later is tried with.
const PYTHONS: &[&str] = &["3.10", "3.11", "3.12", "3.13", "3.14"];

/// How a wheel is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As it is released.
    Release,
    /// The same with the architectures of the bundle's tests.
    Bundle,
    /// For tests: of Cargo.toml's profile for them, and with the architectures that LSEG_CUDA_ARCHS names.
    Fast,
}

impl Build {
    fn profile(self) -> &'static str {
        match self {
            Build::Release | Build::Bundle => "release",
            Build::Fast => "wheel-test",
        }
    }

    /// Of the wheel, under target/wheels.
    fn folder(self) -> &'static str {
        match self {
            Build::Bundle => "bundle",
            Build::Release | Build::Fast => self.profile(),
        }
    }
}

/// target/wheels/lseg_fast-….whl, of this machine or for another.
pub fn make(places: &Places, build: Build, target: Option<&str>) -> Outcome<PathBuf> {
    let tools = tools(places)?;
    let wheels = places.target.join("wheels");
    let folder = wheels.join(build.folder());
    let fresh = places.target.join(format!("wheels.{}", std::process::id()));
    let mut maturin = Command::new(tools.join("bin/maturin"));
    maturin.current_dir(&places.root).args(["build", "--locked", "--zig", "--strip", "--compatibility", COMPATIBILITY]);
    maturin.args(["--profile", build.profile(), "--manifest-path"]).arg(Path::new(CRATE).join("Cargo.toml"));
    maturin.arg("--out").arg(&fresh).env("CARGO_TARGET_DIR", &places.target);
    maturin.env("PATH", path_with(&tools.join("bin"))?).env("LSEG_NVCC", nvcc::find_or_fetch(places)?);
    if let Some(target) = target {
        maturin.args(["--target", target]);
    }
    if build == Build::Release {
        // A release has every architecture, whatever its builder works with.
        maturin.env_remove("LSEG_CUDA_ARCHS").env("CARGO_ENCODED_RUSTFLAGS", dist::remapping(places));
    }
    if build == Build::Bundle {
        maturin.env("LSEG_CUDA_ARCHS", built::TEST_ARCHS);
    }
    run(&mut maturin, "maturin")?;
    fs::create_dir_all(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    replace(&fresh, &folder)?;
    let wheel = only_wheel(&folder)?;
    let bytes = fs::metadata(&wheel).map_err(|e| format!("{}: {e}", wheel.display()))?.len();
    let shown = format!("{}, {:.1} MB", wheel.display(), bytes as f64 / 1e6);
    if bytes > MOST_BYTES {
        return Err(format!("{shown}: at most {} MB are promised", MOST_BYTES / 1_000_000));
    }
    if build == Build::Release {
        refuse_leaks(places, &tools, &wheel)?;
    }
    eprintln!("made {shown}");
    Ok(wheel)
}

/// An error if the library in a wheel names a folder of the builder.
fn refuse_leaks(places: &Places, tools: &Path, wheel: &Path) -> Outcome {
    let unpacked = places.target.join(format!("wheels.{}.unpacked", std::process::id()));
    let mut unpack = Command::new(tools.join("bin/python"));
    unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked);
    let checked = run(&mut unpack, "unpacking the wheel")
        .and_then(|()| dist::refuse_leaks(places, &unpacked.join("lseg_fast/_native.abi3.so")));
    // What was in it is in the wheel.
    let _ = fs::remove_dir_all(&unpacked);
    checked
}

fn only_wheel(folder: &Path) -> Outcome<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut wheels = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "whl"));
    wheels.next().ok_or_else(|| format!("{}: no wheel", folder.display()))
}

/// The environment that builds wheels: what crates/lseg-py/requirements.txt pins. Another pin is another environment.
fn tools(places: &Places) -> Outcome<PathBuf> {
    let pins = places.root.join(CRATE).join("requirements.txt");
    let text = fs::read_to_string(&pins).map_err(|e| format!("{}: {e}", pins.display()))?;
    let complete = places.target.join("wheel-tools");
    let stamp = complete.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == text) {
        return Ok(complete);
    }
    eprintln!("fetching maturin and Zig (110 MB) into {}", complete.display());
    environment("python3", &complete)?;
    let mut install = pip(&complete);
    install.args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&pins);
    run(&mut install, "fetching maturin and Zig with pip")?;
    fs::write(&stamp, &text).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(complete)
}

/// A fresh environment of this Python.
fn environment(python: impl AsRef<std::ffi::OsStr>, place: &Path) -> Outcome {
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(place), "python3 -m venv")
}

/// "pip install" of an environment.
fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip
}

/// PATH with this folder first.
fn path_with(folder: &Path) -> Outcome<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = [folder.to_owned()].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(all).map_err(|e| format!("{}: cannot stand in a path: {e}", folder.display()))
}

/// Builds a wheel and tests it in fresh environments: all tests with the Python at hand, a few calls with others.
pub fn test(places: &Places, arguments: &[String]) -> Outcome {
    library::build(places)?;
    let wheel = make(places, Build::Fast, None)?;
    // The one that `cargo xtask test` has built.
    let nvcc = nvcc::find_or_fetch(places)?;
    let program = built::programs(places, Profile::Dev, Some(&nvcc))?.program;
    let fresh = places.target.join("py-test");
    environment("python3", &fresh)?;
    let pins = places.root.join(CRATE).join("tests/requirements.txt");
    run(pip(&fresh).arg(&wheel).arg("--requirement").arg(&pins), "installing the wheel and what its tests need")?;
    let python = fresh.join("bin/python");
    pytest(places, &python, &[("LSEG_FAST_PROGRAM", &program)], arguments)?;
    if !arguments.is_empty() {
        return Ok(());
    }
    with_torch(places, &fresh)?;
    types(places, &python)?;
    run(Command::new(&python).args(["-m", "abi3audit", "--strict"]).arg(&wheel), "abi3audit")?;
    for (version, python) in other_pythons() {
        let fresh = places.target.join("py-test-other");
        environment(&python, &fresh)?;
        run(pip(&fresh).arg(&wheel), "installing the wheel")?;
        let smoke = places.root.join(CRATE).join("tests/smoke.py");
        run(Command::new(fresh.join("bin/python")).arg(smoke), &format!("the wheel in Python {version}"))?;
    }
    eprintln!("passed: the tests of {}", wheel.display());
    Ok(())
}

/// pytest on the crate's tests, with the virtual GPU's library first.
fn pytest(places: &Places, python: &Path, environment: &[(&str, &Path)], arguments: &[String]) -> Outcome {
    let mut tests = Command::new(python);
    tests
        .current_dir(places.root.join(CRATE))
        .args(["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"])
        .args(arguments);
    tests.env("LD_LIBRARY_PATH", library::search_path(places)?);
    tests.env_remove("PYTHONPATH");
    tests.envs(environment.iter().copied());
    run(&mut tests, "pytest")
}

/// The tests with PyTorch, where the environment of the golden networks has it: it is too large to be fetched for them.
fn with_torch(places: &Places, fresh: &Path) -> Outcome {
    let golden = places.root.join("tests/golden/.venv/bin/python");
    let version = |python: &Path| {
        let mut asked = Command::new(python);
        asked.args(["-c", "import sys, sysconfig; print(sys.version_info[:2], sysconfig.get_path('purelib'))"]);
        let said = asked.output().ok().filter(|said| said.status.success())?;
        let (version, folder) = String::from_utf8(said.stdout)
            .ok()?
            .trim()
            .rsplit_once(' ')
            .map(|(version, folder)| (version.to_owned(), PathBuf::from(folder)))?;
        Some((version, folder))
    };
    let (Some((theirs, packages)), Some((ours, _))) = (version(&golden), version(&fresh.join("bin/python"))) else {
        eprintln!("left out: the tests with PyTorch (tests/golden/README.md says how to make its environment)");
        return Ok(());
    };
    if theirs != ours {
        eprintln!("left out: the tests with PyTorch (it is there for Python {theirs}, and the tests have {ours})");
        return Ok(());
    }
    let arguments = ["tests/test_torch.py", "tests/gpu"].map(str::to_owned);
    pytest(places, &fresh.join("bin/python"), &[("PYTHONPATH", &packages)], &arguments)
}

/// The types as users' checkers see them, and whether they are the module's.
fn types(places: &Places, python: &Path) -> Outcome {
    let folder = places.root.join(CRATE);
    let cache = places.target.join("mypy");
    let mut mypy = Command::new(python);
    mypy.current_dir(&folder).args(["-m", "mypy", "--strict", "--no-error-summary", "--cache-dir"]).arg(&cache);
    run(mypy.args(["tests/typed.py", "python/lseg_fast/adapters.py", "python/lseg_fast/errors.py"]), "mypy --strict")?;
    let mut stubtest = Command::new(python);
    // Its own scratch folder is where it runs.
    stubtest.current_dir(&places.target).args(["-m", "mypy.stubtest", "--concise", "lseg_fast._native"]);
    run(&mut stubtest, "stubtest")
}

/// Those of [`PYTHONS`] that are found, in PATH or where pyenv keeps them, but for the one at hand.
fn other_pythons() -> Vec<(String, PathBuf)> {
    let version = |python: &Path| {
        let said =
            Command::new(python).args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).output().ok()?;
        said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let at_hand = version(Path::new("python3"));
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home);
    let kept = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok()).into_iter().flatten();
    let kept: Vec<PathBuf> = kept.filter_map(|entry| Some(entry.ok()?.path().join("bin/python"))).collect();
    let in_path = PYTHONS.iter().map(|name| PathBuf::from(format!("python{name}")));
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for python in in_path.chain(kept) {
        let Some(version) = version(&python) else { continue };
        let is_new = PYTHONS.contains(&version.as_str()) && Some(&version) != at_hand.as_ref();
        if is_new && found.iter().all(|(known, _)| *known != version) {
            found.push((version, python));
        }
    }
    found.sort();
    found
}
