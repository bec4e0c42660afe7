//! Inputs on which the fuzz targets, or thinking about them, found a fault: each is read again as the target reads it.

use std::path::Path;
use std::time::{Duration, Instant};

use testing::stranger;

/// What any file may take.
const LONGEST: Duration = Duration::from_secs(1);

fn every_file(target: &str, read: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/regressions").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let timed = || {
            let started = Instant::now();
            read(&bytes);
            started.elapsed()
        };
        // A busy machine is slow once, a bad file always.
        let took = timed();
        let took = if took > LONGEST { timed() } else { took };
        assert!(took < LONGEST, "{}: {took:?}", file.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn files() {
    every_file("checkpoint", stranger::file);
}

#[test]
fn pickles() {
    every_file("pickle", stranger::pickle);
}
