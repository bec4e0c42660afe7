//! A killed process leaves no temporary file behind.
#![cfg(target_os = "linux")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lseg_fast::output;

/// Where the child writes; set by the parent.
const TARGET: &str = "LSEG_FAST_TEST_INTERRUPTED_FILE";

/// The part of the child process: a write that does not end by itself.
#[test]
#[ignore = "run by the other test as a process of its own"]
fn child_that_writes_slowly() {
    let Some(path) = std::env::var_os(TARGET) else { return };
    output::clean_up_on_interrupt();
    output::write_atomically(Path::new(&path), |out| {
        out.write_all(b"half")?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    })
    .unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_interrupted_write_leaves_nothing_behind() {
    for signal in ["INT", "TERM", "HUP"] {
        let folder = tempfile::tempdir().unwrap();
        // A test run in the background may have been started with the signals ignored.
        let mut child = Command::new("env")
            .arg("--default-signal=INT,TERM,HUP")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_slowly", "--ignored"])
            .env(TARGET, folder.path().join("result"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while names(folder.path()).is_empty() {
            assert!(started.elapsed() < Duration::from_secs(20), "the child never began to write");
            std::thread::sleep(Duration::from_millis(5));
        }
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert_eq!(names(folder.path()), [""; 0], "{signal}");
    }
}
