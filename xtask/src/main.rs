//! The project's chores: `cargo xtask vgpu` makes the virtual GPU ready, `cargo xtask test` runs every test on it,
//! `cargo xtask bundle` and `import` are the way to a real GPU and back; `cargo xtask package` and `dist` make what is published.

mod built;
mod bundle;
mod capi;
mod demo;
mod dist;
mod kernels;
mod library;
mod nvcc;
mod package;
mod rehearsal;
mod rust_version;
mod wheel;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use gpu_run::Outcome;
use gpu_run::import::{self, Import};

use self::bundle::Profile;
use self::wheel::Build;

const HELP: &str = "\
Chores of this workspace.

Usage: cargo xtask <command>

  vgpu          make the virtual GPU ready: nvcc, the library, the test kernels (all under target/)
  test [ARGS]   the same, then `cargo test --locked --no-fail-fast` with ARGS on the virtual GPU; without ARGS --workspace,
                and after it a quick rehearsal of the bundle (at most 3 minutes)
  bundle        make target/bundle: all that a machine with a GPU needs for tests and measurements, which its run.sh
                makes (benches/gpu/README.md), and target/bundle.tar.gz of it; `target/bundle/run.sh --dry` rehearses it here
  bundle --quick
                the same of the builds that `cargo test` has made, in target/bundle-quick
  demo          write crates/demo/demo.int8.safetensors, the model that the package lseg-fast-demo brings: before it is published
  import DIR [--rates]
                a folder of results of run.sh into benches/runs, and docs/gpu.md of all runs; with --rates the
                predictions take over what was measured (src/bench/boards.json)
  import DIR --dry-ok --out FOLDER
                the same into FOLDER, of a rehearsal too
  import        docs/gpu.md anew, of what lies in benches/runs
  rust-version  see whether the oldest Rust that the manifests promise is enough
  package       make the packages for crates.io, unpack them into an empty folder, build and test them there
  dist [--target TRIPLE]
                target/dist: the release's archives (program, manual pages, completions, licences; symbols; library for C), its
                wheel for Python, and SHA256SUMS
  wheel [--fast] [--target TRIPLE]
                target/wheels: the Python package, for Python 3.10 and later on Linux; with --fast as the tests have it
  py-test [ARGS]
                build such a wheel and test it in fresh environments; with ARGS for pytest (-k NAME) its tests alone
  capi [--target TRIPLE]
                target/capi: the library for C and C++ as it is installed (header files, liblseg_fast, CMake, pkg-config)
  capi-test     a quick build of it, and what holds it: gcc and clang, CMake, pkg-config, valgrind, its symbols

nvcc is the one of LSEG_NVCC, CUDA_HOME or PATH; without any, NVIDIA's wheels that kernels/requirements.txt pins are
fetched once with python3 and pip (about 100 MB) into target/cuda; a build with LSEG_NVCC=fetched takes that one.";

/// Where things are.
pub struct Places {
    root: PathBuf,
    /// Cargo's target directory.
    target: PathBuf,
}

impl Places {
    fn find() -> Outcome<Places> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask lies in no workspace")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(chosen) => std::path::absolute(chosen).map_err(|e| format!("CARGO_TARGET_DIR: {e}"))?,
            None => root.join("target"),
        };
        Ok(Places { root, target })
    }

    /// What this tool makes.
    fn vgpu(&self) -> PathBuf {
        self.target.join("vgpu")
    }
}

/// The cargo that runs this.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
}

/// Runs it; its output goes to the terminal.
fn run(command: &mut Command, what: &str) -> Outcome {
    let status = command.status().map_err(|e| format!("{what}: {}: {e}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed ({status})")) }
}

fn make_vgpu(places: &Places) -> Outcome {
    library::build(places)?;
    let nvcc = nvcc::find_or_fetch(places)?;
    kernels::build(places, &nvcc)
}

