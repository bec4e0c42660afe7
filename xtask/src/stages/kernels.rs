//! Stages 5 and 6: our kernels beside cuBLAS, PyTorch's operations, and every tile beside the chosen one.

use std::fs;

use serde_json::{Value, json};

use super::stage::{Stage, Step, TorchStep, Verdict};
use super::torch::Task;

pub const SWEEP_FILE: &str = "sweep.jsonl";
/// The names of the records that hold times.
pub const KERNEL: &str = "kernel";
pub const TORCH_RATE: &str = "torch rate";

/// Our kernels at the real model's shapes; lines named `kernel`.
pub fn run(stage: &mut Stage) {
    let mut command = stage.session.program();
    command.args(["bench", "kernels", "--json"]);
    if !stage.session.is_real() {
        command.arg("--rehearse");
    } else if stage.session.libraries.cublas.is_some() {
        // Without the library that is an error; ours alone are worth their time, too.
        command.arg("--cublas");
    }
    stage.judged(Step::new("bench kernels", command, 60.0).lines(KERNEL), |output| {
        let cases = output.json.iter().filter(|line| line["kernels"].is_array()).count();
        let none = (cases == 0).then(|| "it timed no kernel".to_owned());
        Verdict { why: output.failure().or(none), data: Some(json!({ "cases": cases })) }
    });
}

/// PyTorch's operations at the same shapes; lines named `torch rate`.
pub fn torch(stage: &mut Stage) -> Vec<Value> {
    let command = stage.session.torch(Task::Rates);
    let output = stage.torch(command, TorchStep { name: "torch rates", limit: 30.0, lines: Some(TORCH_RATE) });
    output.map(|output| output.json).unwrap_or_default()
}

/// Every configuration of the products, each checked before it is timed.
pub fn sweep(stage: &mut Stage) {
    let session = stage.session;
    let mut command = session.program();
    command.args(["bench", "kernels", "--sweep", "--json"]);
    if !session.is_real() {
        command.arg("--rehearse");
    }
    let file = session.arguments.out.join(SWEEP_FILE);
    stage.judged(Step::new("bench kernels --sweep", command, 105.0), |output| {
        let tried: Vec<&Value> = output.json.iter().filter(|line| line["kernel"].is_string()).collect();
        let wrong = tried.iter().filter(|line| line["ok"] == false).count();
        let lines: String = output.json.iter().map(|line| format!("{line}\n")).collect();
        let written = fs::write(&file, lines).err().map(|e| format!("{}: {e}", file.display()));
        let none = tried.is_empty().then(|| "it tried no configuration".to_owned());
        let data = json!({ "configurations": tried.len(), "wrong": wrong });
        Verdict { why: output.failure().or(written).or(none), data: Some(data) }
    });
}
