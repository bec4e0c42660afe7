//! target/dist: what a release offers for download. An archive with the program, its manual pages, shell completions and the
//! licences of all that is inside, one with its symbols, one with the library for C, the wheel for Python, and their checksums.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::ZlibDecoder;

use crate::bundle::{copy, replace, write};
use crate::{Outcome, Places, capi, cargo, nvcc, run, wheel};

/// Files of the repository, and their places in the archive.
const FILES: &[(&str, &str)] = &[
    ("README.md", "README.md"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
    ("docs/licences/THIRD-PARTY.md", "licences/THIRD-PARTY.md"),
    ("weights/fonts/DejaVuSans-LICENSE.txt", "licences/DejaVuSans.txt"),
    ("weights/fonts/Unifont-LICENSE.txt", "licences/Unifont.txt"),
    ("weights/vocab/LICENSE", "licences/CLIP-vocabulary.txt"),
    ("weights/train/README.md", "licences/demo-model.md"),
];
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A release with its symbols in it, of Cargo.toml.
const PROFILE: &str = "symbols";
/// How a zlib stream begins that was compressed as well as can be: build.rs makes such of the kernels' images.
const ZLIB: [u8; 2] = [0x78, 0xDA];

pub fn make(places: &Places, target: Option<&str>) -> Outcome {
    let release = Release::of(target)?;
    let Release { host, target, .. } = &release;
    let changed = said(Command::new("git").current_dir(&places.root).args(["status", "--porcelain"]))?;
    if !changed.is_empty() {
        return Err(format!("a release is of a commit, and these files are not committed:\n{}", changed.trim_end()));
    }
    // Before the build: others may commit meanwhile.
    let commit = said(Command::new("git").current_dir(&places.root).args(["rev-parse", "--short=12", "HEAD"]))?;
    let mut build = release.cargo(places)?;
    run(build.args(["--package", "lseg-fast", "--bin", "lseg-fast", "--features", "serve"]), "building the program")?;
    let program = release.folder(places).join("lseg-fast");
    let wheel = wheel::make(places, wheel::Build::Release, Some(target))?;
    let folder = places.target.join("dist");
    let name = format!("lseg-fast-{VERSION}-{target}");
    let contents = [name.clone(), format!("{name}-symbols"), format!("lseg-fast-c-{VERSION}-{target}")];
    let fresh = places.target.join(format!("dist.{}", std::process::id()));
    let stripped = fresh.join(&name).join("lseg-fast");
    let made = fill(places, &release, &program, &fresh.join(&name), &fresh.join(format!("{name}-symbols")))
        .and_then(|()| refuse_leaks(places, &stripped))
        .and_then(|()| refuse_stale(commit.trim(), started(&stripped, host, target)))
        .and_then(|()| capi::install(places, Some(target), &fresh.join(&contents[2])))
        .and_then(|()| pack(places, &fresh, &contents, &folder))
        .and_then(|()| copy(&wheel, &folder.join(wheel.file_name().unwrap_or_default())))
        .and_then(|()| sums(&folder));
    // The archives have all of it; of a failure nothing is of use.
    let _ = fs::remove_dir_all(&fresh);
    made
}

/// The licences of all that is inside, and their places beside it.
pub fn licences() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES
        .iter()
        .copied()
        .filter(|(from, _)| from.contains("LICENSE") || from.contains("licences") || from.contains("train"))
}

/// What builds for a machine, this one or another.
pub struct Release {
    host: String,
    target: String,
    linker: Option<String>,
    objcopy: Objcopy,
}

impl Release {
    /// # Errors
    /// A linker, Rust's library or a tool for that machine is not here.
    pub fn of(target: Option<&str>) -> Outcome<Release> {
        let host = said(rustc().arg("-vV"))?;
        let host = host.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
        let target = target.unwrap_or(host);
        let linker = if target == host { None } else { Some(linker(target)?) };
        let objcopy = Objcopy::find(host, target)?;
        Ok(Release { host: host.to_owned(), target: target.to_owned(), linker, objcopy })
    }

    /// A build with symbols, and without the builder's folders in its messages: cargo has no setting for that yet.
    pub fn cargo(&self, places: &Places) -> Outcome<Command> {
        let mut build = cargo();
        build.current_dir(&places.root).args(["build", "--locked", "--profile", PROFILE, "--target", &self.target]);
        build.env("CARGO_ENCODED_RUSTFLAGS", remapping(places)).env("LSEG_NVCC", nvcc::find_or_fetch(places)?);
        // A release has every architecture, whatever its builder works with.
        build.env_remove("LSEG_CUDA_ARCHS");
        if let Some(linker) = &self.linker {
            build.env(variable(&self.target, "LINKER"), linker);
        }
        Ok(build)
    }

    /// Where cargo puts it.
    pub fn folder(&self, places: &Places) -> PathBuf {
        places.target.join(&self.target).join(PROFILE)
    }