fn test(places: &Places, arguments: &[String]) -> Outcome {
    library::build(places)?;
    let nvcc = nvcc::find_or_fetch(places).and_then(|nvcc| kernels::build(places, &nvcc).map(|()| nvcc));
    let mut tests = cargo();
    tests.current_dir(&places.root).args(["test", "--locked", "--no-fail-fast"]);
    if arguments.is_empty() {
        tests.arg("--workspace");
    }
    tests.args(arguments);
    tests.env("LD_LIBRARY_PATH", library::search_path(places)?);
    tests.env("VGPU_LIB", places.vgpu().join("libcuda.so"));
    match &nvcc {
        Ok(nvcc) => {
            tests.env("VGPU_KERNELS", kernels::directory(places)).env("LSEG_NVCC", nvcc).env("VGPU_NVCC", nvcc);
        }
        Err(reason) => {
            eprintln!("left out: the tests that compile CUDA. {reason}");
            tests.env_remove("VGPU_KERNELS").env_remove("LSEG_NVCC").env_remove("VGPU_NVCC");
        }
    }
    let mut result = run(&mut tests, "cargo test");
    if arguments.is_empty() && result.is_ok() {
        result = rehearsal::run(places, nvcc.as_deref().ok());
    }
    match (&nvcc, &result) {
        (Err(_), _) => {
            eprintln!("left out: the tests that compile CUDA (there is no nvcc, see above); all others were run.")
        }
        (Ok(nvcc), Ok(())) => eprintln!("passed: every test that was asked for (nvcc: {})", nvcc.display()),
        (Ok(_), Err(_)) => {}
    }
    result
}

/// A folder of results, or none: then the page alone.
fn import(places: &Places, arguments: &[&str]) -> Outcome {
    let (mut from, mut out, mut dry, mut rates) = (None, None, false, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--dry-ok" => dry = true,
            "--rates" => rates = true,
            "--out" => out = Some(words.next().ok_or("--out: the folder is missing")?),
            option if option.starts_with('-') => return Err(format!("import has no option {option:?}")),
            folder => from = Some(folder),
        }
    }
    if dry && out.is_none() {
        return Err(
            "--dry-ok: a rehearsal's numbers do not go into the repository; name another folder with --out".into()
        );
    }
    let root = out.map_or(places.root.as_path(), Path::new);
    let said = match from {
        Some(from) => Import { from: from.as_ref(), root, dry, rates }.run()?,
        None => vec![import::write_page(root)?],
    };
    said.iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn wheel(places: &Places, words: &[&str]) -> Outcome {
    let (build, target) = match words {
        [] => (Build::Release, None),
        ["--fast"] => (Build::Fast, None),
        ["--target", target] => (Build::Release, Some(*target)),
        _ => return Err("wheel takes --fast, or --target TRIPLE".to_owned()),
    };
    wheel::make(places, build, target).map(|_| ())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["vgpu"] => Places::find().and_then(|places| make_vgpu(&places)),
        ["test", ..] => Places::find().and_then(|places| test(&places, &arguments[1..])),
        ["bundle"] => Places::find().and_then(|places| bundle::make(&places, Profile::Release).map(|_| ())),
        ["bundle", "--quick"] => Places::find().and_then(|places| bundle::make(&places, Profile::Dev).map(|_| ())),
        ["bundle", unknown, ..] => Err(format!("bundle has no option {unknown:?}")),
        ["demo"] => Places::find().and_then(|places| demo::write(&places)),
        ["rust-version"] => Places::find().and_then(|places| rust_version::check(&places)),
        ["package"] => Places::find().and_then(|places| package::check(&places)),
        ["dist"] => Places::find().and_then(|places| dist::make(&places, None)),
        ["dist", "--target", target] => Places::find().and_then(|places| dist::make(&places, Some(target))),
        ["wheel", words @ ..] => Places::find().and_then(|places| wheel(&places, words)),
        ["py-test", ..] => Places::find().and_then(|places| wheel::test(&places, &arguments[1..])),
        ["capi"] => Places::find().and_then(|places| capi::make(&places, None).map(|_| ())),
        ["capi", "--target", target] => Places::find().and_then(|places| capi::make(&places, Some(target)).map(|_| ())),
        ["capi-test"] => Places::find().and_then(|places| capi::test(&places)),
        ["package" | "dist" | "rust-version" | "capi" | "capi-test", ..] => {
            Err("dist and capi take --target TRIPLE, package, capi-test and rust-version take nothing".to_owned())
        }
        ["import", words @ ..] => Places::find().and_then(|places| import(&places, words)),
        [unknown, ..] => Err(format!("there is no command {unknown:?}; `cargo xtask` alone lists them")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}
