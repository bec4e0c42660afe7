//! The test programs: compiled, started, and what they say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use super::package;
use super::tools::Tools;
use crate::{Outcome, Places};

/// A compiler with the warnings that are errors, and how its programs are told apart.
pub struct Compiler {
    pub name: &'static str,
    command: Vec<OsString>,
    pub is_cpp: bool,
    /// Zig would compile a C++ library of its own first, for minutes: its C++ is compiled alone.
    pub links: bool,
}

const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-g", "-O1"];
const C: &[&str] = &["-std=c11", "-Wstrict-prototypes"];
const CPP: &[&str] = &["-std=c++17"];
const CPP_BARE: &[&str] = &["-std=c++17", "-fno-exceptions", "-fno-rtti"];

/// gcc and clang, C and C++, with and without exceptions.
pub fn compilers(tools: &Tools) -> Vec<Compiler> {
    let of = |name, first: &[OsString], options: &[&str], is_cpp| Compiler {
        name,
        command: first.iter().cloned().chain(options.iter().chain(WARNINGS).map(OsString::from)).collect(),
        is_cpp,
        links: !is_cpp || !first[0].to_string_lossy().ends_with("zig"),
    };
    let [clang, clangpp] = &tools.clang;
    vec![
        of("gcc", &["gcc".into()], C, false),
        of("clang", clang, C, false),
        of("g++", &["g++".into()], CPP, true),
        of("clang++", clangpp, CPP, true),
        of("g++-bare", &["g++".into()], CPP_BARE, true),
        of("clang++-bare", clangpp, CPP_BARE, true),
    ]
}

/// Where the programs of one run are.
pub struct Workshop<'a> {
    pub places: &'a Places,
    /// The library as it is installed.
    pub prefix: PathBuf,
    pub folder: PathBuf,
}

impl Workshop<'_> {
    /// Compiles a source into a program that finds the shared library.
    pub fn compile(&self, compiler: &Compiler, source: &Path, name: &str, more: &[&str]) -> Outcome<PathBuf> {
        let program = self.folder.join(format!("{name}.{}", compiler.name));
        let (include, library) = (self.prefix.join("include"), self.prefix.join("lib"));
        let mut command = Command::new(&compiler.command[0]);
        command.args(&compiler.command[1..]).args(more).arg(format!("-DVERSION=\"{}\"", env!("CARGO_PKG_VERSION")));
        command
            .arg("-I")
            .arg(include)
            .arg("-I")
            .arg(package(self.places).join("tests"))
            .arg(source)
            .arg("-o")
            .arg(&program);
        command.arg("-L").arg(&library).arg("-llseg_fast").arg(format!("-Wl,-rpath,{}", library.display()));
        command.args(["-lm", "-lpthread", "-ldl"]);
        self.zig_cache(&mut command);
        if !compiler.links {
            command.args(["-c", "-Wno-unused-command-line-argument"]);
        }
        said(&mut command, &format!("{} {}", compiler.name, source.display()))?;
        Ok(program)
    }

    /// Zig keeps what it has compiled of its own; nowhere but under target/.
    pub fn zig_cache(&self, command: &mut Command) {
        let cache = self.places.target.join("capi-tools-cache");
        command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
    }
}

/// Runs it; what it says on stdout. Where it fails all that it said is the reason.
pub fn said(command: &mut Command, what: &str) -> Outcome<String> {
    let Output { status, stdout, stderr } = command.output().map_err(|e| format!("{what}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if status.success() {
        Ok(text(&stdout))
    } else {
        Err(format!("{what}: {status}\n{}{}", text(&stdout), text(&stderr)))
    }
}

/// Does one part of the tests, and says how long it took.
pub fn part<T>(name: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    let done = work()?;
    eprintln!("passed in {:.1} s: {name}", start.elapsed().as_secs_f64());
    Ok(done)
}
