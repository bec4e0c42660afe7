//! Child processes in which the virtual GPU's settings (VGPU_*, read once) differ.

use std::process::Command;

use crate::library::load_library;

/// Set in a child to the name of the test that it runs.
const CHILD: &str = "VGPU_TEST_CHILD";

pub const SCHEDULES: &[&[(&str, &str)]] = &[&[("VGPU_SCHED", "0")], &[("VGPU_SCHED", "1")]];

/// What a child process said.
pub struct Said {
    pub stdout: String,
    pub stderr: String,
}

/// Runs `body` in a child process for each setting (`VGPU_SCHED=0`, …) and expects it to end well. `test` is the path of
/// the calling test. What the children said; nothing inside a child.
pub fn in_children(test: &str, settings: &[&[(&str, &str)]], body: impl FnOnce()) -> Vec<Said> {
    if std::env::var(CHILD).as_deref() == Ok(test) {
        body();
        return Vec::new();
    }
    if load_library() { settings.iter().map(|setting| run(test, setting)).collect() } else { Vec::new() }
}

/// The same for one setting.
pub fn in_child(test: &str, setting: &[(&str, &str)], body: impl FnOnce()) -> Option<Said> {
    in_children(test, &[setting], body).pop()
}

fn run(test: &str, setting: &[(&str, &str)]) -> Said {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test);
    child.env_remove("LD_LIBRARY_PATH").env_remove("VGPU_DEVICE").env_remove("VGPU_DEVICES");
    let output = child.envs(setting.iter().copied()).output().expect("the child starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // A name that no test has would pass as well, having run nothing.
    let ran = output.status.success() && stdout.contains("1 passed");
    assert!(ran, "{test} with {setting:?}:\n{stdout}{stderr}");
    stderr.lines().filter(|line| line.starts_with("skipped")).for_each(|line| eprintln!("{line}"));
    Said { stdout, stderr }
}
