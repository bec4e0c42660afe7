//! Stage 2's last part: the Python wheel as its users have it. Pip installs it without a network into an empty folder; it is imported,
//! and takes and gives memory of a GPU, by CUDA's driver and, on a GPU, by PyTorch and CuPy (crates/lseg-py/tests).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::stage::{Output, Stage, Step, Verdict};

const TESTS: &str = "crates/lseg-py/tests";
/// Of `cuda_cases.py`.
const CASES: [&str; 6] = ["order", "protocols", "places", "lifetime", "lent", "errors"];

pub fn run(stage: &mut Stage) {
    let wheel = match stage.session.bundle.wheel() {
        Ok(wheel) => wheel,
        Err(reason) => return stage.fail("wheel", reason),
    };
    let python = match python(stage) {
        Ok(python) => python,
        Err(reason) => return stage.missing("wheel", &reason),
    };
    let site = stage.session.scratch.file("site");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]);
    install.args(["--no-compile", "--target"]).arg(&site).arg(wheel);
    if stage.step(Step::new("wheel: pip install", install, 20.0)).failure().is_some() {
        return;
    }
    let with = |script: &str| {
        let mut command = command(stage, &python, &site);
        command.arg(stage.session.bundle.root().join(TESTS).join(script));
        command
    };
    let mut steps = vec![Step::new("wheel: import", with("smoke.py"), 15.0)];
    for case in CASES {
        let mut command = with("cuda_cases.py");
        command.arg(case);
        steps.push(Step::new(format!("wheel: {case}"), command, 15.0));
    }
    for step in steps {
        stage.step(step);
    }
    if stage.session.is_real() {
        let mut pytest = command(stage, &python, &site);
        pytest.args(["-m", "pytest", "-q", "-s", "-rs", "-p", "no:cacheprovider"]);
        pytest.arg(stage.session.bundle.root().join(TESTS).join("gpu"));
        stage.judged(Step::new("wheel: PyTorch, CuPy", pytest, 40.0), judge);
    }
}

/// One that has what a wheel needs.
fn python(stage: &Stage) -> Result<PathBuf, String> {
    let python = stage.session.tools.python.clone()?;
    let mut probe = Command::new(&python);
    probe.args(["-c", "import numpy, pip"]);
    match stage.run(Step::new("numpy and pip", probe, 10.0)).failure() {
        None => Ok(python),
        Some(reason) => Err(format!("{}: no numpy or no pip: {reason}", python.display())),
    }
}

/// Python with the wheel, and the driver that our programs find. On a GPU PyTorch's libraries are its own to find.
fn command(stage: &Stage, python: &Path, site: &Path) -> Command {
    let mut command = if stage.session.is_real() { Command::new(python) } else { stage.session.ours(python) };
    command.env("PYTHONPATH", site).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Some tests must have passed; what they measured is recorded.
fn judge(output: &Output) -> Verdict {
    let passed = passed(&output.stdout);
    let none = (passed == 0).then(|| "no test passed".to_owned());
    let measured: Vec<&str> = output.stdout.lines().filter(|line| line.contains("µs")).collect();
    Verdict { why: output.failure().or(none), data: Some(json!({ "passed": passed, "measured": measured })) }
}

/// Of `5 passed, 1 skipped in 3.21s`.
fn passed(stdout: &str) -> u32 {
    let counts = stdout.lines().rev().find_map(|line| line.split_once(" passed"));
    counts.and_then(|(before, _)| before.split_whitespace().next_back()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_pytest_are_read() {
        assert_eq!(passed("..s.\nSKIPPED [1] no CuPy\n5 passed, 1 skipped in 3.21s\n"), 5);
        assert_eq!(passed("1 failed, 12 passed in 0.10s"), 12);
        assert_eq!(passed("6 skipped in 0.10s"), 0);
    }
}
