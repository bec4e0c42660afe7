//! Stage 1: micro.cu, compiled here as its header says and run probe by probe, each in a process of its own: one that
//! hangs or faults leaves the others alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::{Stage, Step, Verdict};

/// The name of the records that hold what a probe measured.
pub const MICRO: &str = "micro";
const BITS_FILE: &str = "wgmma_bits.bin";
/// Where cuda.h lies if nvcc's place does not tell.
const CUDA: &str = "/usr/local/cuda/include";
/// Of a GPU that could not be asked.
const HOPPER: &str = "9.0";
const PTX: [&str; 4] = ["-O3", "-std=c++17", "-ptx", "-arch=compute_80"];
const CUBIN: [&str; 5] = ["-O3", "-std=c++17", "-Xptxas", "-v", "-cubin"];

/// `capability` is the GPU's, such as "9.0".
pub fn run(stage: &mut Stage, capability: Option<&str>) {
    let nvcc = match &stage.session.tools.nvcc {
        Ok(path) => path,
        Err(reason) => return stage.missing("build micro", reason),
    };
    let folder = stage.session.scratch.file("micro");
    if let Err(reason) = fs::create_dir_all(&folder) {
        return stage.fail("build micro", format!("{}: {reason}", folder.display()));
    }
    if !build(stage, nvcc, &folder, capability.unwrap_or(HOPPER)) {
        return;
    }
    for probe in probes(stage, &folder) {
        measure(stage, &folder, &probe);
    }
    keep_the_bits(stage, &folder);
}

/// Machine code, PTX and the program; false without the program.
fn build(stage: &mut Stage, nvcc: &Path, folder: &Path, capability: &str) -> bool {
    let source = stage.session.bundle.gpu("micro.cu");
    let number = capability.replace('.', "");
    let portable = format!("arch=compute_{number},code=sm_{number}");
    let hopper = ["-gencode", "arch=compute_90a,code=sm_90a", "-DMICRO_HOPPER"];
    let images: [(&str, &[&str], String); 3] = [
        ("ptx", &PTX, "micro_portable.ptx".to_owned()),
        ("sm_90a", &[&CUBIN[..], &hopper[..]].concat(), "micro_hopper.sm_90a.cubin".to_owned()),
        ("portable", &[&CUBIN[..], &["-gencode", &portable]].concat(), format!("micro_portable.sm_{number}.cubin")),
    ];
    let step = |(image, flags, file): &(&str, &[&str], String)| {
        let mut command = Command::new(nvcc);
        command.args(*flags).arg("-o").arg(folder.join(file)).arg(&source);
        Step::new(format!("build micro {image}"), command, 40.0)
    };
    let mut host = Command::new("g++");
    host.args(["-O2", "-std=c++17", "-x", "c++", "-I"])
        .arg(include(nvcc))
        .args(["-I", CUDA])
        .arg("-o")
        .arg(folder.join("micro"));
    host.arg(&source).arg("-ldl");
    let steps = images.iter().map(step).chain([Step::new("build micro", host, 40.0)]);
    // An image that cannot be made leaves the others.
    let _ = stage.together(steps.collect());
    folder.join("micro").is_file()
}

/// Where cuda.h is: `include` beside nvcc's `bin`.
fn include(nvcc: &Path) -> PathBuf {
    let real = fs::canonicalize(nvcc).unwrap_or(nvcc.to_path_buf());
    real.parent().and_then(Path::parent).unwrap_or(Path::new("/usr/local/cuda")).join("include")
}

/// A probe and the most seconds that it takes.
struct Probe {
    name: String,
    seconds: f64,
}

/// Of lines of a name, a number of seconds, and what it is.
fn probes(stage: &mut Stage, folder: &Path) -> Vec<Probe> {
    let mut command = stage.session.ours(&folder.join("micro"));
    command.arg("--list");
    let mut found = Vec::new();
    stage.judged(Step::new("micro --list", command, 5.0), |output| {
        found = output.stdout.lines().filter_map(probe).collect();
        let none = found.is_empty().then(|| "it lists no probe".to_owned());
        Verdict { why: output.failure().or(none), data: None }
    });
    found
}

fn probe(line: &str) -> Option<Probe> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    Some(Probe { name, seconds: words.next()?.parse().ok()? })
}

fn measure(stage: &mut Stage, folder: &Path, probe: &Probe) {
    let session = stage.session;
    let mut command = session.ours(&folder.join("micro"));
    command.arg("--modules").arg(folder).arg(&probe.name).arg("--out").arg(folder);
    if !session.is_real() {
        command.arg("--dry");
    }
    // The virtual GPU is slower than any GPU.
    let limit = if session.is_real() { probe.seconds.clamp(1.0, 20.0) } else { 60.0 };
    stage.judged(Step::new(format!("micro {}", probe.name), command, limit).lines(MICRO), |output| {
        let error = output.json.iter().find_map(|line| line["error"].as_str());
        let why = output.failure().map(|reason| error.map_or(reason.clone(), |error| format!("{reason}: {error}")));
        Verdict { why, data: None }
    });
}

fn keep_the_bits(stage: &mut Stage, folder: &Path) {
    let bits = folder.join(BITS_FILE);
    if bits.is_file()
        && let Err(reason) = fs::copy(&bits, stage.session.arguments.out.join(BITS_FILE))
    {
        stage.fail(BITS_FILE, reason);
    }
}
