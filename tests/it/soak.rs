//! Four thousand photos in one call: the process grows by nothing, holds no file open, and starts no thread.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const PHOTOS: usize = 4000;
/// Photos after which what is made once (pool, arena, caches of the allocator) is there.
const WARM: usize = 500;
/// What an allocator's own unrest may take. A leak of one small photo's mask in each frame is four times as much.
const GROWTH_KIB: u64 = 2048;

/// Photos that are not done when it is looked at last: a pipe holds the lines of a hundred, and a program that has ended holds nothing.
const LEFT: usize = 500;

/// Resident KiB, open files and threads of a process.
#[derive(Debug)]
struct Held {
    kib: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn by(process: u32) -> Held {
        let folder = Path::new("/proc").join(process.to_string());
        let status = fs::read_to_string(folder.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib = line.trim().split(' ').next().unwrap().parse().unwrap();
        let count = |name: &str| fs::read_dir(folder.join(name)).unwrap().count();
        Held { kib, files: count("fd"), threads: count("task") }
    }
}

/// Photos of ten sizes and five formats, each under many names.
fn photos(folder: &Path) {
    let sides = [(8, 8), (40, 30), (31, 57), (64, 48), (1, 90), (90, 1), (33, 32), (17, 23), (48, 64), (70, 50)];
    let endings = ["png", "jpg", "bmp", "gif", "tif"];
    for photo in 0..PHOTOS {
        let path = folder.join(format!("{photo:04}.{}", endings[photo % 5]));
        // The sizes run through every format.
        let Some(first) = photo.checked_sub(50) else {
            let (width, height) = sides[photo / 5];
            let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, (3 * y) as u8, 128]));
            picture.save(&path).unwrap();
            continue;
        };
        let first = first % 50;
        fs::hard_link(folder.join(format!("{first:04}.{}", endings[first % 5])), path).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn thousands_of_photos_leave_nothing_behind_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (folder.path().join("photos"), folder.path().join("out"));
    fs::create_dir(&from).unwrap();
    photos(&from);
    let mut run = Command::new(env!("CARGO_BIN_EXE_lseg-fast"))
        .args(["run", "--json", "--quiet", "--device", "cpu", "--size", "32x32", "--labels", "dog,tree,other"])
        .args(["--model", "weights/seeded/seeded.ckpt", "--out"])
        .args([&out, &from])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.by_ref().take(WARM).count(), WARM);
    let warm = Held::by(run.id());
    let most = PHOTOS - WARM - LEFT;
    assert_eq!(lines.by_ref().take(most).count(), most);
    let end = Held::by(run.id());
    assert_eq!(lines.count(), LEFT);
    assert!(run.wait().unwrap().success());
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2 * PHOTOS, "a mask and an overlay each");
    assert!(end.kib <= warm.kib + GROWTH_KIB, "from {warm:?} to {end:?}");
    // One file more may be the one that is being written.
    assert!(end.files.abs_diff(warm.files) <= 1 && end.threads == warm.threads, "from {warm:?} to {end:?}");
}