    /// The program that takes symbols out of what was built.
    pub fn objcopy(&self) -> Command {
        self.objcopy.command()
    }
}

/// What the command says on stdout.
fn said(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{name}: {e}"))
}

/// The compiler that cargo takes.
fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
}

/// Cargo's setting of a target: "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER".
fn variable(target: &str, setting: &str) -> String {
    format!("CARGO_TARGET_{}_{setting}", target.to_uppercase().replace('-', "_"))
}

/// A GNU tool for another machine, as distributions call it: "aarch64-linux-gnu-gcc".
fn gnu(target: &str, tool: &str) -> String {
    format!("{}-{tool}", target.replace("-unknown", ""))
}

/// A linker for another machine, once it is sure that Rust's library for it is there too.
fn linker(target: &str) -> Outcome<String> {
    let library = said(rustc().args(["--print", "target-libdir", "--target", target]))?;
    if !Path::new(library.trim()).is_dir() {
        return Err(format!(
            "Rust's standard library for {target} is not in {}; `rustup target add {target}` fetches it, or RUSTC names a compiler \
             that has it",
            library.trim()
        ));
    }
    let variable = variable(target, "LINKER");
    if let Ok(named) = std::env::var(&variable) {
        return Ok(named);
    }
    let usual = gnu(target, "gcc");
    match Command::new(&usual).arg("--version").output() {
        Ok(_) => Ok(usual),
        Err(e) => Err(format!(
            "no linker for {target}: {usual}: {e}; install it (Debian: gcc-aarch64-linux-gnu for aarch64) or name another with \
             {variable}"
        )),
    }
}

/// Flags for rustc, as cargo takes them encoded, that keep the builder's folders out of messages.
pub fn remapping(places: &Places) -> String {
    let mut flags =
        std::env::var("RUSTFLAGS").unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // Of several that fit, rustc takes the last.
    for (folder, name) in folders(places).iter().zip(["home", "cargo", "lseg-fast"]) {
        flags.push(format!("--remap-path-prefix={folder}={name}"));
    }
    flags.join("\u{1f}")
}

/// What nobody else needs to know: the builder's home, cargo's, and this checkout.
fn folders(places: &Places) -> [String; 3] {
    let home = std::env::var("HOME").unwrap_or("/home".to_owned());
    let cargo = std::env::var("CARGO_HOME").unwrap_or(format!("{home}/.cargo"));
    [home, cargo, places.root.display().to_string()]
}

fn fill(places: &Places, release: &Release, program: &Path, folder: &Path, symbols: &Path) -> Outcome {
    let (stripped, debug) = (folder.join("lseg-fast"), symbols.join("lseg-fast.debug"));
    copy(program, &stripped)?;
    fs::create_dir_all(symbols).map_err(|e| format!("{}: {e}", symbols.display()))?;
    run(release.objcopy().arg("--only-keep-debug").arg(program).arg(&debug), "objcopy")?;
    let link = format!("--add-gnu-debuglink={}", debug.display());
    run(release.objcopy().arg("--strip-all").arg(link).arg(&stripped), "objcopy")?;
    for (from, to) in FILES {
        copy(&places.root.join(from), &folder.join(to))?;
    }
    let mut manual = cargo();
    manual.current_dir(&places.root).args(["run", "--quiet", "--locked", "--package", "manual", "--"]).arg(folder);
    run(&mut manual, "writing the manual pages")
}

/// The program that takes symbols out of another.
struct Objcopy {
    program: PathBuf,
    /// Where it finds its libraries, if not where all do.
    libraries: Option<PathBuf>,
}

