//! Stage 8: a kernel that faults, alone and last. CUDA's documentation says of such errors that the process has to be
//! started anew; what this driver does is recorded either way and fails nothing.

use serde_json::json;

use super::correct::{self, FAULT};
use super::stage::{Stage, Step, Verdict};

pub fn run(stage: &mut Stage) {
    let mut command = stage.session.ours(&stage.session.bundle.tests());
    command.args(["--exact", FAULT, "--nocapture"]);
    stage.judged(Step::new("a faulting kernel", command, 30.0), |output| {
        let Verdict { why, .. } = correct::judge(output);
        Verdict { why, data: Some(json!({ "said": output.done.tail.text() })) }
    });
}
