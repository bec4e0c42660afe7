//! Whatever ends the process, nothing of it is left, and who started it sees what ended it.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

const SIGNALS: [(&str, Signal); 4] =
    [("INT", Signal::INT), ("TERM", Signal::TERM), ("HUP", Signal::HUP), ("QUIT", Signal::QUIT)];

/// Long enough for anything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/seeded/seeded.ckpt").display().to_string()
}

/// The program, started by an `env` that ignores the first signals and not the others. (These tests may have been started in the
/// background, with some ignored.) No core is dumped.
fn program(ignored: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let heard = SIGNALS.map(|(name, _)| name).into_iter().filter(|name| !ignored.contains(name));
    let env = format!("--default-signal={}", heard.collect::<Vec<_>>().join(","));
    command.args(["-c", "ulimit -c 0 && exec \"$@\"", "sh", "env", &env]);
    if !ignored.is_empty() {
        command.arg(format!("--ignore-signal={}", ignored.join(",")));
    }
    command.arg(env!("CARGO_BIN_EXE_lseg-fast")).args(arguments);
    command
}

/// As [`program`], waiting for a photo from standard input, once it hears all signals but the ignored ones.
fn waiting(folder: &TempDir, ignored: &[&str]) -> Child {
    let model = model();
    let mut command = program(ignored, &["run", "-", "--labels", "cat", "--size", "32x32", "--model", &model, "-q"]);
    let child = command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until(|| hears(&child) == SIGNALS.len() - ignored.len());
    child
}

fn until(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "it never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many of the signals have a handler.
fn hears(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or("0");
    let caught = u64::from_str_radix(caught, 16).unwrap();
    SIGNALS.iter().filter(|(_, signal)| caught >> (signal.as_raw() - 1) & 1 == 1).count()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn end(mut child: Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it goes on and on");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// None in a folder that is not there: the signal may come before it.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_process_dies_of_the_signal_itself() {
    let folder = tempfile::tempdir().unwrap();
    for (name, signal) in SIGNALS {
        let child = waiting(&folder, &[]);
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(end(child).signal(), Some(signal.as_raw()), "{name}");
    }
    assert_eq!(names(&folder.path().join("out")), [""; 0]);
}

/// As under `nohup`, and as a script starts what ends in `&`: those stay ignored, the others are heard.
#[test]
fn an_ignored_signal_does_not_switch_the_others_off() {
    let folder = tempfile::tempdir().unwrap();
    for ignored in [&["HUP"][..], &["INT", "QUIT"]] {
        for (name, signal) in SIGNALS.iter().filter(|(name, _)| !ignored.contains(name)) {
            let child = waiting(&folder, ignored);
            for (_, signal) in SIGNALS.iter().filter(|(name, _)| ignored.contains(name)) {
                kill_process(pid(&child), *signal).unwrap();
            }
            kill_process(pid(&child), *signal).unwrap();
            assert_eq!(end(child).signal(), Some(signal.as_raw()), "{name} where {ignored:?} are ignored");
        }
    }
}

#[test]
fn ctrl_c_ends_a_shells_loop() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "for i in 1 2 3; do '{}' run - --labels cat --size 32x32 --model '{}' -q; echo next; done",
        env!("CARGO_BIN_EXE_lseg-fast"),
        model()
    );
    let mut child = Command::new("env")
        .args(["--default-signal=INT", "bash", "-c", &script])
        .process_group(0)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let inner = || {
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        fs::read_to_string(children).unwrap_or_default().trim().parse::<i32>().ok()
    };
    let caught = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("lseg-fast") && !status.contains("SigCgt:\t0000000000000000")
    };
    until(|| inner().is_some_and(caught));
    // The handlers come one after the other: the last may be missing yet.
    std::thread::sleep(Duration::from_millis(50));
    kill_process_group(pid(&child), Signal::INT).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!((end(child).signal(), &*stdout), (Some(Signal::INT.as_raw()), ""));
}

/// At moments that are spread over the writing: each result is whole or as it was, and there is nothing else.
#[test]
fn a_killed_run_leaves_whole_files_alone() {
    let kills = if std::env::var_os("LSEG_LONG_TESTS").is_some() { 200 } else { 24 };
    let folder = tempfile::tempdir().unwrap();
    let photo = image::RgbImage::from_fn(640, 640, |x, y| image::Rgb([x as u8, y as u8, 9]));
    let photos: Vec<String> = (0..40).map(|i| format!("p{i}.bmp")).collect();
    photos.iter().for_each(|name| photo.save(folder.path().join(name)).unwrap());
    let model = model();
    let arguments = ["embed", ".", "--at", "photo", "--size", "32x32", "--model", &model, "-q"];
    let whole = 128 + 4 * 64 * 640 * 640;
    let mut files = 0;
    for i in 0..kills {
        let signal = [Signal::KILL, Signal::QUIT, Signal::TERM][i % 3];
        let out = folder.path().join("out");
        let child = program(&[], &arguments).current_dir(folder.path()).stdout(Stdio::null()).spawn().unwrap();
        until(|| out.is_dir());
        // Every second time over the results of the time before.
        if i % 2 == 1 {
            std::thread::sleep(Duration::from_millis(100));
        }
        // Some kills come after a file, however slow the machine is.
        if i % 8 == 1 {
            until(|| names(&out).iter().any(|name| name.ends_with(".embed.npy")));
        }
        std::thread::sleep(Duration::from_micros(7_919 * i as u64 % 300_000));
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(end(child).signal(), Some(signal.as_raw()));
        for name in names(&out) {
            assert!(name.ends_with(".embed.npy"), "{name} stayed after {signal:?}");
            assert_eq!(fs::metadata(out.join(&name)).unwrap().len(), whole, "{name}");
            files += 1;
        }
        if i % 2 == 1 {
            fs::remove_dir_all(out).unwrap();
        }
    }
    assert!(files > 0, "no kill came after a file");
}

