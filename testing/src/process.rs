//! Tests that need a process of their own, and programs that are sent signals.

use std::process::Command;

/// Set in such a process to the name of the test that it runs.
const ALONE: &str = "LSEG_TEST_ALONE";

/// This program once more, to run the test of this name (`module::name`) and nothing beside it.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, test);
    command
}

/// Runs the body of the test of this name (`module::name`) in a [`child`], which must end well.
#[track_caller]
pub fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var(ALONE).as_deref() == Ok(test) {
        return body();
    }
    let output = child(test).output().expect("the child starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && stdout.contains("1 passed"), "{test}, {}:\n{stdout}{stderr}", output.status);
    stderr.lines().filter(|line| line.starts_with("skipped")).for_each(|line| eprintln!("{line}"));
}

/// A program that hears signals, though this test was started in the background by a script, which has them ignored.
pub fn hearing(program: &str) -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,TERM", program]);
    command
}

/// This process's peak memory, where the system tells it.
pub fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok()).unwrap_or(0) / 1024
}
