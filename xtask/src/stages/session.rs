//! What all stages of a run share.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::arguments::Arguments;
use super::budget::Mode;
use super::log::Log;
use super::places::{Bundle, Scratch};
use super::tools::{Libraries, Tools};
use super::torch::Task;
use crate::Outcome;
use crate::record::Recorder;

const NO_VIRTUAL_GPU: &str = "no virtual GPU to rehearse on: libcuda.so is neither in a folder of LD_LIBRARY_PATH nor in \
                              vgpu/ beside the bundle; cargo xtask vgpu makes it (target/vgpu)";

pub struct Session {
    pub arguments: Arguments,
    pub bundle: Bundle,
    pub scratch: Scratch,
    pub tools: Tools,
    pub libraries: Libraries,
    pub recorder: Recorder,
    pub log: Log,
    pub started: Instant,
}

impl Session {
    pub fn begin(arguments: Arguments, bundle: Bundle) -> Outcome<Session> {
        let started = Instant::now();
        let tools = Tools::find(&bundle, arguments.mode);
        let scratch = Scratch::new()?;
        let python = tools.python.as_deref().ok();
        let libraries = Libraries::find(&bundle, arguments.mode, python, &scratch.file("libraries"));
        if arguments.mode != Mode::Real && libraries.virtual_gpu.is_none() {
            return Err(NO_VIRTUAL_GPU.to_owned());
        }
        let out = &arguments.out;
        std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
        let recorder = Recorder::create(out)?;
        let log = Log::create(out, started)?;
        Ok(Session { scratch, bundle, tools, libraries, recorder, log, started, arguments })
    }

    pub fn mode(&self) -> Mode {
        self.arguments.mode
    }

    pub fn is_real(&self) -> bool {
        self.mode() == Mode::Real
    }

    pub fn chosen(&self, stage: u8) -> bool {
        self.arguments.stages.contains(&stage)
    }

    /// A limit, as patient as this run is.
    pub fn limit(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds).mul_f64(self.arguments.patience)
    }

    /// `lseg-fast`, told that a GPU is there.
    pub fn program(&self) -> Command {
        self.ours(&self.bundle.program())
    }

    /// One of our own programs. With these variables no test may skip what it should see.
    pub fn ours(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.env("LD_LIBRARY_PATH", &self.libraries.path);
        command.env("VGPU_LIB", self.libraries.virtual_gpu.as_deref().unwrap_or(Path::new("none")));
        command.env("LSEG_NVCC", self.tools.nvcc.as_deref().unwrap_or(Path::new("none")));
        command.env("LSEG_TEST_ROOT", self.bundle.root()).env("LSEG_TEST_BIN", self.bundle.program());
        if !self.is_real() && ["VGPU_DEVICE", "VGPU_DEVICES"].iter().all(|name| std::env::var_os(name).is_none()) {
            command.env("VGPU_DEVICE", "h100");
        }
        command
    }

    /// PyTorch's side: it finds its own libraries.
    pub fn torch(&self, task: Task) -> Outcome<Command> {
        let mut command = Command::new(self.tools.python.as_deref()?);
        command.arg(self.bundle.gpu("torch_lseg.py")).arg(task.name()).arg("--json");
        command.env("LSEG_TEST_ROOT", self.bundle.root());
        if task != Task::Rates {
            command.arg("--dir").arg(&self.scratch.folder);
        }
        if matches!(task, Task::Serve | Task::Agree) {
            command.arg("--text").arg(self.text());
        }
        if matches!(task, Task::Serve | Task::Warm) {
            command.arg("--compile-cache").arg(self.compiled());
        }
        if !self.is_real() {
            command.args(["--device", "cpu"]);
            if task != Task::Rates {
                command.arg("--small");
            }
        }
        Ok(command)
    }

    /// The labels' embeddings, by our text tower.
    pub fn text(&self) -> PathBuf {
        self.scratch.file("text.npy")
    }

    /// PyTorch's cache of compiled forms.
    pub fn compiled(&self) -> PathBuf {
        self.scratch.file("compiled")
    }
}
