//! The library for C as it is installed: header files, liblseg_fast.so and .a, what CMake and pkg-config read, licences.

mod programs;
mod test;
mod tools;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::bundle::{copy, write};
use crate::{Outcome, Places, cargo, dist, nvcc, run};

pub use self::test::test;

/// What a static link needs besides: of `rustc --print native-static-libs`.
const NATIVE: &[&str] = &["gcc_s", "util", "rt", "pthread", "m", "dl"];
const SONAME: &str = "liblseg_fast.so.1";
const HEADERS: &[&str] = &["lseg_fast.h", "lseg_fast.hpp"];

/// Where the package lies.
fn package(places: &Places) -> PathBuf {
    places.root.join("crates/lseg-c")
}

/// A release for this or another machine, under target/capi.
pub fn make(places: &Places, target: Option<&str>) -> Outcome<PathBuf> {
    let prefix = places.target.join("capi");
    install(places, target, &prefix)?;
    Ok(prefix)
}

/// A release for this or another machine, stripped, into an empty folder.
pub fn install(places: &Places, target: Option<&str>, prefix: &Path) -> Outcome {
    let release = dist::Release::of(target)?;
    let mut build = release.cargo(places)?;
    build.args(["--package", "lseg-c"]);
    run(&mut build, "building the library for C")?;
    lay_out(places, &release.folder(places), prefix)?;
    let library = prefix.join("lib");
    run(release.objcopy().arg("--strip-all").arg(library.join(SONAME)), "objcopy")?;
    run(release.objcopy().arg("--strip-debug").arg(library.join("liblseg_fast.a")), "objcopy")?;
    dist::refuse_leaks(places, &library.join(SONAME))?;
    for name in [SONAME, "liblseg_fast.a"] {
        let bytes = fs::metadata(library.join(name)).map_err(|e| format!("{name}: {e}"))?.len();
        eprintln!("made {}, {:.1} MiB", library.join(name).display(), bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// The same of a quick build, with symbols, for tests: cargo's dev profile, kernels as PTX alone.
fn install_dev(places: &Places, prefix: &Path) -> Outcome {
    let mut build = cargo();
    build.current_dir(&places.root).args(["build", "--locked", "--package", "lseg-c"]);
    match nvcc::find_or_fetch(places) {
        Ok(nvcc) => build.env("LSEG_NVCC", nvcc).env("LSEG_CUDA_ARCHS", "ptx"),
        Err(reason) => {
            eprintln!("left out: CUDA kernels. {reason}");
            build.env_remove("LSEG_NVCC")
        }
    };
    run(&mut build, "building the library for C")?;
    lay_out(places, &places.target.join("debug"), prefix)
}

/// Puts what cargo has built in `from`, and what goes with it, where a system has it.
fn lay_out(places: &Places, from: &Path, prefix: &Path) -> Outcome {
    if prefix.exists() {
        fs::remove_dir_all(prefix).map_err(|e| format!("{}: {e}", prefix.display()))?;
    }
    let (package, library) = (package(places), prefix.join("lib"));
    for header in HEADERS {
        copy(&package.join("include").join(header), &prefix.join("include").join(header))?;
    }
    copy(&from.join("liblseg_c.so"), &library.join(SONAME))?;
    copy(&from.join("liblseg_c.a"), &library.join("liblseg_fast.a"))?;
    symlink(SONAME, library.join("liblseg_fast.so")).map_err(|e| format!("{}: {e}", library.display()))?;
    for name in ["lseg_fast-config.cmake", "lseg_fast-config-version.cmake"] {
        fill(&package.join("cmake").join(name), &library.join("cmake/lseg_fast").join(name), ";")?;
    }
    fill(&package.join("pkgconfig/lseg_fast.pc.in"), &library.join("pkgconfig/lseg_fast.pc"), " ")?;
    copy(&places.root.join("docs/c.md"), &prefix.join("share/doc/lseg_fast/c.md"))?;
    for (from, to) in dist::licences() {
        copy(&places.root.join(from), &prefix.join("share/licenses/lseg_fast").join(to))?;
    }
    Ok(())
}

/// A template, with what it leaves open: @VERSION@, @MAJOR_MINOR@, and @LIBS@ with this between two of them.
fn fill(template: &Path, place: &Path, between: &str) -> Outcome {
    let text = fs::read_to_string(template).map_err(|e| format!("{}: {e}", template.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    let libraries: Vec<String> = NATIVE.iter().map(|name| format!("-l{name}")).collect();
    let text = text.replace("@VERSION@", version).replace("@MAJOR_MINOR@", minor);
    let text = text.replace("@LIBS@", &libraries.join(between));
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    }
    write(place, &text)
}
