//! Arguments that several subcommands share.

use std::path::{Path, PathBuf};

use clap::Args;
use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::engine::{DeviceChoice, Engine, Options};
use lseg_fast::labels;
use lseg_fast::model::config::Config;
use lseg_fast::model::recognise::{Flags, recognise};

use super::{Failure, message};

/// Which words are looked for.
#[derive(Args)]
pub struct LabelArguments {
    /// The labels, split at commas ("dog,tall grass,other"), or @FILE with one a line
    ///
    /// In a file, lines that start with # are comments. A label that starts with @ goes in a file.
    #[arg(long, value_name = "WORDS|@FILE")]
    labels: String,
}

impl LabelArguments {
    pub fn resolve(&self) -> Result<Vec<String>, Failure> {
        labels::parse(&self.labels).map_err(Failure::call)
    }
}

/// Which model runs, and on what.
#[derive(Args)]
pub struct EngineArguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Where to compute: auto, cpu, cuda or cuda:N; auto takes a GPU where one works, else the CPU
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,

    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl EngineArguments {
    /// Loads the model; why `auto` fell back to the CPU is said on stderr unless `quiet`.
    pub fn load(&self, quiet: bool) -> Result<Engine, Failure> {
        let options = Options { device: self.device, threads: self.threads.map(usize::from) };
        let engine = Engine::load(self.model()?, &options).map_err(Failure::call)?;
        if let Some(note) = engine.note().filter(|_| !quiet) {
            message::note(note);
        }
        Ok(engine)
    }

    /// The model's file, or what to do about there being none.
    pub fn model(&self) -> Result<&Path, Failure> {
        model_or_hint(self.model.as_deref())
    }
}

/// The model's file, or an error that tells how to come by one.
pub fn model_or_hint(model: Option<&Path>) -> Result<&Path, Failure> {
    model.ok_or_else(|| {
        Failure::call(
            "no --model was given and this build has none embedded; convert the published LSeg checkpoint \
             (lseg-fast convert demo_e200.ckpt --out lseg.safetensors) and pass --model lseg.safetensors, or try the \
             small model with random weights of the repository (--model weights/seeded/seeded.ckpt)",
        )
    })
}

/// A model's configuration, without loading its weights.
pub fn read_config(model: &Path) -> lseg_fast::Result<(Checkpoint, Config)> {
    let checkpoint = Checkpoint::open(model)?;
    let config = recognise(&checkpoint, &Flags::default())?;
    Ok((checkpoint, config))
}
