//! Inputs on which the fuzz targets, or thinking about them, found a fault: each is read again as the target reads it.

use std::path::Path;
use std::time::Duration;

use testing::process::{alone, peak_mib};
use testing::stranger;
use testing::time::cpu_time;

/// What any file may take.
const LONGEST: Duration = Duration::from_secs(1);
const MOST_MIB: usize = 64;

fn every_file(target: &str, read: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/regressions").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let ((), took) = cpu_time(|| read(&bytes));
        let peak = peak_mib();
        assert!(took < LONGEST && peak < MOST_MIB, "{}: {took:?}, {peak} MiB", file.display());
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
