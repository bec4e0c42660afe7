//! Whichever allocation fails, once or from then on: an error or the allocator's clean end, and nothing half-written.
#![cfg(unix)]

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use lseg_fast::atomic_file::{Durability, write_atomically};
use lseg_fast::image::mask;
use lseg_fast::termination;
use lseg_fast::{DeviceChoice, Engine, Image, Options, Size};
use testing::process;

use crate::allocator::{count, refuse, unwatch, watch};

/// For the child: which allocation fails, whether all after it do, and where it writes.
const NTH: &str = "LSEG_FAST_TEST_NTH";
const FROM_THEN_ON: &str = "LSEG_FAST_TEST_FROM_THEN_ON";
const FOLDER: &str = "LSEG_FAST_TEST_FOLDER";

/// A model is opened and loaded, labels are set, a frame is segmented, its mask is written.
fn work(folder: &Path) -> lseg_fast::Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/seeded/seeded.ckpt");
    let options = Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() };
    let mut engine = Engine::load(&model, &options)?;
    engine.set_labels(&["cat", "a wall", "other"])?;
    engine.set_size(Size::Exact { height: 32, width: 32 });
    let segmented = engine.segment(&Image::rgb8(40, 33, &[7; 3 * 40 * 33]))?;
    let colours = [[0; 3], [100; 3], [200; 3]];
    write_atomically(&folder.join("mask.png"), Durability::Renamed, |out| {
        mask::write(out, &segmented.mask, segmented.width, segmented.height, &colours)
    })
}

#[test]
#[ignore = "run by the other test as a process of its own"]
fn child_without_memory() {
    let (Some(folder), Ok(nth)) = (std::env::var_os(FOLDER), std::env::var(NTH)) else { return };
    let nth = nth.parse().unwrap();
    refuse(nth..=if std::env::var_os(FROM_THEN_ON).is_some() { usize::MAX } else { nth });
    termination::handle_signals();
    watch();
    let worked = work(folder.as_ref());
    unwatch();
    if let Err(error) = worked {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
    eprintln!("{} allocations", count());
    std::process::exit(0);
}

/// (exit code, stderr) where the Nth allocation fails.
fn child(folder: &Path, nth: usize, from_then_on: bool) -> (Option<i32>, String) {
    let mut command = process::child("out_of_memory::child_without_memory");
    command.arg("--ignored").env(FOLDER, folder).env(NTH, nth.to_string());
    if from_then_on {
        command.env(FROM_THEN_ON, "");
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("allocation {nth}: it hangs");
        }
        thread::sleep(Duration::from_millis(1));
    }
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code(), stderr)
}

#[test]
fn whichever_allocation_fails_the_end_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let mask = folder.path().join("mask.png");
    let (code, counted) = child(folder.path(), usize::MAX, false);
    assert_eq!(code, Some(0), "{counted}");
    let all: usize = counted.split(' ').next().unwrap().parse().unwrap();
    let whole = std::fs::read(&mask).unwrap();
    // All of them, or the first ones, the last ones and a few between.
    let (dense, stride) = if std::env::var_os("LSEG_LONG_TESTS").is_some() { (all, 1) } else { (40, all / 80) };
    let tried: Vec<usize> = (0..all).filter(|n| *n < dense || *n + dense >= all || n % stride == 0).collect();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (tried, whole) = (&tried, &whole);
    let refused: usize = thread::scope(|scope| {
        let some = |worker| move || tried.iter().skip(worker).step_by(workers).filter(in_a_folder(all, whole)).count();
        let counts: Vec<_> = (0..workers).map(|worker| scope.spawn(some(worker))).collect();
        counts.into_iter().map(|count| count.join().unwrap()).sum()
    });
    assert!(refused > 100, "{refused} refusals were noticed");
}

/// Whether the Nth allocation's refusal was noticed, tried in a folder of its own; what it leaves there is the whole mask or nothing.
fn in_a_folder(all: usize, whole: &[u8]) -> impl FnMut(&&usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mask = folder.path().join("mask.png");
    move |nth| {
        let nth = **nth;
        let _ = std::fs::remove_file(&mask);
        let (code, stderr) = child(folder.path(), nth, nth % 2 == 1);
        match code {
            Some(0) => {}
            Some(1) => {
                assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{nth} of {all}: {stderr}");
            }
            _ => panic!("{nth} of {all}: {code:?}: {stderr}"),
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path, mask, "{nth} of {all}");
            assert!(std::fs::read(path).unwrap() == whole, "{nth} of {all}: another mask");
        }
        code == Some(1)
    }
}
