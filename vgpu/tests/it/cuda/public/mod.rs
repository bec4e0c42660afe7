//! Kernels that nobody here wrote, compared with the CPU references that their authors wrote beside them.
//!
//! VGPU_PUBLIC_SOURCES names a directory with checkouts of the repositories that tests/public/fetch.sh lists; nothing of them is
//! part of this repository. Kernels and references are taken out of their files word by word: the programs around them need
//! libraries (cuBLAS, the CUDA runtime, PyTorch) that have no place here. What their host code does for a launch (tensor maps,
//! sizes) the tests do as it does.

#![allow(unsafe_code)]

mod cuda_samples;
mod deep_gemm;
mod fast_cu;
mod flash_attention_3;
mod integers;
mod llm_c;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::Library;
use vgpu_cuda::fault::Check;

use super::gpu::{Counts, Refused};
use super::hopper_kernels::SIX_SCHEDULES;
use crate::children::{SCHEDULES, in_children};
use crate::library::{kernels_directory, nvcc};

const GROUPS: &str = "#include <cooperative_groups.h>\n#include <cooperative_groups/reduce.h>\n\
                      namespace cg = cooperative_groups;\n";

/// Where the sources, nvcc and the results are.
struct Workshop {
    sources: PathBuf,
    nvcc: PathBuf,
    made: tempfile::TempDir,
}

impl Workshop {
    /// For programs of these repositories.
    fn open(repositories: &[&str]) -> Option<Workshop> {
        kernels_directory()?;
        let Some(sources) = std::env::var_os("VGPU_PUBLIC_SOURCES").map(PathBuf::from) else {
            eprintln!("skipped: VGPU_PUBLIC_SOURCES names no directory as tests/public/fetch.sh makes it");
            return None;
        };
        if let Some(missing) = repositories.iter().find(|repository| !sources.join(repository).is_dir()) {
            eprintln!("skipped: {} has no {missing}", sources.display());
            return None;
        }
        Some(Workshop { sources, nvcc: nvcc()?, made: tempfile::tempdir().expect("a directory") })
    }

    /// Of a file, the definition that starts at each of `starts`, to its closing brace in the first column (`#` lines
    /// and one-line definitions: that line).
    fn take(&self, file: &str, starts: &[&str]) -> String {
        let path = self.sources.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut taken = String::new();
        for start in starts {
            let from = text.find(start).unwrap_or_else(|| panic!("{file} has no {start:?}"));
            let rest = &text[from..];
            let line_end = rest.find('\n').unwrap_or(rest.len());
            let one_line = start.starts_with('#') || rest[..line_end].trim_end().ends_with([';', '}']);
            let end = if one_line { line_end } else { rest.find("\n}").map_or(rest.len(), |e| e + 2) };
            taken.push_str(&rest[..end]);
            taken.push_str(if start.starts_with("template <class T> struct") { ";\n" } else { "\n" });
        }
        taken
    }

    fn kernels(&self, name: &str, text: &str) -> PathBuf {
        let (source, ptx) = (self.made.path().join(format!("{name}.cu")), self.made.path().join(format!("{name}.ptx")));
        std::fs::write(&source, text).expect("written");
        let mut compile = Command::new(&self.nvcc);
        compile.args(["-ptx", "-arch=compute_80", "-std=c++17", "-lineinfo", "-w"]).arg(&source).arg("-o").arg(&ptx);
        succeed(compile);
        ptx
    }

