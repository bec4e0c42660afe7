//! Stage 2: whether the kernels are right: the suite's tests that need a GPU, the program's own check, and the Python wheel.

use serde_json::json;

use super::budget::Mode;
use super::stage::{Output, Stage, Step, Verdict};
use super::wheel;

/// It ends the process' CUDA context: stage 8.
pub const FAULT: &str = "host::lost::a_faulting_kernel_loses_its_engine_and_no_other";

pub fn run(stage: &mut Stage) {
    check(stage);
    let seconds = limit(stage, 20.0);
    let filters: &[&str] = match stage.session.mode() {
        Mode::Real => &["host::", "--skip", FAULT],
        // In eight schedules of the virtual GPU they take minutes.
        Mode::Dry => &["host::", "--skip", FAULT, "--skip", "host::interop"],
        // The suite has just run all of them: whether these find what they need in a bundle.
        Mode::Quick => &["host::program", "host::primary", "host::refused"],
    };
    tests(stage, "host", filters, seconds);
    if stage.session.mode() == Mode::Quick {
        return;
    }
    let seconds = limit(stage, 35.0);
    tests(stage, "results", &["operations::", "golden::"], seconds);
    kernels(stage);
    wheel::run(stage);
}

/// In a rehearsal the stage's own deadline is the limit.
fn limit(stage: &Stage, seconds: f64) -> f64 {
    if stage.session.is_real() { seconds } else { 600.0 }
}

fn check(stage: &mut Stage) {
    let mut command = stage.session.program();
    command.args(["bench", "check", "--json", "--golden"]).arg(stage.session.bundle.root().join("tests/golden"));
    let limit = limit(stage, 35.0);
    stage.judged(Step::new("bench check", command, limit), |output| {
        let data = output.json.last().cloned();
        let absent = data.is_none().then(|| "it printed no JSON".to_owned());
        Verdict { why: output.failure().or(absent), data }
    });
}

/// Every kernel at the real model's shapes against the CPU.
fn kernels(stage: &mut Stage) {
    let mut command = stage.session.program();
    command.args(["bench", "kernels", "--check-only", "--json"]);
    if !stage.session.is_real() {
        command.arg("--rehearse");
    }
    let limit = limit(stage, 35.0);
    stage.judged(Step::new("bench kernels --check-only", command, limit), |output| {
        let cases = output.json.iter().filter(|line| !line["error"].is_null()).count();
        let none = (cases == 0).then(|| "it checked no kernel".to_owned());
        Verdict { why: output.failure().or(none), data: Some(json!({ "cases": cases })) }
    });
}

/// Some of the tests, one at a time: they share the GPU.
fn tests(stage: &mut Stage, name: &str, filters: &[&str], limit: f64) {
    let mut command = stage.session.ours(&stage.session.bundle.tests());
    command.args(filters).args(["--test-threads", "1"]);
    stage.judged(Step::new(format!("tests {name}"), command, limit), judge);
}

/// A run whose tests were all left out or skipped is green too: some must have passed.
pub fn judge(output: &Output) -> Verdict {
    let passed = passed(&output.stdout);
    let none = (passed == 0).then(|| "no test passed".to_owned());
    let failed: Vec<&str> = output.stdout.lines().filter_map(failed).collect();
    let why = output.failure().map(|reason| match failed.is_empty() {
        true => reason,
        false => format!("{}: {reason}", failed.join(", ")),
    });
    Verdict { why: why.or(none), data: Some(json!({ "passed": passed, "failed": failed })) }
}

/// Of `test result: ok. 3 passed; 0 failed; …`.
fn passed(stdout: &str) -> u32 {
    let result = stdout.lines().rev().find_map(|line| line.strip_prefix("test result: "));
    let count = result.and_then(|result| result.split_once(". ")?.1.split_once(" passed"));
    count.and_then(|(count, _)| count.parse().ok()).unwrap_or(0)
}

/// Of `test name ... FAILED`.
fn failed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_the_test_harness_are_read() {
        let text = "\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\n\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored\n\n";
        assert_eq!(passed(text), 1);
        assert_eq!(text.lines().filter_map(failed).collect::<Vec<_>>(), ["b"]);
        assert_eq!(passed("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 11 filtered out"), 12);
        assert_eq!(passed("error: no such test"), 0);
    }
}
