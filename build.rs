//! Compiles kernels/*.cu with nvcc and embeds them. Without nvcc the program is built without CUDA kernels.
//!
//! `LSEG_CUDA_ARCHS` narrows the architectures ("80,89"; "ptx" for the PTX alone, which every build has).

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

const ARCHS: &[u32] = &[80, 86, 87, 89, 90, 100, 120];
/// What every image is compiled with.
const FLAGS: &[&str] = &["-std=c++17", "-lineinfo", "-O3"];
/// The PTX runs on every driver from CUDA 11.4 on: nvcc's text, with the version it needs instead of the newest.
const PTX_VERSION: &str = "7.4";
/// nvcc takes half a gigabyte each.
const AT_A_TIME: usize = 2;

type Outcome<T> = Result<T, String>;

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["LSEG_NVCC", "LSEG_CUDA_ARCHS", "CUDA_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let table = match nvcc() {
        Some(nvcc) => build(&nvcc, &out).unwrap_or_else(|reason| {
            eprintln!("{reason}");
            std::process::exit(1)
        }),
        None => {
            println!(
                "cargo:warning=no nvcc in LSEG_NVCC, CUDA_HOME or PATH: built without CUDA kernels, for the CPU alone"
            );
            "pub static IMAGES: &[Images] = &[];\n".to_owned()
        }
    };
    fs::write(out.join("images.rs"), table).expect("OUT_DIR can be written");
}

fn nvcc() -> Option<PathBuf> {
    if let Some(chosen) = std::env::var_os("LSEG_NVCC") {
        return Some(chosen.into());
    }
    let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    home.into_iter().chain(std::env::split_paths(&path)).map(|d| d.join("nvcc")).find(|p| p.is_file())
}

fn archs() -> Outcome<Vec<u32>> {
    let Ok(chosen) = std::env::var("LSEG_CUDA_ARCHS") else {
        return Ok(ARCHS.to_vec());
    };
    let known = |name: &str| name.parse().ok().filter(|arch| ARCHS.contains(arch));
    chosen
        .split(',')
        .map(str::trim)
        .filter(|name| *name != "ptx")
        .map(|name| known(name).ok_or(format!("LSEG_CUDA_ARCHS={chosen}: {name:?} is none of {ARCHS:?} or ptx")))
        .collect()
}

/// One run of nvcc: a source to a cubin (`Some(arch)`) or to PTX.
struct Job {
    source: PathBuf,
    arch: Option<u32>,
    output: PathBuf,
}

fn build(nvcc: &Path, out: &Path) -> Outcome<String> {
    let mut sources: Vec<PathBuf> = fs::read_dir("kernels")
        .map_err(|e| format!("kernels: {e}"))?
        .map(|entry| entry.map(|e| e.path()).map_err(|e| format!("kernels: {e}")))
        .collect::<Outcome<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|e| e == "cu"));
    sources.sort();
    let archs = archs()?;
    let mut jobs = Vec::new();
    for source in &sources {
        for arch in archs.iter().copied().map(Some).chain([None]) {
            let ending = arch.map_or("ptx".to_owned(), |arch| format!("sm_{arch}.cubin"));
            jobs.push(Job { source: source.clone(), arch, output: out.join(format!("{}.{ending}", stem(source))) });
        }
    }
    run_all(&jobs, |job| job.run(nvcc))?;
    let mut table = "pub static IMAGES: &[Images] = &[\n".to_owned();
    for source in &sources {
        table += &entry(stem(source), out, &archs)?;
    }
    table += "];\n";
    Ok(table)
}

fn stem(source: &Path) -> &str {
    source.file_stem().and_then(|name| name.to_str()).expect("kernels' names are plain")
}

