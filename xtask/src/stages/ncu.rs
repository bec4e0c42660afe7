//! Stage 7: what the profiler says of one launch of each kernel of a frame.

use std::fs;

use serde_json::json;

use super::preparation::Subject;
use super::stage::{Stage, Step, Verdict};

pub const FILE: &str = "ncu.csv";
const KERNELS: &str = "regex:gemm|attention|conv|layer_norm|similarity|argmax";

pub fn run(stage: &mut Stage, subject: &Subject) {
    let session = stage.session;
    let ncu = match &session.tools.ncu {
        Ok(path) => path,
        Err(reason) => return stage.missing("ncu", reason),
    };
    let mut command = session.ours(ncu);
    // Clocks stay as the timed runs had them; the first launch of each kernel and configuration is enough.
    command.args(["--clock-control", "none", "--set", "basic"]);
    command.args(["--section", "SpeedOfLight", "--section", "WarpStateStats", "--csv"]);
    command.args(["--filter-mode", "per-launch-config", "--launch-count", "1", "--kernel-name", KERNELS]);
    // The first frame is launched kernel by kernel, not as a graph.
    command.arg(session.bundle.program()).arg("run").arg(&subject.photo).arg("--model").arg(&subject.model);
    command.args(["--labels", &format!("@{}", subject.labels.display()), "--size", "native", "--device", "cuda"]);
    command.arg("--out").arg(session.scratch.file("profiled"));
    let file = session.arguments.out.join(FILE);
    stage.judged(Step::new("ncu", command, 40.0), |output| {
        let csv: String =
            output.stdout.lines().filter(|line| line.starts_with('"')).map(|line| format!("{line}\n")).collect();
        let rows = csv.lines().count().saturating_sub(1);
        let written = fs::write(&file, csv).err().map(|e| format!("{}: {e}", file.display()));
        let none = (rows == 0).then(|| "it profiled no kernel".to_owned());
        Verdict { why: output.failure().or(written).or(none), data: Some(json!({ "rows": rows })) }
    });
}
