//! Inputs on which the fuzz targets, or thinking about them, found a fault: each is read again as the target reads it.

use std::path::Path;
use std::time::Duration;

use testing::process::{alone, peak_mib};
use testing::stranger;
use testing::time::{Clock, soon};

/// What any file may take.
const LONGEST: Duration = Duration::from_secs(1);
const MOST_MIB: usize = 64;

fn every_file(target: &str, read: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/regressions").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        soon(file.display(), Clock::Thread, LONGEST, || read(&bytes));
        assert!(peak_mib() < MOST_MIB, "{}: {} MiB", file.display(), peak_mib());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn files() {
    alone("regressions::files", || every_file("checkpoint", stranger::file));
}

#[test]
fn pickles() {
    alone("regressions::pickles", || every_file("pickle", stranger::pickle));
}
