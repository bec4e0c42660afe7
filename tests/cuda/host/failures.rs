//! Failures, which the virtual GPU makes on order (VGPU_FAIL).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testing::files::root;

use super::{has, is_virtual, program};

/// Four photos of one size, the first operation by operation, the second captured and launched as a graph: exit code, stderr, and
/// which have a mask.
fn with_failures(failures: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = photos();
    let run = ["run", "a.png", "b.png", "c.png", "d.png", "--labels", "cat,wall,other", "--save", "mask"];
    let (code, text) = call(&folder, failures, &[&run, arguments].concat());
    let has_mask = |name: &&str| folder.path().join("out").join(name).with_extension("mask.png").is_file();
    let done = ["a", "b", "c", "d"].into_iter().filter(has_mask).collect();
    (code, text, done)
}

fn photos() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let picture = image::RgbImage::from_fn(70, 50, |x, y| image::Rgb([3 * x as u8, 5 * y as u8, i as u8]));
        picture.save(folder.path().join(name).with_extension("png")).unwrap();
    }
    folder
}

/// Exit code and stderr. A minute must do for what takes a second.
fn call(folder: &TempDir, failures: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program::path());
    command.args(arguments).args(["--size", "32x64", "--device", "cuda:0", "--model"]);
    command.arg(root().join("weights/seeded/seeded.ckpt")).current_dir(folder.path()).env("VGPU_FAIL", failures);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{failures} {arguments:?} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Also of codes that no enum of 2021 has, and of one that nobody has: after those the context is asked how it is.
#[test]
fn what_ends_an_engine_is_survived_by_a_new_one() {
    if !is_virtual() {
        return;
    }
    for (code, words) in [
        ("226", "CUDA_ERROR_CONTAINED"),
        ("721", "CUDA_ERROR_TENSOR_MEMORY_LEAK"),
        ("805", "the MPS server runs"),
        ("214", "the GPU needs a reset"),
        ("4711", "one that this driver has no name for"),
    ] {
        let (exit, text, done) = with_failures(&format!("cuGraphLaunch:1:{code}!"), &[]);
        assert_eq!((exit, &*done), (Some(0), "abcd"), "{text}");
        has(&text, &["note: b.png: ", &format!("CUDA error {code} "), words, "this engine is lost", "a new engine"]);
    }
}

/// In the first of the two passes over the photos: the basis and the files are as if nothing had been.
#[test]
fn a_basis_is_fitted_by_the_new_engine_where_the_first_is_lost() {
    if !is_virtual() {
        return;
    }
    let fitted = |failures: &str| {
        let folder = photos();
        let (exit, text) = call(&folder, failures, &["embed", "a.png", "b.png", "c.png", "--pca", "3"]);
        assert_eq!(exit, Some(0), "{text}");
        let files = ["pca.safetensors", "a.embed.npy", "b.embed.npy", "c.embed.npy"];
        (files.map(|name| std::fs::read(folder.path().join("out").join(name)).unwrap()), text)
    };
    let ((files, text), (whole, _)) = (fitted("cuGraphLaunch:1:700!"), fitted(""));
    has(&text, &["note: b.png: ", "a new engine"]);
    assert!(files == whole);
}

#[test]
fn what_does_not_end_an_engine_costs_one_photo() {
    if !is_virtual() {
        return;
    }
    for code in ["701", "919", "4711"] {
        let (exit, text, done) = with_failures(&format!("cuGraphLaunch:1:{code}"), &[]);
        assert_eq!((exit, &*done), (Some(1), "acd"), "{text}");
        assert!(
            text.contains(&format!("error: launching a graph: CUDA error {code} ")) && !text.contains("lost"),
            "{text}"
        );
    }
}

#[test]
fn an_engine_lost_twice_ends_the_run() {
    if !is_virtual() {
        return;
    }
    let (exit, text, done) = with_failures("cuGraphLaunch:1:700!,cuGraphLaunch:2:700!", &[]);
    assert_eq!((exit, &*done), (Some(1), "ab"), "{text}");
    has(&text, &["note: b.png: ", "error: ", "1 of 4 photos were not done"]);
    // Where there is no room for a new one.
    let (exit, text, done) = with_failures("cuGraphLaunch:1:700!,cuCtxCreate_v2:2:2", &[]);
    assert_eq!((exit, &*done), (Some(1), "a"), "{text}");
    has(&text, &["no new engine", "CUDA_ERROR_OUT_OF_MEMORY", "2 of 4 photos were not done"]);
}

/// Neither the photos after it nor the end of the process wait for work that never ends.
#[test]
fn a_gpu_that_never_ends_is_left_after_the_time_given() {
    if !is_virtual() {
        return;
    }
    let (exit, text, done) = with_failures("cuGraphLaunch:1:hang", &["--timeout", "1"]);
    assert_eq!((exit, &*done), (Some(0), "abcd"), "{text}");
    has(&text, &["note: b.png: ", "has not finished a pass in 1 s", "this engine is lost"]);
    let (exit, text, done) = with_failures("cuLaunchKernel:3:hang,cuGraphLaunch:2:hang", &["--timeout", "1"]);
    assert!(exit != Some(0) && done.is_empty(), "{text}");
    has(&text, &["has not finished a pass in 1 s"]);
}

#[test]
fn a_gpu_that_is_not_to_be_had_is_told_by_its_reason() {
    if !is_virtual() {
        return;
    }
    for (failures, words) in [
        ("cuCtxCreate_v2:1:46", &["CUDA error 46 ", "in use by another process", "exclusive"][..]),
        ("cuCtxCreate_v2:1:805", &["CUDA error 805 ", "the MPS server"]),
        ("cuDeviceGetCount:1:999", &["counting the CUDA devices", "CUDA error 999 "]),
        ("cuModuleLoadData:1:2", &["loading the kernels of", "CUDA_ERROR_OUT_OF_MEMORY"]),
        ("cuMemAlloc_v2:1:2", &["MiB free", "CUDA_ERROR_OUT_OF_MEMORY"]),
    ] {
        let (exit, text, done) = with_failures(failures, &[]);
        assert!(matches!(exit, Some(1 | 2)) && done.is_empty(), "{text}");
        has(&text, words);
        has(&text, &["error: ", "--device cpu"]);
        assert!(!text.contains("capability 8.0"), "that is not what is missing: {text}");
    }
    // What the driver cannot read, it compiles; where it cannot do that either, the versions are at fault.
    let refused = (1..=40).map(|call| format!("cuModuleLoadData:{call}:222")).collect::<Vec<_>>().join(",");
    let (_, text, _) = with_failures(&refused, &[]);
    has(&text, &["CUDA error 222 ", "compute capability 8.0"]);
}

/// What only measurements need is not asked of a GPU that is to work.
#[test]
fn a_gpu_that_does_not_tell_its_clocks_works() {
    if !is_virtual() {
        return;
    }
    let untold = "cuDeviceGetAttribute:6:1,cuDeviceGetAttribute:7:1,cuDeviceGetAttribute:8:1,cuDeviceGetAttribute:9:1";
    let (exit, text, done) = with_failures(untold, &[]);
    assert_eq!((exit, &*done), (Some(0), "abcd"), "{text}");
    let mut bench = Command::new(program::path());
    let output = bench.args(["bench", "device", "--device", "cuda:0"]).env("VGPU_FAIL", untold).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.contains("L2 cache") && line.ends_with("not known")), "{text}");
}