/// Writers of every kind, under a limit that stops each at another place: an error, the old file, and nothing else.
#[test]
fn a_limit_on_files_is_an_error_like_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    image::RgbImage::from_fn(200, 150, |x, y| image::Rgb([(x * y) as u8, (x * 31 % 251) as u8, y as u8]))
        .save(at("a.png"))
        .unwrap();
    let model = model();
    for (arguments, old) in [
        (&["run", "a.png", "--labels", "cat,dog", "--save", "overlay"][..], "out/a.overlay.png"),
        (&["run", "a.png", "--labels", "cat,dog", "--save", "mask,best"], "out/a.best.npy"),
        (&["embed", "a.png"], "out/a.embed.npy"),
        (&["text", "--labels", "@words.txt", "--out", "out/t.npy"], "out/t.npy"),
        (&["convert"], "out/m.safetensors"),
    ] {
        fs::write(at("words.txt"), (0..40).map(|i| format!("word {i}\n")).collect::<String>()).unwrap();
        let model: &[&str] = match arguments[0] {
            "convert" => &[&model, "--out", "out/m.safetensors"],
            "text" => &["--model", &model, "-q"],
            _ => &["--size", "32x64", "--model", &model, "-q"],
        };
        for blocks in ["0", "1", "5", "17"] {
            let _ = fs::remove_dir_all(at("out"));
            fs::create_dir(at("out")).unwrap();
            fs::write(at(old), "old").unwrap();
            let output = Command::new("sh")
                .args(["-c", &format!("ulimit -f {blocks} && exec \"$@\""), "sh"])
                .arg(env!("CARGO_BIN_EXE_lseg-fast"))
                .args(arguments)
                .args(model)
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}, {blocks} blocks: {output:?}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.starts_with("error: cannot write out/") && stderr.lines().count() == 1, "{stderr}");
            assert_eq!(fs::read_to_string(at(old)).unwrap(), "old");
            let others = names(&at("out")).into_iter().filter(|name| !old.ends_with(name.as_str()));
            assert!(others.clone().all(|name| name == "a.mask.png"), "{:?}", others.collect::<Vec<_>>());
        }
    }
}

/// The program where its address space ends at a limit: from hardly enough to start it up to plenty.
struct Limited {
    folder: TempDir,
    model: String,
}

impl Limited {
    fn new() -> Limited {
        let folder = tempfile::tempdir().unwrap();
        image::RgbImage::new(900, 700).save(folder.path().join("a.png")).unwrap();
        Limited { folder, model: model() }
    }

    fn output(&self, kib: usize, arguments: &[&str]) -> Output {
        let limit = format!("ulimit -c 0 && ulimit -v {kib} && exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_lseg-fast")]).args(arguments);
        command.current_dir(self.folder.path()).env("MALLOC_ARENA_MAX", "1").output().unwrap()
    }

    /// KiB with which the program starts, about.
    fn least(&self) -> usize {
        let starts = |kib: &usize| self.output(*kib, &["--version"]).status.success();
        (16 << 10..1 << 20).step_by(8 << 10).find(starts).expect("a gigabyte is enough to start")
    }

    /// What the program says of a photo: nothing, or one line of an error. Masks are written by threads of their own.
    fn run(&self, kib: usize) -> String {
        let run =
            ["run", "a.png", "--labels", "cat,dog", "--size", "256x256", "--threads", "2", "--model", &self.model];
        let output = self.output(kib, &[&run[..], &["-q", "--device", "cpu", "--save", "masks,overlay"]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => assert_eq!(stderr, "", "{kib} KiB"),
            Some(1) => assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{kib} KiB: {stderr}"),
            _ => panic!("{kib} KiB: {:?}: {stderr}", output.status),
        }
        let out = self.folder.path().join("out");
        if out.is_dir() {
            assert!(names(&out).iter().all(|name| name.ends_with(".png")), "{:?}", names(&out));
        }
        stderr
    }
}

#[test]
fn a_limit_on_memory_is_an_error_like_another() {
    let limited = Limited::new();
    let least = limited.least();
    let said: Vec<_> = (least..least + (60 << 10)).step_by(2 << 10).map(|kib| limited.run(kib)).collect();
    assert!(said.iter().any(String::is_empty) && !said.iter().all(String::is_empty), "{said:?}");
}

/// What a thread takes beside its stack is little, and is refused only just above the limit at which the stack is had: wherever
/// the program says something else than a page below, its neighbours are tried page by page.
#[test]
fn a_thread_that_cannot_start_is_an_error_like_another() {
    const PAGE: usize = 4;
    const STEP: usize = 64 * PAGE;
    let limited = Limited::new();
    let least = limited.least();
    let said = |kib| limited.run(kib).chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>();
    let mut edges = 0;
    let mut below = (least, said(least));
    for kib in (least..least + (14 << 10)).step_by(STEP).skip(1) {
        let above = said(kib);
        if above != below.1 {
            let (mut low, mut high) = (below.0, kib);
            while high - low > PAGE {
                let middle = low + (high - low) / 2 / PAGE * PAGE;
                *(if said(middle) == below.1 { &mut low } else { &mut high }) = middle;
            }
            (least.max(low - 8 * PAGE)..high + 8 * PAGE).step_by(PAGE).for_each(|kib| drop(said(kib)));
            edges += 1;
        }
        below = (kib, above);
    }
    assert!(edges >= 2, "{edges}");
}
