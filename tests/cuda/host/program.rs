//! The program's choice of a device.

use std::path::PathBuf;
use std::process::Command;

use lseg_fast::device::cuda::{Cuda, MODULES};

use testing::files::root;

use super::{has, is_there};

/// lseg-fast itself: LSEG_TEST_BIN where this program was moved elsewhere.
pub fn path() -> PathBuf {
    std::env::var_os("LSEG_TEST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_lseg-fast").into()).into()
}

/// `lseg-fast run` on a small photo with `--device`: exit code, stderr and stdout in one.
fn run(device: &str, change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(70, 50, |x, y| image::Rgb([3 * x as u8, 5 * y as u8, (x * y) as u8]));
    picture.save(folder.path().join("a.png")).unwrap();
    let mut command = Command::new(path());
    command.args(["run", "a.png", "--labels", "cat,wall,other", "--size", "32x64", "--device", device, "--model"]);
    command.arg(root().join("weights/seeded/seeded.ckpt")).current_dir(folder.path());
    change(&mut command);
    let output = command.output().unwrap();
    let text = [output.stderr, output.stdout].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

#[test]
fn without_a_driver_the_program_says_so() {
    // A machine with a driver finds it without help.
    let (code, text) = run("cuda", |command| {
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
    });
    if code == Some(0) {
        eprintln!("skipped: this machine has a CUDA driver");
        return;
    }
    assert_eq!(code, Some(2), "{text}");
    has(&text, &["error: no CUDA device can be used", "libcuda", "--device cpu"]);
    assert_eq!(text.contains("this build has no CUDA kernels"), MODULES.is_empty(), "{text}");
    let (code, text) = run("auto", |command| {
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
    });
    assert_eq!(code, Some(0), "{text}");
    has(&text, &["libcuda", "running on the CPU", "cpu, "]);
}

#[test]
fn a_build_without_kernels_says_what_to_install() {
    if !MODULES.is_empty() {
        return;
    }
    let (code, text) = run("cuda", |_| ());
    assert_eq!(code, Some(2), "{text}");
    has(&text, &["this build has no CUDA kernels", "nvcc", "LSEG_NVCC", "build again", "--device cpu"]);
}

#[test]
fn the_program_chooses_its_device() {
    if !is_there() {
        return;
    }
    let (code, text) = run("cuda:7", |_| ());
    assert_eq!(code, Some(2), "{text}");
    has(&text, &["there is no 7", "this machine has", "--device cpu"]);
    for device in ["cuda", "cuda:0"] {
        let (code, text) = run(device, |_| ());
        assert_eq!(code, Some(0), "{text}");
        has(&text, &["; cuda:0, "]);
    }
    if Cuda::new(0).unwrap().info().is_virtual {
        let (code, text) = run("auto", |_| ());
        assert_eq!(code, Some(0), "{text}");
        has(&text, &["virtual GPU", "running on the CPU", "cpu, "]);
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    for wrong in ["0", "-1", "soon", "inf", "NaN"] {
        let (exit, text) = run("cpu", |command| {
            command.arg(format!("--timeout={wrong}"));
        });
        assert_eq!(exit, Some(2), "{text}");
        has(&text, &["expected seconds above 0"]);
    }
}