fn run_all(jobs: &[Job], run: impl Fn(&Job) -> Outcome<()> + Sync) -> Outcome<()> {
    let (next, failures) = (Mutex::new(jobs.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(job) = { next.lock().expect("no panic").next() } {
                    if let Err(reason) = run(job) {
                        failures.lock().expect("no panic").push(reason);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

impl Job {
    /// What the output depends on: the source with the headers it includes, the flags, the compiler.
    fn fingerprint(&self, nvcc: &Path) -> Outcome<String> {
        let mut hasher = DefaultHasher::new();
        (nvcc, FLAGS, PTX_VERSION, self.arch).hash(&mut hasher);
        let mut seen = vec![self.source.clone()];
        let mut at = 0;
        while let Some(path) = seen.get(at).cloned() {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            text.hash(&mut hasher);
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.strip_suffix('"'));
            for header in names.map(|name| path.with_file_name(name)) {
                if !seen.contains(&header) {
                    seen.push(header);
                }
            }
            at += 1;
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn run(&self, nvcc: &Path) -> Outcome<()> {
        let (state, stamp) = (self.fingerprint(nvcc)?, self.output.with_added_extension_("made-from"));
        if self.output.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == state) {
            return Ok(());
        }
        let mut command = Command::new(nvcc);
        command.args(FLAGS).arg(&self.source).arg("-o").arg(&self.output);
        match self.arch {
            Some(arch) => command.args(["-cubin", "-Xptxas", "-v"]).arg(format!("-arch=sm_{arch}")),
            None => command.args(["-ptx", "-arch=compute_80"]),
        };
        let said = output(&mut command)?;
        if self.arch.is_some() {
            let log = self.output.with_added_extension_("log");
            fs::write(&log, said).map_err(|e| format!("{}: {e}", log.display()))?;
        } else {
            self.lower(nvcc)?;
        }
        fs::write(&stamp, state).map_err(|e| format!("{}: {e}", stamp.display()))
    }

    /// Gives the PTX the version that old drivers take, and has ptxas confirm that it is still right.
    fn lower(&self, nvcc: &Path) -> Outcome<()> {
        let error = |e| format!("{}: {e}", self.output.display());
        let text = fs::read_to_string(&self.output).map_err(error)?;
        let lowered: String =
            text.lines()
                // A hint for loads whose bytes are not all used, which that version does not know.
                .filter(|line| !line.trim_start().starts_with(".pragma \"used_bytes_mask"))
                .map(|line| {
                    if line.starts_with(".version ") {
                        format!(".version {PTX_VERSION}\n")
                    } else {
                        format!("{line}\n")
                    }
                })
                .collect();
        fs::write(&self.output, lowered).map_err(error)?;
        let log = self.output.with_added_extension_("log");
        let scratch = self.output.with_added_extension_("check");
        let mut ptxas = Command::new(nvcc.with_file_name("ptxas"));
        ptxas.args(["-v", "-arch=sm_80"]).arg(&self.output).arg("-o").arg(&scratch);
        fs::write(log, output(&mut ptxas)?).map_err(error)
    }
}

/// Runs it; what it said on stderr.
fn output(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_os_string();
    let output = command.output().map_err(|e| format!("{}: {e}", name.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{command:?}: {}\n{said}", output.status)) }
}

trait Added {
    fn with_added_extension_(&self, extension: &str) -> PathBuf;
}

impl Added for Path {
    fn with_added_extension_(&self, extension: &str) -> PathBuf {
        let mut name = self.as_os_str().to_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }
}

/// The table's entry of a module.
fn entry(module: &str, out: &Path, archs: &[u32]) -> Outcome<String> {
    let ptx_path = out.join(format!("{module}.ptx"));
    let ptx = fs::read_to_string(&ptx_path).map_err(|e| format!("{}: {e}", ptx_path.display()))?;
    let ended = out.join(format!("{module}.ptx0"));
    fs::write(&ended, format!("{ptx}\0")).map_err(|e| format!("{}: {e}", ended.display()))?;
    let mut text = format!("    Images {{ module: {module:?}, cubins: &[");
    for arch in archs {
        let path = out.join(format!("{module}.sm_{arch}.cubin"));
        let _ = write!(text, "({arch}, include_bytes!({path:?})), ");
        refuse_spills(module, &fs::read_to_string(path.with_added_extension_("log")).unwrap_or_default())?;
    }
    let _ = writeln!(text, "], ptx: include_bytes!({ended:?}), kernels: &[");
    let log = fs::read_to_string(ptx_path.with_added_extension_("log")).unwrap_or_default();
    refuse_spills(module, &log)?;
    let used = used(&log);
    for kernel in declared(&ptx) {
        let (registers, shared, spills) = used.get(&kernel.name).copied().unwrap_or_default();
        let Declared { name, threads, params } = kernel;
        let _ = writeln!(
            text,
            "        Resources {{ name: {name:?}, threads: {threads}, params: {params}, registers: {registers}, \
             static_shared: {shared}, spills: {spills} }},"
        );
    }
    text += "    ] },\n";
    Ok(text)
}

struct Declared {
    name: String,
    threads: u32,
    params: usize,
}

/// The kernels of a PTX text: names, launch bounds, the bytes of their one parameter.
fn declared(ptx: &str) -> Vec<Declared> {
    let mut kernels = Vec::new();
    for part in ptx.split(".visible .entry ").skip(1) {
        let head = &part[..part.find('{').unwrap_or(part.len())];
        let name = head.split('(').next().unwrap_or_default().trim().to_owned();
        let number = |after: &str, end: char| {
            let from = head.find(after)? + after.len();
            head[from..].split(end).next()?.trim().parse().ok()
        };
        let params = number("_param_0[", ']').unwrap_or(0);
        let threads = number(".maxntid ", ',').or(number(".maxntid ", '\n')).unwrap_or(0);
        kernels.push(Declared { name, threads: threads as u32, params });
    }
    kernels
}

/// Registers, static shared memory and spilled bytes by kernel, from what ptxas says.
fn used(log: &str) -> BTreeMap<String, (u32, u32, u32)> {
    let mut found = BTreeMap::new();
    let mut kernel = String::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            kernel = rest.split('\'').next().unwrap_or_default().to_owned();
        }
        let before = |what: &str| -> u32 {
            let Some(at) = line.find(what) else { return 0 };
            line[..at].trim_end().rsplit([' ', ',']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let entry: &mut (u32, u32, u32) = found.entry(kernel.clone()).or_default();
        entry.0 = entry.0.max(before("registers"));
        entry.1 = entry.1.max(before("bytes smem"));
        entry.2 = entry.2.max(before("bytes spill stores"));
    }
    found
}

fn refuse_spills(module: &str, log: &str) -> Outcome<()> {
    match used(log).iter().find(|(_, (_, _, spills))| *spills > 0) {
        Some((kernel, (_, _, spills))) => Err(format!("{module}.cu: {kernel} spills {spills} bytes of registers")),
        None => Ok(()),
    }
}
