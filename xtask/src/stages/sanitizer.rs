//! Stage 3: compute-sanitizer's four tools on one photo through the small golden model.

use std::fmt::Write as _;
use std::fs;

use serde_json::json;

use super::log::MOST_BYTES;
use super::stage::{Output, Stage, Step, Verdict};

pub const FILE: &str = "sanitizer.txt";
const TOOLS: [&str; 4] = ["memcheck", "racecheck", "initcheck", "synccheck"];
const SECONDS: f64 = 15.0;

pub fn run(stage: &mut Stage) {
    let mut all = String::new();
    for tool in TOOLS {
        if let Some(output) = sanitize(stage, tool) {
            // Writing to a string cannot fail.
            let _ = write!(all, "==== {tool}\n{}\n", output.stdout);
        }
    }
    if all.is_empty() {
        return;
    }
    let path = stage.session.arguments.out.join(FILE);
    if let Err(reason) = fs::write(&path, &all.as_bytes()[..all.len().min(MOST_BYTES)]) {
        stage.fail(FILE, reason);
    }
}

fn sanitize(stage: &mut Stage, tool: &str) -> Option<Output> {
    let session = stage.session;
    let sanitizer = match &session.tools.compute_sanitizer {
        Ok(path) => path,
        Err(reason) => {
            stage.missing(tool, reason);
            return None;
        }
    };
    let golden = session.bundle.root().join("tests/golden/vit16");
    let mut command = session.ours(sanitizer);
    command.args(["--tool", tool]).arg(session.bundle.program()).arg("run").arg(golden.join("photo_0.png"));
    command.arg("--model").arg(golden.join("model.ckpt")).args(["--labels", "cat,wall,other", "--device", "cuda"]);
    command.arg("--out").arg(session.scratch.file("sanitized"));
    Some(stage.judged(Step::new(tool, command, SECONDS), judge))
}

fn judge(output: &Output) -> Verdict {
    let errors = errors(&output.stdout);
    let why = output.failure().or(match errors {
        Some(0) => None,
        Some(errors) => Some(format!("{errors} errors")),
        None => Some("it printed no summary".to_owned()),
    });
    Verdict { why, data: Some(json!({ "errors": errors })) }
}

/// Of `ERROR SUMMARY: 0 errors`, or racecheck's `RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)`, where
/// a warning is a hazard too.
fn errors(text: &str) -> Option<u64> {
    let count = text.lines().rev().find_map(|line| line.split_once(" SUMMARY: "))?.1;
    count.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        assert_eq!(errors("========= COMPUTE-SANITIZER\nlabels\n========= ERROR SUMMARY: 12 errors\n"), Some(12));
        assert_eq!(errors("========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)"), Some(1));
        assert_eq!(errors("========= Error: Target application terminated before first instrumented API call"), None);
    }
}
