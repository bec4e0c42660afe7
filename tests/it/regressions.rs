//! Inputs on which the fuzz targets (fuzz/README.md), or thinking about them, found a fault: each is read again as the
//! target reads it. It must end in a result or in an error that can be shown, soon and in little memory.

use std::path::Path;
use std::time::Duration;

use testing::hostile;
use testing::process::{alone, peak_mib};
use testing::time::{Clock, soon};

/// What any file may take; the largest engine that fits into its memory takes 1 s for its two frames.
const LONGEST: Duration = Duration::from_secs(4);

/// The peak of a process that reads nothing else; without the limits that these files test, one of them alone takes more.
const MOST_MIB: usize = 400;

fn every_file(target: &str, read: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        soon(file.display(), Clock::Process, LONGEST, || read(&bytes));
        assert!(peak_mib() < MOST_MIB, "{}: {} MiB", file.display(), peak_mib());
    }
}

#[test]
fn checkpoints() {
    alone("regressions::checkpoints", || every_file("checkpoint", hostile::checkpoint));
}

#[test]
fn pickles() {
    alone("regressions::pickles", || every_file("pickle", hostile::pickle));
}

#[test]
fn configs() {
    alone("regressions::configs", || every_file("config", hostile::config));
}

#[test]
fn engines() {
    alone("regressions::engines", || every_file("engine", hostile::engine));
}

#[test]
fn labels() {
    alone("regressions::labels", || {
        // The tokenizer's tables are not the file's.
        hostile::labels(b"dog");
        every_file("labels", hostile::labels);
    });
}

#[test]
fn photos() {
    alone("regressions::photos", || every_file("photo", hostile::photo));
}
