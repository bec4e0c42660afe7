//! What the race needs, made in the background: a seeded checkpoint of the full size, its converted file, the labels'
//! embeddings, and PyTorch's compiled forms. The first three use the CPU alone and run beside the microbenchmarks;
//! compiling uses the GPU and waits until nothing is timed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::child::End;
use super::group;
use super::session::Session;
use super::stage::{Stage, Step, TorchStep, Verdict};
use super::torch::Task;
use crate::Outcome;

/// The name of the records of what was compiled.
const WARM: &str = "torch warm";
const MOST_THREADS: usize = 8;
const POLL: Duration = Duration::from_millis(50);

/// What the race runs on.
pub struct Subject {
    pub model: PathBuf,
    pub photo: PathBuf,
    pub labels: PathBuf,
    /// The photo's, HEIGHTxWIDTH.
    pub size: String,
}

impl Subject {
    /// Made by PyTorch's side, or the small model of the bundle where there is no PyTorch.
    pub fn of(session: &Session, prepared: &Outcome) -> Outcome<Subject> {
        let labels = session.scratch.file("labels.txt");
        if prepared.is_ok() {
            let size = size(&session.scratch.file("case.json"))?;
            return Ok(Subject { model: model(session), photo: session.scratch.file("photo.ppm"), labels, size });
        }
        std::fs::write(&labels, "cat\nwall\nother\n").map_err(|e| format!("{}: {e}", labels.display()))?;
        let root = session.bundle.root();
        let (model, photo) = (root.join("weights/seeded/seeded.ckpt"), root.join("tests/golden/vit16/photo_0.png"));
        Ok(Subject { model, photo, labels, size: "64x96".to_owned() })
    }
}

#[derive(Default)]
pub struct Preparation {
    /// Set to end it.
    pub stop: AtomicBool,
    gpu_is_free: AtomicBool,
    files: OnceLock<Outcome>,
    compiled: OnceLock<Outcome>,
}

impl Preparation {
    /// All of it, one after the other; what went wrong, in words.
    pub fn run(&self, session: &Session, deadline: Instant) -> Option<String> {
        let mut stage = Stage::new(session, 0, deadline, &self.stop);
        let files = make_files(&mut stage);
        // Set once: by this thread.
        let _ = self.files.set(files.clone());
        if files.is_ok() {
            self.wait_for_the_gpu(deadline);
            let _ = self.compiled.set(compile(&mut stage));
        }
        stage.failures()
    }

    pub fn gpu_is_free(&self) {
        self.gpu_is_free.store(true, Ordering::SeqCst);
    }

    fn wait_for_the_gpu(&self, deadline: Instant) {
        while !self.gpu_is_free.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) && Instant::now() < deadline
        {
            thread::sleep(POLL);
        }
    }

    /// Whether the files are there, within `limit`.
    pub fn files(&self, limit: Duration) -> Outcome {
        let until = Instant::now() + limit;
        loop {
            match self.files.get() {
                Some(outcome) => return outcome.clone(),
                None if Instant::now() >= until || group::interrupted() => {
                    return Err("the race's model was not ready in time".to_owned());
                }
                None => thread::sleep(POLL),
            }
        }
    }

    /// Until there is one compiled form at least, or `limit`.
    pub fn wait_for_a_form(&self, session: &Session, limit: Duration) {
        let until = Instant::now() + limit;
        let some = session.compiled().join("ready.json");
        while self.compiled.get().is_none() && !some.is_file() && Instant::now() < until && !group::interrupted() {
            thread::sleep(POLL);
        }
    }

    /// Ends what is still running: from now on the GPU is the caller's alone.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn model(session: &Session) -> PathBuf {
    session.scratch.file("model.safetensors")
}

/// Of the photo that `prepare` has made.
fn size(case: &Path) -> Outcome<String> {
    let text = std::fs::read_to_string(case).map_err(|e| format!("{}: {e}", case.display()))?;
    let case: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", case.display()))?;
    match (case["size"][0].as_u64(), case["size"][1].as_u64()) {
        (Some(height), Some(width)) => Ok(format!("{height}x{width}")),
        _ => Err(format!("case.json: expected \"size\": [height, width], found {}", case["size"])),
    }
}

/// The checkpoint, its converted file, the labels' embeddings.
fn make_files(stage: &mut Stage) -> Outcome {
    let session = stage.session;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).to_string();
    let prepare = session.torch(Task::Prepare).map(|mut command| {
        // Some processors stay free for the microbenchmarks' host side.
        command.args(["--threads", &threads]).arg("--bin").arg(session.bundle.program());
        command
    });
    let prepared = stage.torch(prepare, TorchStep { name: "prepare", limit: 120.0, lines: None })?;
    if let Some(reason) = prepared.failure() {
        return Err(format!("prepare: {reason}"));
    }
    let mut convert = session.program();
    convert.arg("convert").arg(session.scratch.file("model.ckpt")).arg("--out").arg(model(session));
    convert.args(["--dtype", "f16"]);
    done(stage, Step::new("convert", convert, 60.0))?;
    let mut text = session.program();
    text.arg("text").arg("--labels").arg(format!("@{}", session.scratch.file("labels.txt").display()));
    text.arg("--out").arg(session.text()).arg("--model").arg(model(session)).args(["--device", "cpu"]);
    done(stage, Step::new("text", text, 60.0))
}

fn done(stage: &mut Stage, step: Step) -> Outcome {
    let name = step.name.clone();
    match stage.step(step).failure() {
        None => Ok(()),
        Some(reason) => Err(format!("{name}: {reason}")),
    }
}

/// One form after the other, the most wanted first; what is ready when the race begins takes part in it.
fn compile(stage: &mut Stage) -> Outcome {
    let seconds = if stage.session.is_real() { "110" } else { "40" };
    let mut warm = stage.session.torch(Task::Warm)?;
    warm.args(["--budget", seconds]);
    let output = stage.judged(Step::new("compiled forms", warm, 240.0).lines(WARM), |output| {
        let is_cut = output.done.end == End::Interrupted && !group::interrupted();
        let why = if is_cut { None } else { output.failure() };
        Verdict { why, data: Some(json!({ "forms": output.json.len(), "cut_off_by_the_race": is_cut })) }
    });
    output.failure().map_or(Ok(()), Err)
}
