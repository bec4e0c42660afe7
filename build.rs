//! Compiles kernels/*.cu with nvcc and embeds them. Without nvcc the program is built without CUDA kernels.
//!
//! kernels/*.cu are for every architecture, kernels/sm90/*.cu for compute capability 9.0 alone. Code for 9.0 is made as sm_90a, from
//! the PTX of compute_90a that is embedded beside it.
//!
//! `LSEG_NVCC` names the compiler (else CUDA_HOME and PATH are searched); `LSEG_NVCC=fetched` is the one that `cargo xtask vgpu`
//! fetched. `LSEG_CUDA_ARCHS` narrows the architectures ("80,89"; "ptx" for the PTX alone, which every build has). What has not
//! changed is not compiled again; in a checkout all profiles, targets and packages share it (`LSEG_KERNELS`, a folder that
//! .cargo/config.toml names).
//!
//! It also tells the program which commit it is of (`lseg-fast --version`).
//!
//! The host learns from the PTX what each kernel declares: threads by its launch bounds, the bytes of its parameter, and the
//! constant `spec_NAME` that SPEC(NAME, …) of kernels/spec.cuh leaves beside it.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::ZlibEncoder;

const ARCHS: &[u32] = &[80, 86, 87, 89, 90, 100, 120];
/// What every image is compiled with.
const FLAGS: &[&str] = &["-std=c++17", "-lineinfo", "-O3"];
/// Hopper's: 90 stands for sm_90a, which runs on 9.0 and nothing else, as sm_90 would.
const HOPPER: u32 = 90;
/// Where its own kernels are.
const HOPPER_KERNELS: &str = "kernels/sm90";
/// The oldest nvcc that is tried, and the oldest that knows every architecture.
const OLDEST_NVCC: (u32, u32) = (12, 0);
const NVCC_OF_ALL_ARCHS: (u32, u32) = (12, 8);
/// Memory that one nvcc may take.
const JOB_MEMORY: usize = 1 << 30;
/// Under cargo's target directory: where `cargo xtask vgpu` puts NVIDIA's wheels.
const FETCHED_NVCC: &str = "cuda/nvidia/cu13/bin/nvcc";
/// ptxas' codes for warpgroup products that wait for each other and for register counts that it ignores.
const SLOWED: &[&str] = &["C7504", "C7508", "C7509", "C7510", "C7511", "C7512", "C7513", "C7514", "C7515"];
/// What kernels declare, and how.
const SPEC: &str = "kernels/spec.cuh";

type Outcome<T> = Result<T, String>;

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["LSEG_NVCC", "LSEG_CUDA_ARCHS", "LSEG_KERNELS", "CUDA_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rustc-env=LSEG_FAST_COMMIT={}", commit().unwrap_or("unknown".to_owned()));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let made = read(Path::new(SPEC)).and_then(|spec| Ok(modules(&out, &spec)? + &variants(&spec)));
    let table = made.unwrap_or_else(|reason| {
        eprintln!("{reason}");
        std::process::exit(1)
    });
    fs::write(out.join("modules.rs"), table).expect("OUT_DIR can be written");
}

/// What cargo noted in the package, or what git says of a checkout. Not of debug builds: each commit would compile all anew.
fn commit() -> Option<String> {
    const NOTED: &str = ".cargo_vcs_info.json";
    if let Ok(noted) = fs::read_to_string(NOTED) {
        let hash = noted.split("\"sha1\": \"").nth(1)?.split('"').next()?;
        return Some(hash.chars().take(12).collect());
    }
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return Some("not recorded in debug builds".to_owned());
    }
    // Of this folder alone: a package may lie in somebody else's repository.
    let git = |arguments: &[&str]| {
        let said = Command::new("git").args(arguments).output().ok().filter(|said| said.status.success())?;
        Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
    };
    let is_ours = git(&["rev-parse", "--show-prefix"])?.is_empty();
    if !is_ours {
        return None;
    }
    // Grows with each commit and each switch to another. (A file that is not there would mean: build each time.)
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The table of modules.rs. A compiler that was named must work; one that was only found may be unfit.
fn modules(out: &Path, spec: &str) -> Outcome<String> {
    let without = |reason: String| {
        println!(
            "cargo:warning={reason}: built without CUDA kernels, for the CPU alone; in a checkout, `cargo xtask vgpu` fetches an \
             nvcc, and a build with LSEG_NVCC=fetched uses it"
        );
        Ok("pub static MODULES: &[EmbeddedModule] = &[];\n".to_owned())
    };
    let archs = archs()?;
    let compiler = match std::env::var_os("LSEG_NVCC") {
        Some(named) => {
            let nvcc = if named == "fetched" { fetched(out)? } else { named.into() };
            Compiler::at(nvcc, &archs).map_err(|reason| format!("the nvcc that LSEG_NVCC names: {reason}"))?
        }
        None => match installed() {
            None => return without("no nvcc in LSEG_NVCC, CUDA_HOME or PATH".to_owned()),
            Some(path) => match Compiler::at(path, &archs) {
                Ok(compiler) => compiler,
                Err(reason) => return without(reason),
            },
        },
    };
    let Some(shared) = std::env::var_os("LSEG_KERNELS").map(PathBuf::from) else {
        return build(&compiler, &archs, out, spec);
    };
    let mut hasher = DefaultHasher::new();
    (include_str!("build.rs"), &compiler.nvcc, &compiler.version).hash(&mut hasher);
    let shared = shared.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&shared).map_err(|e| at(&shared, e))?;
    // Cargo runs the build scripts of several builds beside each other.
    let lock = shared.join("lock");
    let held = fs::File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(|e| at(&lock, e))?;
    let table = build(&compiler, &archs, &shared, spec)?;
    drop(held);
    Ok(table)
}