impl Objcopy {
    /// The one of Rust's own LLVM, which knows every machine that rustc builds for; a distribution's Rust has none.
    fn find(host: &str, target: &str) -> Outcome<Objcopy> {
        let sysroot = PathBuf::from(said(rustc().args(["--print", "sysroot"]))?.trim());
        let rusts = sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
        if rusts.is_file() {
            return Ok(Objcopy { program: rusts, libraries: Some(sysroot.join("lib")) });
        }
        let usual = if target == host { "objcopy".to_owned() } else { gnu(target, "objcopy") };
        match Command::new(&usual).arg("--version").output() {
            Ok(_) => Ok(Objcopy { program: usual.into(), libraries: None }),
            Err(e) => Err(format!(
                "nothing takes the symbols out of a program of {target}: there is no {}, and {usual}: {e}; install it (Debian: \
                 binutils, binutils-aarch64-linux-gnu for aarch64)",
                rusts.display()
            )),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// An error if the program, or a kernel's image in it, names a folder of the builder.
pub fn refuse_leaks(places: &Places, program: &Path) -> Outcome {
    let bytes = fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
    let found = folders(places).into_iter().find_map(|folder| leak(&bytes, &format!("{folder}/")));
    found.map_or(Ok(()), |text| Err(format!("{} names the builder's folders: {text}", program.display())))
}

/// Where a program, or a zlib stream in it, has this text: the text with what follows it.
fn leak(program: &[u8], text: &str) -> Option<String> {
    let found = |bytes: &[u8]| {
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        let end = (at + 100).min(bytes.len());
        Some(String::from_utf8_lossy(&bytes[at..end]).into_owned())
    };
    let streams = program.windows(2).enumerate().filter(|(_, window)| *window == ZLIB);
    found(program).or_else(|| {
        streams.map(|(at, _)| at).find_map(|at| {
            let mut stream = Vec::new();
            // What only looks like a stream ends with an error, after what it gave.
            let _ = ZlibDecoder::new(&program[at..]).read_to_end(&mut stream);
            found(&stream)
        })
    })
}

/// What starts the program on this machine: itself, or an emulator that cargo's settings name.
fn started(program: &Path, host: &str, target: &str) -> Option<Command> {
    if target == host {
        return Some(Command::new(program));
    }
    let variable = variable(target, "RUNNER");
    let Ok(runner) = std::env::var(&variable) else {
        eprintln!("not started: the program is of another machine, and {variable} names no emulator of it");
        return None;
    };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next()?);
    command.args(words).arg(program);
    Some(command)
}

/// Has the program say what it is, where it can be started: it must be of this commit.
fn refuse_stale(commit: &str, started: Option<Command>) -> Outcome {
    let Some(mut program) = started else { return Ok(()) };
    let says = said(program.arg("--version"))?;
    eprint!("{says}");
    if says.contains(commit) { Ok(()) } else { Err(format!("the program is not of commit {commit}")) }
}

/// The folders as archives.
fn pack(places: &Places, fresh: &Path, contents: &[String], folder: &Path) -> Outcome {
    // The commit's time: the same commit gives the same archive.
    let time = said(Command::new("git").current_dir(&places.root).args(["log", "-1", "--format=@%ct"]))?;
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for content in contents {
        let archive = format!("{content}.tar.xz");
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]);
        tar.arg(format!("--mtime={}", time.trim()))
            .arg("-C")
            .arg(fresh)
            .arg("-cJf")
            .arg(fresh.join(&archive))
            .arg(content);
        run(&mut tar, "tar (with xz)")?;
        replace(&fresh.join(&archive), &folder.join(&archive))?;
        let bytes = fs::metadata(folder.join(&archive)).map_err(|e| format!("{archive}: {e}"))?.len();
        eprintln!("made {}, {:.1} MiB", folder.join(&archive).display(), bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// The checksums of all that is there of this version.
fn sums(folder: &Path) -> Outcome {
    let is_ours = |file: &str| {
        ["lseg-fast", "lseg-fast-c", "lseg_fast"].iter().any(|name| file.starts_with(&format!("{name}-{VERSION}-")))
    };
    let mut archives: Vec<String> = fs::read_dir(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| is_ours(file))
        .collect();
    archives.sort();
    let sums = said(Command::new("sha256sum").current_dir(folder).arg("--").args(&archives))?;
    write(&folder.join("SHA256SUMS"), &sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use std::io::Write;

    #[test]
    fn what_goes_into_the_archive_is_in_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let missing: Vec<_> = FILES.iter().filter(|(from, _)| !root.join(from).is_file()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_folder_is_found_in_the_program_and_in_what_it_has_compressed() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(b".file 1 \"/home/me/kernels/gemm.cu\"").unwrap();
        let packed = encoder.finish().unwrap();
        let inside = [&b"some code\x78\xDAno stream"[..], &packed, b"more"].concat();
        assert!(leak(&inside, "/home/me/").is_some_and(|text| text.starts_with("/home/me/kernels/gemm.cu")));
        assert!(leak(b"panicked at /home/me/x.rs", "/home/me/").is_some());
        assert_eq!(leak(&inside, "/home/you/"), None);
    }

    #[test]
    fn another_machines_tools_have_the_usual_names() {
        let target = "aarch64-unknown-linux-gnu";
        assert_eq!(gnu(target, "objcopy"), "aarch64-linux-gnu-objcopy");
        assert_eq!(variable(target, "RUNNER"), "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER");
    }

    #[test]
    fn what_an_emulator_says_is_held_against_the_commit() {
        let emulator = |says: &str| {
            let mut echo = Command::new("echo");
            echo.arg(says);
            Some(echo)
        };
        assert_eq!(refuse_stale("0123abc", emulator("commit: 0123abc")), Ok(()));
        assert!(refuse_stale("0123abc", emulator("commit: 4567def")).is_err());
        assert_eq!(refuse_stale("0123abc", None), Ok(()));
    }

    #[test]
    fn another_machine_needs_what_is_named() {
        let reason = linker("aarch64-unknown-none-softfloat").unwrap_err();
        assert!(reason.contains("rustup target add aarch64-unknown-none-softfloat"), "{reason}");
    }
}
