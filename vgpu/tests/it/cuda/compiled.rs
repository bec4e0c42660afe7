//! Kernels of tests/kernels that a test compiles itself, with options.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library::sources;

/// A file of tests/kernels and the macros it is compiled with.
#[derive(Clone, Debug)]
pub struct Variant {
    pub file: &'static str,
    pub number: u32,
    /// Further `-D…`.
    pub options: &'static [&'static str],
}

/// nvcc's options for the GPU that a file is for.
pub fn target(file: &str) -> &'static [&'static str] {
    if file.starts_with("hopper") {
        &["-ptx", "-gencode", "arch=compute_90a,code=compute_90a", "-std=c++17", "-lineinfo"]
    } else {
        &["-ptx", "-arch=compute_80", "-std=c++17", "-lineinfo"]
    }
}

impl Variant {
    /// Its PTX, compiled when the sources are other than last time.
    pub fn compile(&self, nvcc: &Path, into: &Path) -> PathBuf {
        let source = sources().join(format!("{}.cu", self.file));
        let headers = ["mutants.cuh", "instructions.cuh", "hopper.cuh"].map(|header| sources().join(header));
        let mut hasher = DefaultHasher::new();
        for file in std::iter::once(&source).chain(&headers) {
            std::fs::read(file).expect("a source").hash(&mut hasher);
        }
        (nvcc, self.options).hash(&mut hasher);
        let ptx = into.join(format!("{}-{}-{:016x}.ptx", self.file, self.number, hasher.finish()));
        if !ptx.is_file() {
            let part = ptx.with_extension(format!("{}.part", std::process::id()));
            let mut compile = Command::new(nvcc);
            compile.args(target(self.file)).arg(format!("-DMUTANT={}", self.number)).args(self.options);
            let output = compile.arg(&source).arg("-o").arg(&part).output().expect("nvcc starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::rename(&part, &ptx).expect("its place");
        }
        ptx
    }
}

/// Two at a time: nvcc takes half a gigabyte each.
pub fn compile_all(variants: &[Variant], nvcc: &Path, into: &Path) {
    std::fs::create_dir_all(into).expect("a directory");
    std::thread::scope(|scope| {
        let compile = |odd| variants.iter().skip(odd).step_by(2).for_each(|v| drop(v.compile(nvcc, into)));
        scope.spawn(move || compile(0));
        scope.spawn(move || compile(1));
    });
}
