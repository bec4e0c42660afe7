//! Stage 0: what this machine is.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::stage::{Output, Stage, Step, TorchStep, Verdict};
use super::tools::Tool;

const GPU: &str = "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.memory,\
                   pcie.link.gen.max,pcie.link.width.max,ecc.mode.current,compute_mode";
/// As `torch_lseg.py` answers without PyTorch.
const TORCH: &str = "\
import json, platform, sys
try:
    import torch
except (ImportError, OSError) as error:
    print(json.dumps({'absent': f'no PyTorch: {error}'}))
    sys.exit(3)
gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
about = {'python': platform.python_version(), 'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpu': gpu}
print(json.dumps(about))";

/// The GPU's compute capability, where it could be asked.
pub fn run(stage: &mut Stage) -> Option<String> {
    machine(stage);
    libraries(stage);
    let tools = &stage.session.tools;
    version(stage, "nvidia-smi", &tools.nvidia_smi, &[GPU, "--format=csv"]);
    version(stage, "nvcc", &tools.nvcc, &["--version"]);
    version(stage, "ncu", &tools.ncu, &["--version"]);
    version(stage, "compute-sanitizer", &tools.compute_sanitizer, &["--version"]);
    let capability = device(stage);
    torch(stage);
    capability
}

fn machine(stage: &mut Stage) {
    let glibc = Command::new("ldd").arg("--version").output().ok();
    let glibc = glibc.and_then(|output| Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned()));
    let data = json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": read("/proc/cpuinfo").as_deref().and_then(processor),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "glibc": glibc,
    });
    stage.note("machine", data);
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Which libraries our programs will find, and what was taken out of their way.
fn libraries(stage: &mut Stage) {
    let libraries = &stage.session.libraries;
    let shown = |path: &Option<std::path::PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string());
    stage.note(
        "libraries",
        json!({
            "path": libraries.path.to_string_lossy(),
            "cublas": shown(&libraries.cublas),
            "stubs_left_out": libraries.stubs.iter().map(|stub| stub.display().to_string()).collect::<Vec<_>>(),
            "virtual_gpu": shown(&libraries.virtual_gpu),
        }),
    );
    if libraries.cublas.is_none() {
        stage.missing("libcublas", "neither in LD_LIBRARY_PATH nor beside PyTorch nor under /usr/local/cuda");
    }
}

fn version(stage: &mut Stage, name: &str, tool: &Tool, arguments: &[&str]) {
    let path = match tool {
        Ok(path) => path,
        Err(reason) => return stage.missing(name, reason),
    };
    let mut command = Command::new(path);
    command.args(arguments);
    let output = stage.run(Step::new(name, command, 15.0));
    let data = json!({ "path": path.display().to_string(), "says": said(&output) });
    stage.judge(name, &output, Verdict { why: output.failure(), data: Some(data) });
}

/// Its lines.
fn said(output: &Output) -> Vec<&str> {
    output.stdout.lines().filter(|line| !line.trim().is_empty()).collect()
}

fn torch(stage: &mut Stage) {
    let python = stage.session.tools.python.clone();
    let command = python.map(|python| {
        let mut command = Command::new(python);
        command.args(["-c", TORCH]);
        command
    });
    // Whether it is there is recorded; who needs it asks again.
    let _ = stage.torch(command, TorchStep { name: "torch", limit: 30.0, lines: None });
}

/// The GPU as our program sees it, and the driver's file that it opened.
fn device(stage: &mut Stage) -> Option<String> {
    let mut command = stage.session.program();
    command.args(["bench", "device", "--json"]);
    let output = stage.judged(Step::new("device", command, 15.0), |output| {
        let device = output.json.first();
        let refused = device.and_then(refused);
        let absent = device.is_none().then(|| "it printed no JSON".to_owned());
        Verdict { why: output.failure().or(absent).or(refused), data: device.cloned() }
    });
    output.json.first()?["capability"].as_str().map(str::to_owned)
}

/// On a GPU every module has machine code that it takes.
fn refused(device: &Value) -> Option<String> {
    if device["virtual"] == true {
        return None;
    }
    let modules = device["modules"].as_array()?;
    let reasons: Vec<String> = modules
        .iter()
        .filter(|module| !module["refused"].is_null() || module["image"] == "PTX")
        .map(|module| format!("{} runs as {} ({})", module["module"], module["image"], module["refused"]))
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
