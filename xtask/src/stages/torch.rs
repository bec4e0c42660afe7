//! PyTorch's side, `torch_lseg.py`: what it can be asked for, and torch.json, everything that it said in one object.

use std::fs;

use serde::Serialize;
use serde_json::Value;

use super::stage::{Output, Stage};

pub const FILE: &str = "torch.json";

/// The commands of `torch_lseg.py`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// Makes the checkpoint, the photo and the labels.
    Prepare,
    /// Compiles.
    Warm,
    /// Computes frames when it is told to.
    Serve,
    /// Compares our scores with PyTorch's in float32.
    Agree,
    /// Times single operations.
    Rates,
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Task::Prepare => "prepare",
            Task::Warm => "warm",
            Task::Serve => "serve",
            Task::Agree => "agree",
            Task::Rates => "rates",
        }
    }
}

/// Its exit code where the interpreter has no PyTorch.
const NO_PYTORCH: i32 = 3;

/// Why there is no PyTorch, if that is why it ended so.
pub fn absent(output: &Output) -> Option<String> {
    let said = output.json.iter().find_map(|line| line["absent"].as_str());
    (output.done.rc() == Some(NO_PYTORCH)).then(|| said.unwrap_or("no PyTorch").to_owned())
}

#[derive(Default, Serialize)]
pub struct Torch {
    pub agreement: Option<Value>,
    /// The race's answers, ours too.
    pub frames: Vec<Value>,
    pub rates: Vec<Value>,
}

impl Torch {
    /// As far as it is known by now.
    pub fn write(&self, stage: &mut Stage) {
        let path = stage.session.arguments.out.join(FILE);
        let written = serde_json::to_string_pretty(self).map_err(|e| e.to_string());
        if let Err(reason) = written.and_then(|text| fs::write(&path, text + "\n").map_err(|e| e.to_string())) {
            stage.fail(FILE, reason);
        }
    }
}
