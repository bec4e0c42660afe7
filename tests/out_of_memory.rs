//! Whichever allocation fails, once or from then on: an error or the allocator's clean end, and nothing half-written.
#![allow(unsafe_code)]
#![cfg(unix)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lseg_fast::ending::{self, Allocator};
use lseg_fast::image::mask;
use lseg_fast::output::{Durability, write_atomically};
use lseg_fast::{DeviceChoice, Engine, Frame, Options, Size};

/// The system's allocator, which refuses the allocation of one number or all from it on.
struct Failing;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST: AtomicUsize = AtomicUsize::new(usize::MAX);
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

fn refuses() -> bool {
    IS_COUNTING.load(Relaxed) && (FIRST.load(Relaxed)..=LAST.load(Relaxed)).contains(&COUNT.fetch_add(1, Relaxed))
}

// SAFETY: what is not refused goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        if refuses() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        if refuses() { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promised.
        if refuses() { std::ptr::null_mut() } else { unsafe { System.realloc(place, layout, size) } }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator<Failing> = Allocator(Failing);

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
    let segmented = engine.segment(&Frame { width: 40, height: 33, rgb: &[7; 3 * 40 * 33] })?;
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
    FIRST.store(nth, Relaxed);
    LAST.store(if std::env::var_os(FROM_THEN_ON).is_some() { usize::MAX } else { nth }, Relaxed);
    ending::prepare();
    IS_COUNTING.store(true, Relaxed);
    let worked = work(folder.as_ref());
    IS_COUNTING.store(false, Relaxed);
    if let Err(error) = worked {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
    eprintln!("{} allocations", COUNT.load(Relaxed));
    std::process::exit(0);
}

/// (exit code, stderr) where the Nth allocation fails.
fn child(folder: &Path, nth: usize, from_then_on: bool) -> (Option<i32>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_without_memory", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(NTH, nth.to_string());
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
        std::thread::sleep(Duration::from_millis(1));
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
    let tried = (0..all).filter(|n| *n < dense || *n + dense >= all || n % stride == 0);
    let mut refused = 0;
    for nth in tried {
        let _ = std::fs::remove_file(&mask);
        let (code, stderr) = child(folder.path(), nth, nth % 2 == 1);
        match code {
            Some(0) => {}
            Some(1) => {
                assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{nth} of {all}: {stderr}");
                refused += 1;
            }
            _ => panic!("{nth} of {all}: {code:?}: {stderr}"),
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path, mask, "{nth} of {all}");
            assert!(std::fs::read(path).unwrap() == whole, "{nth} of {all}: another mask");
        }
    }
    assert!(refused > 100, "{refused} refusals were noticed");
}