    /// A place that outlives this process, for what takes long to compile; named after the text and the options.
    fn kept(&self, name: &str, texts: &[&str], options: &[String]) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (texts, options, &self.nvcc).hash(&mut hasher);
        let kernels = kernels_directory().expect("it was there");
        kernels.with_file_name("public").join(format!("{name}-{:016x}", hasher.finish()))
    }

    /// For compute capability 9.0, with further options.
    fn hopper(&self, name: &str, text: &str, options: &[String]) -> PathBuf {
        let kept = self.kept(name, &[text], options);
        let ptx = kept.join("kernels.ptx");
        if !ptx.is_file() {
            let source = self.write(&kept, "kernels.cu", text);
            let part = kept.join("part");
            let mut compile = self.nvcc_for_hopper(options);
            compile.arg("-ptx").arg(source).arg("-o").arg(&part);
            succeed(compile);
            std::fs::rename(part, &ptx).expect("its place");
        }
        ptx
    }

    /// A shared library with host code, beside it `runtime`, which is in the CUDA runtime's place; and the kernels' PTX.
    fn host_and_kernels(&self, name: &str, text: &str, runtime: &str, options: &[String]) -> (PathBuf, PathBuf) {
        let kept = self.kept(name, &[text, runtime], options);
        let (library, ptx) = (kept.join("host.so"), kept.join("host.ptx"));
        if !library.is_file() {
            let (host, runtime) = (self.write(&kept, "host.cu", text), self.write(&kept, "runtime.cpp", runtime));
            let part = kept.join("part");
            let mut compile = self.nvcc_for_hopper(options);
            compile.args(["-shared", "-Xcompiler", "-fPIC", "--cudart", "none", "--keep", "--keep-dir"]).arg(&kept);
            compile.arg(host).arg(runtime).arg("-o").arg(&part);
            succeed(compile);
            std::fs::rename(part, &library).expect("its place");
        }
        (library, ptx)
    }

    fn write(&self, directory: &Path, name: &str, text: &str) -> PathBuf {
        std::fs::create_dir_all(directory).expect("a directory");
        let path = directory.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn nvcc_for_hopper(&self, options: &[String]) -> Command {
        let mut compile = Command::new(&self.nvcc);
        compile.args(["-gencode", "arch=compute_90a,code=compute_90a", "-lineinfo", "-w"]).args(options);
        compile
    }

    fn reference(&self, name: &str, text: &str) -> Library {
        let (source, library) =
            (self.made.path().join(format!("{name}.cpp")), self.made.path().join(format!("{name}.so")));
        let prelude = "#include <assert.h>\n#include <math.h>\n#include <stddef.h>\ntypedef unsigned int uint;\n";
        std::fs::write(&source, format!("{prelude}{text}")).expect("written");
        let mut compile = Command::new("c++");
        compile.args(["-O1", "-w", "-shared", "-fPIC"]).arg(&source).arg("-o").arg(&library);
        succeed(compile);
        // SAFETY: plain functions without initialisers.
        unsafe { Library::new(&library) }.expect("loads")
    }
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The mangled name of the kernel in a module.
fn entry(module: &Path, kernel: &str) -> String {
    let text = std::fs::read_to_string(module).expect("PTX");
    let names = text.lines().filter_map(|l| l.split_once(".entry ").map(|(_, name)| name.trim_end_matches('(')));
    let mut found = names.filter(|n| n.contains(kernel));
    found.next().unwrap_or_else(|| panic!("{} has no {kernel}", module.display())).to_string()
}

fn assert_near(what: &str, got: &[f32], expected: &[f32], relative: f32, absolute: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= relative * e.abs() + absolute, "{what}: element {i} is {g}, expected {e}");
    }
}

/// The kernel has a fault of its authors.
fn assert_reported(result: Result<Counts, Refused>, check: Check) {
    let report = result.expect_err("a fault").report;
    assert!(report.starts_with(&format!("{check:?} in ")), "{report}");
}

macro_rules! tests {
    ($schedules:expr, $repositories:expr; $($name:ident: $body:path;)*) => {
        $(#[test]
        fn $name() {
            let Some(shop) = Workshop::open($repositories) else { return };
            in_children(concat!("cuda::public::", stringify!($name)), $schedules, || $body(&shop));
        })*
    };
}

tests! { SCHEDULES, &["llm.c"];
    llm_c_layer_norm: llm_c::layer_norm;
    llm_c_softmax: llm_c::softmax;
    llm_c_matmul: llm_c::matmul;
}

tests! { SCHEDULES, &["cuda-samples"];
    cuda_samples_reduction: cuda_samples::reduction;
    cuda_samples_scalar_product: cuda_samples::scalar_product;
    cuda_samples_histogram: cuda_samples::histogram;
    cuda_samples_scan: cuda_samples::scan;
    cuda_samples_async_copies: cuda_samples::async_copies;
}

tests! { SIX_SCHEDULES, &["fast.cu"];
    fast_cu_2: fast_cu::matmul_2;
    fast_cu_3: fast_cu::matmul_3;
    fast_cu_4: fast_cu::matmul_4;
    fast_cu_5: fast_cu::matmul_5;
    fast_cu_6: fast_cu::matmul_6;
    fast_cu_7: fast_cu::matmul_7;
    fast_cu_8: fast_cu::matmul_8;
    fast_cu_9: fast_cu::matmul_9;
    fast_cu_10: fast_cu::matmul_10;
    fast_cu_11: fast_cu::matmul_11;
    fast_cu_12: fast_cu::matmul_12;
}

tests! { SIX_SCHEDULES, &["DeepGEMM", "cutlass"];
    deep_gemm_bf16: deep_gemm::bf16_by_pairs;
    deep_gemm_fp8_1d2d: deep_gemm::fp8_1d2d;
    deep_gemm_fp8_1d1d: deep_gemm::fp8_1d1d;
}

tests! { SIX_SCHEDULES, &["flash-attention", "cutlass"];
    flash_attention_3: flash_attention_3::forward;
}
