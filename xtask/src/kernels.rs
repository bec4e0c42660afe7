//! The test kernels: vgpu/tests/kernels/*.cu → target/vgpu/kernels/*.ptx, and one of them as fat binaries and a cubin.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::{Outcome, Places, run};

/// PTX for the oldest GPU that is served, with the lines of its source.
const PTX: &[&str] = &["-ptx", "-arch=compute_80", "-std=c++17", "-lineinfo"];
/// For compute capability 9.0 with what only that one has: files whose names begin with `hopper_`.
const HOPPER: &[&str] = &["-ptx", "-gencode", "arch=compute_90a,code=compute_90a", "-std=c++17", "-lineinfo"];
/// The kernel that is also packed, plainly and as nvcc does by itself, and assembled.
const PACKED: &str = "standardise";
const CUBIN: &[&str] = &["-cubin", "-arch=sm_80", "-std=c++17", "-lineinfo"];
const PACK: &[&str] = &["-fatbin", "-gencode", "arch=compute_80,code=compute_80", "-std=c++17", "-lineinfo"];
/// nvcc takes half a gigabyte each.
const AT_A_TIME: usize = 2;

pub fn directory(places: &Places) -> PathBuf {
    places.vgpu().join("kernels")
}

struct Job {
    source: PathBuf,
    output: PathBuf,
    flags: Vec<&'static str>,
}

/// Compiles what is not up to date.
pub fn build(places: &Places, nvcc: &Path) -> Outcome {
    let sources = sources(&places.root.join("vgpu/tests/kernels"))?;
    let into = directory(places);
    fs::create_dir_all(&into).map_err(|e| format!("{}: {e}", into.display()))?;
    let state = fingerprint(&sources, nvcc)?;
    let stale: Vec<Job> = jobs(&sources, &into).into_iter().filter(|job| !job.is_done(state)).collect();
    if stale.is_empty() {
        return Ok(());
    }
    eprintln!("compiling {} test kernels with {}", stale.len(), nvcc.display());
    let waiting = Mutex::new(stale.into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(job) = waiting.lock().ok().and_then(|mut jobs| jobs.next()) {
                    if let (Err(reason), Ok(mut failures)) = (job.run(nvcc, state), failures.lock()) {
                        failures.push(reason);
                    }
                }
            });
        }
    });
    match failures.into_inner() {
        Ok(failures) if failures.is_empty() => Ok(()),
        Ok(failures) => Err(failures.join("\n")),
        Err(_) => Err("a thread that compiles kernels broke down".into()),
    }
}

/// All files of the directory, in order of their names.
fn sources(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let mut sources = Vec::new();
    // No directory, no kernels.
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(sources);
    };
    for entry in entries {
        sources.push(entry.map_err(|e| format!("{}: {e}", directory.display()))?.path());
    }
    sources.sort();
    Ok(sources)
}

/// Of all sources (kernels include headers), the flags and the compiler's place.
fn fingerprint(sources: &[PathBuf], nvcc: &Path) -> Outcome<u64> {
    let mut hasher = DefaultHasher::new();
    (nvcc, PTX, HOPPER, PACK, CUBIN).hash(&mut hasher);
    for source in sources {
        let text = fs::read(source).map_err(|e| format!("{}: {e}", source.display()))?;
        (source, text).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn jobs(sources: &[PathBuf], into: &Path) -> Vec<Job> {
    let mut jobs = Vec::new();
    for source in sources.iter().filter(|s| s.extension().is_some_and(|e| e == "cu")) {
        let Some(name) = source.file_stem().and_then(|n| n.to_str()) else { continue };
        let mut job = |file: String, flags: &[&'static str], more: &[&'static str]| {
            jobs.push(Job { source: source.clone(), output: into.join(file), flags: [flags, more].concat() });
        };
        job(format!("{name}.ptx"), if name.starts_with("hopper_") { HOPPER } else { PTX }, &[]);
        if name == PACKED {
            job(format!("{name}.fatbin"), PACK, &["--no-compress"]);
            job(format!("{name}.compressed.fatbin"), PACK, &[]);
            job(format!("{name}.cubin"), CUBIN, &[]);
        }
    }
    jobs
}

impl Job {
    /// Beside the output stands what it was made from.
    fn stamp(&self) -> PathBuf {
        let mut name = self.output.clone().into_os_string();
        name.push(".made-from");
        name.into()
    }

    fn is_done(&self, state: u64) -> bool {
        self.output.is_file() && fs::read_to_string(self.stamp()).is_ok_and(|made| made == format!("{state:016x}"))
    }

    fn run(&self, nvcc: &Path, state: u64) -> Outcome {
        let what = format!("nvcc {}", self.source.display());
        run(Command::new(nvcc).args(&self.flags).arg(&self.source).arg("-o").arg(&self.output), &what)?;
        fs::write(self.stamp(), format!("{state:016x}")).map_err(|e| format!("{}: {e}", self.stamp().display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_header_makes_every_kernel_stale() -> Result<(), Box<dyn std::error::Error>> {
        let directory = std::env::temp_dir().join(format!("xtask-kernels-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("standardise.cu"), "#include \"a.cuh\"")?;
        fs::write(directory.join("a.cuh"), "// 1")?;
        let sources_before = sources(&directory)?;
        let before = fingerprint(&sources_before, Path::new("nvcc"))?;
        let jobs = jobs(&sources_before, &directory);
        for job in &jobs {
            fs::write(&job.output, "")?;
            assert!(!job.is_done(before), "not without its stamp");
            fs::write(job.stamp(), format!("{before:016x}"))?;
            assert!(job.is_done(before));
        }
        fs::write(directory.join("a.cuh"), "// 2")?;
        let after = fingerprint(&sources_before, Path::new("nvcc"))?;
        assert!(jobs.iter().all(|job| !job.is_done(after)));
        let names: Vec<_> = jobs.iter().filter_map(|job| job.output.file_name()?.to_str()).collect();
        assert_eq!(
            names,
            ["standardise.ptx", "standardise.fatbin", "standardise.compressed.fatbin", "standardise.cubin"]
        );
        fs::remove_dir_all(&directory)?;
        Ok(())
    }
}
