//! Child processes in which the virtual GPU's settings (VGPU_*, read once) differ.

use std::path::PathBuf;
use std::process::Command;

/// Set in a child to the name of the test that it runs.
const CHILD: &str = "VGPU_TEST_CHILD";

/// The nvcc for kernels that a test compiles itself; `None`, and a message, if there is none.
pub fn nvcc() -> Option<PathBuf> {
    let found = std::env::var_os("LSEG_NVCC").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: LSEG_NVCC names no nvcc; `cargo xtask test` sets it");
    }
    found
}

/// What a child process said on stdout and stderr, by the environment it got.
pub struct Said {
    pub setting: String,
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
    let run = |setting: &&[(&str, &str)]| {
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test);
        let output = child.envs(setting.iter().copied()).output().expect("the child starts");
        let said = Said {
            setting: setting.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let ran = output.status.success() && said.stdout.contains("1 passed");
        assert!(ran, "{test} with {}:\n{}{}", said.setting, said.stdout, said.stderr);
        said.stderr.lines().filter(|line| line.starts_with("skipped")).for_each(|line| eprintln!("{line}"));
        said
    };
    settings.iter().map(run).collect()
}