/// In cargo's target directory, which is one of those that OUT_DIR lies in.
fn fetched(out: &Path) -> Outcome<PathBuf> {
    let found = out.ancestors().map(|folder| folder.join(FETCHED_NVCC)).find(|path| path.is_file());
    found.ok_or_else(|| {
        format!(
            "LSEG_NVCC=fetched: no {FETCHED_NVCC} in the target directory that {} lies in; `cargo xtask vgpu` fetches it (without \
             CUDA_HOME and an nvcc in PATH)",
            out.display()
        )
    })
}

fn installed() -> Option<PathBuf> {
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

/// An nvcc that can compile the kernels.
struct Compiler {
    nvcc: PathBuf,
    /// All that `nvcc --version` says.
    version: String,
}

impl Compiler {
    fn at(nvcc: PathBuf, archs: &[u32]) -> Outcome<Compiler> {
        let place = nvcc.display();
        let said = Command::new(&nvcc).arg("--version").output().map_err(|e| format!("{place} does not start: {e}"))?;
        let version = String::from_utf8_lossy(&said.stdout).into_owned();
        let found = release(&version).ok_or(format!("{place} --version names no release: it is no nvcc"))?;
        let need = if archs.iter().any(|arch| *arch >= 100) { NVCC_OF_ALL_ARCHS } else { OLDEST_NVCC };
        if found < need {
            return Err(format!(
                "{place} is of CUDA {}.{}, and {}.{} or newer is needed{}",
                found.0,
                found.1,
                need.0,
                need.1,
                if need == NVCC_OF_ALL_ARCHS { " (12.0 with LSEG_CUDA_ARCHS=80,86,87,89,90)" } else { "" }
            ));
        }
        Ok(Compiler { nvcc, version })
    }

    /// Where the sources are that its line tables name.
    fn folders(&self) -> Outcome<[Folder; 2]> {
        let here = std::env::current_dir().map_err(|e| format!("the current folder: {e}"))?;
        let bin = self.nvcc.parent().unwrap_or(&here).display().to_string();
        Ok([
            Folder { builders: here.display().to_string(), rest: "/kernels", name: "kernels" },
            Folder { builders: bin, rest: "/..//include", name: "cuda/include" },
        ])
    }

    /// Puts an image into the file that is embedded.
    fn pack(&self, image: &Path, to: &Path) -> Outcome<()> {
        let mut bytes = fs::read(image).map_err(|e| at(image, e))?;
        self.folders()?.iter().for_each(|folder| folder.blank(&mut bytes));
        write(to, &deflated(&bytes)?)
    }

    fn ptxas(&self) -> PathBuf {
        self.nvcc.with_file_name("ptxas")
    }
}

/// A folder of sources: what of its path is the builder's own and nobody else's concern, and what it is called instead.
struct Folder {
    builders: String,
    rest: &'static str,
    name: &'static str,
}

impl Folder {
    /// Puts slashes in the place of the builder's part: a cubin's line tables keep their lengths.
    fn blank(&self, image: &mut [u8]) {
        let path = format!("{}{}", self.builders, self.rest);
        let mut at = 0;
        while let Some(found) = image[at..].windows(path.len()).position(|window| window == path.as_bytes()) {
            image[at + found..][..self.builders.len()].fill(b'/');
            at += found + path.len();
        }
    }
}

/// "… release 13.0, V13.0.88" is (13, 0).
fn release(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split("release ").nth(1)?.split(',').next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A text that is embedded: which GPUs it is for, and the version that their drivers know, in the place of nvcc's own.
struct Text {
    /// 80 for compute_80.
    level: u32,
    compute: &'static str,
    sm: &'static str,
    version: &'static str,
}

/// For every GPU, by any driver from CUDA 11.4 on.
const PORTABLE: &Text = &Text { level: 80, compute: "compute_80", sm: "sm_80", version: "7.4" };
/// For 9.0 alone, by any driver from CUDA 12.0 on.
const OF_HOPPER: &Text = &Text { level: HOPPER, compute: "compute_90a", sm: "sm_90a", version: "8.0" };

#[derive(Clone, Copy)]
enum Target {
    /// nvcc's machine code.
    Cubin(u32),
    /// nvcc's text, and what ptxas makes of it.
    Ptx(&'static Text),
}

/// A source to one image.
struct Job {
    source: PathBuf,
    target: Target,
    output: PathBuf,
}

fn build(compiler: &Compiler, archs: &[u32], out: &Path, spec: &str) -> Outcome<String> {
    let portable = || archs.iter().copied().filter(|arch| *arch != HOPPER).map(Target::Cubin);
    let everywhere: Vec<Target> = portable().chain([Target::Ptx(PORTABLE), Target::Ptx(OF_HOPPER)]).collect();
    let of = |folder, targets: &[Target]| -> Outcome<Vec<Job>> {
        let sources = sources(Path::new(folder))?;
        Ok(sources.iter().flat_map(|source| targets.iter().map(|target| Job::new(source, *target, out))).collect())
    };
    let mut jobs = of("kernels", &everywhere)?;
    jobs.extend(of(HOPPER_KERNELS, &[Target::Ptx(OF_HOPPER)])?);
    run_all(&jobs, |job| job.run(compiler))?;
    let mut table = "pub static MODULES: &[EmbeddedModule] = &[\n".to_owned();
    for of_source in jobs.chunk_by(|a, b| a.source == b.source) {
        table += &entry(of_source, archs.contains(&HOPPER), spec)?;
    }
    table += "];\n";
    Ok(table)
}

/// The .cu files of a folder.
fn sources(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| at(folder, e))?;
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.map(|e| e.path()).map_err(|e| at(folder, e))).collect::<Outcome<_>>()?;
    found.retain(|path| path.extension().is_some_and(|e| e == "cu"));
    found.sort();
    Ok(found)
}

/// As many at a time as there are cores, and memory for.
fn run_all(jobs: &[Job], run: impl Fn(&Job) -> Outcome<()> + Sync) -> Outcome<()> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let at_a_time = cores.min(available_memory().map_or(usize::MAX, |bytes| bytes / JOB_MEMORY)).max(1);
    let (next, failures) = (Mutex::new(jobs.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
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

/// Where the system tells.
fn available_memory() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

impl Job {
    fn new(source: &Path, target: Target, out: &Path) -> Job {
        let ending = match target {
            Target::Cubin(arch) => format!("sm_{arch}.cubin"),
            Target::Ptx(text) => format!("{}.ptx", text.compute),
        };
        let name = module(source).replace('/', "_");
        Job { source: source.to_owned(), target, output: out.join(format!("{name}.{ending}")) }
    }

    /// A file beside the output: "gemm.ptx.log".
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.output.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }

    /// What ptxas said of this image.
    fn log(&self) -> Outcome<String> {
        read(&self.beside("log"))
    }

    /// What the output depends on: the source with the headers it includes, the flags, the compiler, this file.
    fn fingerprint(&self, compiler: &Compiler) -> Outcome<String> {
        let mut hasher = DefaultHasher::new();
        (include_str!("build.rs"), &compiler.nvcc, &compiler.version, &self.output).hash(&mut hasher);
        let mut seen = vec![self.source.clone()];
        let mut at = 0;
        while let Some(path) = seen.get(at).cloned() {
            let text = read(&path)?;
            text.hash(&mut hasher);
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.strip_suffix('"'));
            for header in names.map(|name| Path::new("kernels").join(name)) {
                if !seen.contains(&header) {
                    seen.push(header);
                }
            }
            at += 1;
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn run(&self, compiler: &Compiler) -> Outcome<()> {
        let (state, stamp) = (self.fingerprint(compiler)?, self.beside("made-from"));
        if self.beside("z").is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == state) {
            return Ok(());
        }
        let here = std::env::current_dir().map_err(|e| format!("the current folder: {e}"))?;
        let mut nvcc = Command::new(&compiler.nvcc);
        nvcc.args(FLAGS).arg("-I").arg(here.join("kernels")).arg(&self.source).arg("-o").arg(&self.output);
        let said = match self.target {
            Target::Cubin(arch) => output(nvcc.args(["-cubin", "-Xptxas", "-v"]).arg(format!("-arch=sm_{arch}")))?,
            Target::Ptx(text) => {
                output(nvcc.args(["-ptx", "-arch"]).arg(text.compute))?;
                self.lower(compiler, text)?;
                self.assemble(compiler, text)?
            }
        };
        self.refuse_spills(&said)?;
        self.refuse_serialised(&said)?;
        write(&self.beside("log"), said.as_bytes())?;
        compiler.pack(&self.output, &self.beside("z"))?;
        write(&stamp, state.as_bytes())
    }

    /// What ptxas makes of the text.
    fn assembled(&self) -> PathBuf {
        self.beside("cubin")
    }

    /// Gives the PTX the version that old drivers take, and its sources names without the builder's folders.
    fn lower(&self, compiler: &Compiler, to: &Text) -> Outcome<()> {
        let version = format!(".version {}", to.version);
        let text = read(&self.output)?;
        let lines = text
            .lines()
            // A hint for loads whose bytes are not all used, which those versions do not know.
            .filter(|line| !line.trim_start().starts_with(".pragma \"used_bytes_mask"))
            .map(|line| if line.starts_with(".version ") { &version } else { line });
        let mut lowered: String = lines.flat_map(|line| [line, "\n"]).collect();
        for Folder { builders, rest, name } in compiler.folders()? {
            lowered = lowered.replace(&format!("{builders}{rest}"), name);
        }
        write(&self.output, lowered.as_bytes())
    }

    /// Makes machine code of the lowered PTX, which must still be right; what ptxas says of registers.
    fn assemble(&self, compiler: &Compiler, text: &Text) -> Outcome<String> {
        let cubin = self.assembled();
        let mut ptxas = Command::new(compiler.ptxas());
        ptxas.args(["-v", "-lineinfo", "-O3", "-arch", text.sm]).arg(&self.output).arg("-o").arg(&cubin);
        let said = output(&mut ptxas)
            .map_err(|reason| format!("{} as PTX {}: {reason}", self.source.display(), text.version))?;
        compiler.pack(&cubin, &cubin.with_extension("cubin.z"))?;
        Ok(said)
    }

    fn refuse_spills(&self, log: &str) -> Outcome<()> {
        let (name, image) = (self.source.display(), self.output.display());
        match used(log).iter().find(|(_, used)| used.local > 0) {
            Some((kernel, Used { local, .. })) => {
                Err(format!("{name}: {kernel} ({image}) keeps {local} bytes of registers or arrays in local memory"))
            }
            None => Ok(()),
        }
    }

    /// What ptxas notes, and goes on, when it waits after each warpgroup product or leaves setmaxnreg out: twice the time and more.
    fn refuse_serialised(&self, log: &str) -> Outcome<()> {
        match log.lines().find(|line| SLOWED.iter().any(|code| line.contains(code))) {
            Some(line) => Err(format!("{}: {line}", self.source.display())),
            None => Ok(()),
        }
    }
}

/// A source's name in the table: "gemm", "sm90/gemm".
fn module(source: &Path) -> String {
    let name = source.with_extension("");
    name.strip_prefix("kernels").unwrap_or(&name).display().to_string()
}

fn at(path: &Path, error: std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|e| at(path, e))
}

fn write(path: &Path, bytes: &[u8]) -> Outcome<()> {
    fs::write(path, bytes).map_err(|e| at(path, e))
}

/// The length as eight bytes, then the bytes as a zlib stream.
fn deflated(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut encoder = ZlibEncoder::new((bytes.len() as u64).to_le_bytes().to_vec(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|e| format!("compressing an image: {e}"))
}

/// Runs it; what it said on stderr.
fn output(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{command:?}: {}\n{said}", output.status)) }
}

/// The table's entry of a module, from the jobs of its source: cubins, then texts.
fn entry(jobs: &[Job], with_hopper: bool, spec: &str) -> Outcome<String> {
    let module = module(&jobs[0].source);
    let mut text = format!("    EmbeddedModule {{ module: {module:?}, cubins: &[");
    let mut most: BTreeMap<String, Used> = BTreeMap::new();
    let mut texts = String::new();
    for job in jobs {
        let packed = job.beside("z");
        match job.target {
            Target::Cubin(arch) => {
                let _ = write!(text, "({arch}, Packed(include_bytes!({packed:?}))), ");
            }
            Target::Ptx(of) => {
                let _ = write!(texts, "({}, Packed(include_bytes!({packed:?}))), ", of.level);
                if of.level == HOPPER && with_hopper {
                    let cubin = job.assembled().with_extension("cubin.z");
                    let _ = write!(text, "({HOPPER}, Packed(include_bytes!({cubin:?}))), ");
                }
            }
        }
        for (kernel, used) in used(&job.log()?) {
            let most = most.entry(kernel).or_default();
            *most = most.max(used);
        }
    }
    let _ = writeln!(text, "], ptx: &[{texts}], kernels: &[");
    let ptx = jobs.iter().find(|job| matches!(job.target, Target::Ptx(_))).expect("every source becomes PTX");
    let code = read(&ptx.output)?;
    for Declared { name, threads, params } in declared(&code) {
        let spec = spec_of(&name, &code, spec).ok_or_else(|| {
            let source = ptx.source.display();
            format!("{source}: {name} declares nothing: SPEC({name}, …) must stand before it, see {SPEC}")
        })?;
        let Used { registers, shared, local } = most.get(&name).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "        Kernel {{ name: {name:?}, threads: {threads}, params: {params}, registers: {registers}, \
             static_shared: {shared}, spills: {local}, spec: Spec {{ {spec} }} }},"
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

/// The fields of a kernel's `Spec`, by its constant in a PTX text: `.const .align 4 .b8 spec_NAME[28] = {4, 1, …};`, little-endian
/// words without the zeros at the end. `header` is the text of kernels/spec.cuh, which has their names in order.
fn spec_of(kernel: &str, ptx: &str, header: &str) -> Option<String> {
    let fields = header.lines().filter_map(|line| line.trim().strip_prefix("uint32_t ")?.strip_suffix("_ = 0;"));
    let fields: Vec<&str> = fields.collect();
    let constant = format!(".b8 spec_{kernel}[{}]", 4 * fields.len());
    let (_, value) = ptx.lines().find_map(|line| line.split_once(&constant))?;
    let mut bytes = value.split(|c: char| !c.is_ascii_digit()).filter_map(|byte| byte.parse::<u8>().ok());
    let mut word = || u32::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0)));
    Some(fields.iter().map(|field| format!("{field}: {}, ", word())).collect())
}

/// The flags of `Spec::variant` by name, from the text of kernels/spec.cuh.
fn variants(header: &str) -> String {
    let lines = header.lines().filter_map(|line| line.strip_prefix("constexpr uint32_t ")?.strip_suffix(';'));
    let flags = lines.filter_map(|line| line.split_once(" = "));
    let constants: String = flags.map(|(name, bit)| format!("    pub const {name}: u32 = {bit};\n")).collect();
    format!("/// Flags of `Spec::variant`: kernels/spec.cuh says what they mean.\npub mod variant {{\n{constants}}}\n")
}

/// What ptxas gave a kernel.
#[derive(Clone, Copy, Default)]
struct Used {
    registers: u32,
    /// Bytes of static shared memory.
    shared: u32,
    /// Bytes of local memory: spilled registers, arrays that registers cannot hold.
    local: u32,
}

impl Used {
    fn max(self, other: Used) -> Used {
        Used {
            registers: self.registers.max(other.registers),
            shared: self.shared.max(other.shared),
            local: self.local.max(other.local),
        }
    }
}

/// By kernel, from what `ptxas -v` says.
fn used(log: &str) -> BTreeMap<String, Used> {
    let mut found = BTreeMap::new();
    let mut kernel = None;
    for line in log.lines() {
        if let Some(name) = line.split("Compiling entry function '").nth(1).and_then(|rest| rest.split('\'').next()) {
            kernel = Some(name.to_owned());
        }
        let Some(kernel) = &kernel else { continue };
        // "Used 40 registers, used 1 barriers, 4096 bytes smem"
        let before = |what: &str| -> u32 {
            let Some(end) = line.find(what) else { return 0 };
            line[..end].trim_end().rsplit([' ', ',']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let local = ["bytes stack frame", "bytes spill stores", "bytes spill loads", "bytes lmem"].map(before);
        let said = Used {
            registers: before("registers"),
            shared: before("bytes smem"),
            local: local.into_iter().max().unwrap_or_default(),
        };
        let used: &mut Used = found.entry(kernel.clone()).or_default();
        *used = used.max(said);
    }
    found
}
