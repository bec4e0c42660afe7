//! `lseg-fast stream` as users call it: photos, pipes and videos in; files, frames and lines of JSON out; and how it ends.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::answer::Answer;

const LABELS: &str = "grass,sky,other";
const PATIENCE: Duration = Duration::from_secs(60);

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The program with the demo model at a small size.
fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = testing::process::hearing(env!("CARGO_BIN_EXE_lseg-fast"));
    command.args(arguments).args(["--device", "cpu", "--size", "64x64"]);
    command.current_dir(folder.path()).stdin(Stdio::null());
    command
}

fn stream(folder: &TempDir, arguments: &[&str]) -> Answer {
    Answer::of(command(folder, &["stream"]).args(arguments))
}

/// Photos `name/0.png` … of one size, each with something else in it.
fn photos(folder: &TempDir, name: &str, count: usize) {
    fs::create_dir_all(folder.path().join(name)).unwrap();
    for i in 0..count as u32 {
        let picture = image::RgbImage::from_fn(64, 48, |x, y| {
            image::Rgb([(3 * x + 20 * i) as u8, 5 * y as u8, (x * y * (i + 1)) as u8])
        });
        picture.save(folder.path().join(name).join(format!("{i}.png"))).unwrap();
    }
}

/// The files of a folder in their order.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Each line of JSON: frames, and the summary behind them.
fn lines(stdout: &str) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert!(summary["summary"].is_object(), "{summary}");
    (lines, summary)
}

fn counted(summary: &Value, what: &str) -> u64 {
    summary["summary"][what].as_u64().unwrap_or_else(|| panic!("{what}: {summary}"))
}

#[test]
fn a_folders_masks_are_those_of_run() {
    let folder = folder();
    photos(&folder, "photos", 5);
    let all = "mask,confidence,overlay";
    let answer = stream(&folder, &["photos", "--labels", LABELS, "--out", "m", "--save", all, "--json", "--fps", "10"]);
    let (frames, summary) = lines(answer.done());
    assert_eq!(frames.len(), 5);
    let run = Answer::of(&mut command(
        &folder,
        &["run", "photos", "--labels", LABELS, "--out", "r", "--save", "mask,confidence"],
    ));
    run.done();
    let (streamed, run) = (files(&folder.path().join("m")), files(&folder.path().join("r")));
    assert_eq!(streamed.len(), 15);
    for (i, frame) in frames.iter().enumerate() {
        let stem = format!("{:08}_{}", i, i as u64 * 100_000_000);
        for kind in ["mask", "confidence"] {
            let file = |files: &[(String, Vec<u8>)], name: String| {
                files.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
            };
            let (one, other) = (file(&streamed, format!("{stem}.{kind}.png")), file(&run, format!("{i}.{kind}.png")));
            assert!(one == other, "{kind} of frame {i}");
        }
        assert_eq!(
            (frame["frame"].as_u64(), frame["stamp_ns"].as_u64()),
            (Some(i as u64), Some(i as u64 * 100_000_000))
        );
        let shares = frame["labels"].as_array().unwrap();
        let sum: f64 = shares.iter().map(|label| label["share"].as_f64().unwrap()).sum();
        assert!(
            shares.len() == 3 && (sum - 1.0).abs() < 1e-9 && frame["files"].as_array().unwrap().len() == 3,
            "{frame}"
        );
        let age = frame["age_ms"].as_f64().unwrap();
        assert!(age >= frame["compute_ms"].as_f64().unwrap() && frame["epoch"] == 1, "{frame}");
    }
    for (what, count) in [("pushed", 5), ("done", 5), ("replaced", 0), ("failed", 0), ("corrupt", 0), ("delivered", 5)]
    {
        assert_eq!(counted(&summary, what), count, "{what}");
    }
}

/// Luma and chroma of so many frames.
fn nv12(frames: usize) -> Vec<u8> {
    (0..frames * 64 * 48 * 3 / 2).map(|i| (i * 7919 % 251) as u8).collect()
}

/// The program with this on its standard input.
fn fed(folder: &TempDir, arguments: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = command(folder, &["stream"]);
    let mut child =
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let feed = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn frames_come_from_standard_input_and_go_to_standard_output() {
    let folder = folder();
    let raw = ["-", "--raw", "nv12:64x48", "--labels", LABELS, "--out", "-"];
    let (code, masks, stderr) = fed(&folder, &[&raw[..], &["--save", "mask", "--json"]].concat(), &nv12(3));
    assert_eq!((code, masks.len()), (Some(0), 3 * 64 * 48), "{stderr}");
    assert!(masks.iter().all(|label| *label < 3) && stderr.contains("\"summary\""), "{stderr}");
    // YUV4MPEG2 out, and in again.
    let (code, y4m, stderr) = fed(&folder, &raw, &nv12(3));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(y4m.starts_with(b"YUV4MPEG2 W64 H48 F30:1"), "{:?}", String::from_utf8_lossy(&y4m[..60]));
    let header = b"YUV4MPEG2 W64 H48 F25:1 C420jpeg\n";
    let planar = [&header[..], &[b"FRAME\n", &vec![90; 64 * 48 * 3 / 2][..]].concat().repeat(4)].concat();
    let (code, stdout, stderr) = fed(&folder, &["-", "--labels", LABELS, "--json"], &planar);
    let (frames, _) = lines(std::str::from_utf8(&stdout).unwrap());
    assert_eq!((code, frames.len()), (Some(0), 4), "{stderr}");
    assert_eq!(frames[3]["stamp_ns"], 120_000_000);
}

#[test]
fn what_is_cut_short_is_counted_and_named() {
    let folder = folder();
    let bytes = &nv12(3)[..2 * 64 * 48 * 3 / 2 + 1000];
    let arguments = ["-", "--raw", "nv12:64x48", "--labels", LABELS, "--json"];
    let (code, stdout, stderr) = fed(&folder, &arguments, bytes);
    let (frames, summary) = lines(std::str::from_utf8(&stdout).unwrap());
    assert_eq!((code, frames.len(), counted(&summary, "corrupt")), (Some(1), 2, 1), "{stderr}");
    assert!(stderr.contains("3608") && stderr.contains("error: "), "{stderr}");
    // A broken photo among others.
    photos(&folder, "photos", 3);
    fs::write(folder.path().join("photos/1.png"), b"\x89PNG\r\n\x1a\nno more").unwrap();
    let answer = stream(&folder, &["photos", "--labels", LABELS, "--json"]);
    answer.refused(1, &["1.png"]);
    assert_eq!(lines(&answer.stdout).0.len(), 2);
}

#[test]
fn wrong_calls_are_refused_with_what_to_do() {
    let folder = folder();
    photos(&folder, "photos", 1);
    let cases: [(&[&str], &str); 12] = [
        (&["photos"], "--labels"),
        (&["photos", "--labels", "a,a"], "a"),
        (&["photos", "--labels", "a", "--save", "mask"], "--out"),
        (&["photos", "--labels", "a", "--out", "x.mp4", "--save", "mask"], "folder"),
        (&["photos", "--labels", "a", "--out", "-", "--save", "mask,overlay"], "one kind"),
        (&["photos", "--labels", "a", "--raw", "nv12:64x48"], "-"),
        (&["-", "--labels", "a", "--raw", "nv12"], "nv12:640x480"),
        (&["photos", "--labels", "a", "--camera-size", "640"], "1280x720"),
        (&["photos", "--labels", "a", "--every", "--newest"], "--newest"),
        (&["photos", "--labels", "a", "--fps", "0"], "30"),
        (&["photos", "--labels", "a", "--realtime-required"], "--realtime"),
        (&["photos", "--labels", "a", "--labels-from", "x"], "--labels"),
    ];
    for (arguments, words) in cases {
        stream(&folder, arguments).refused(2, &[words]);
    }
    for missing in ["nothing.mp4", "/dev/video77", "nowhere/"] {
        let answer = stream(&folder, &[missing, "--labels", "a"]);
        answer.refused_once(1, &[missing.trim_end_matches('/')]);
    }
}

/// The program, reading frames that the test writes, with its lines of JSON as they come.
struct Live {
    child: Child,
    stdin: ChildStdin,
    frames: Receiver<Value>,
}

impl Live {
    fn start(folder: &TempDir, arguments: &[&str]) -> Live {
        let mut command = command(folder, &["stream", "-", "--raw", "nv12:64x48", "--json"]);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, frames) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Live { child, stdin, frames }
    }

    fn push(&mut self) {
        self.stdin.write_all(&nv12(1)).unwrap();
    }

    fn next(&self) -> Value {
        self.frames.recv_timeout(PATIENCE).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it said last, and its exit code.
    fn end(mut self) -> (Value, Option<i32>) {
        drop(self.stdin);
        let mut last = Value::Null;
        while let Ok(line) = self.frames.recv_timeout(PATIENCE) {
            last = line;
        }
        (last, self.child.wait().unwrap().code())
    }
}

#[test]
fn a_file_of_labels_is_read_again_when_it_changes() {
    let folder = folder();
    let path = folder.path().join("words.txt");
    fs::write(&path, "grass\nsky\n").unwrap();
    let mut live = Live::start(&folder, &["--labels-from", "words.txt"]);
    live.push();
    let first = live.next();
    assert_eq!((&first["epoch"], first["labels"].as_array().unwrap().len()), (&1.into(), 2));
    fs::write(&path, "a dog\na cat\nother\n").unwrap();
    let begin = Instant::now();
    let changed = loop {
        live.push();
        let frame = live.next();
        if frame["epoch"] != 1 {
            break frame;
        }
        assert!(begin.elapsed() < PATIENCE);
    };
    let names: Vec<&str> =
        changed["labels"].as_array().unwrap().iter().map(|label| label["label"].as_str().unwrap()).collect();
    assert_eq!((&changed["epoch"], &names[..]), (&2.into(), &["a dog", "a cat", "other"][..]));
    // What is wrong changes nothing.
    fs::write(&path, "a dog\na dog\n").unwrap();
    thread::sleep(Duration::from_millis(700));
    live.push();
    assert_eq!(live.next()["epoch"], 2);
    assert_eq!(live.end().1, Some(0));
}

#[test]
fn a_line_on_standard_input_is_a_new_list_of_labels() {
    let folder = folder();
    // A pipe that is a file by its name, so that standard input is free.
    let fifo = folder.path().join("frames.y4m");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_bits_truncate(0o600)).unwrap();
    let mut command = command(&folder, &["stream", "frames.y4m", "--labels", LABELS, "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut words, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut frames = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    frames.write_all(b"YUV4MPEG2 W64 H48 F25:1 Cmono\n").unwrap();
    let mut stdout = BufReader::new(stdout);
    let (mut epoch, begin) = (1, Instant::now());
    while epoch == 1 {
        assert!(begin.elapsed() < PATIENCE);
        frames.write_all(&[&b"FRAME\n"[..], &[90; 64 * 48]].concat()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let frame: Value = serde_json::from_str(&line).unwrap();
        epoch = frame["epoch"].as_u64().unwrap();
        if frame["frame"] == 0 {
            words.write_all(b"cat, dog\n").unwrap();
        }
        assert_eq!(frame["labels"].as_array().unwrap().len(), if epoch == 1 { 3 } else { 2 });
    }
    drop(frames);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_ends_it_well() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = folder();
        let mut live = Live::start(&folder, &["--labels", LABELS, "--out", "m"]);
        (0..3).for_each(|_| live.push());
        (0..3).for_each(|_| drop(live.next()));
        // In the midst of a frame.
        live.stdin.write_all(&nv12(1)[..100]).unwrap();
        live.signal(signal);
        let summary = live.next();
        assert_eq!(counted(&summary, "done"), 3, "{summary}");
        let begin = Instant::now();
        let code = live.child.wait().unwrap().code();
        assert!(code == Some(0) && begin.elapsed() < Duration::from_secs(5), "{code:?}");
        let names: Vec<String> = files(&folder.path().join("m")).into_iter().map(|(name, _)| name).collect();
        assert!(names.len() == 3 && names.iter().all(|name| name.ends_with(".mask.png")), "{names:?}");
    }
}

/// Whoever reads the results stops reading: frames are given up, nothing grows, and afterwards the newest comes.
#[test]
fn a_sink_that_sleeps_costs_frames_and_nothing_else() {
    let folder = folder();
    let mut live = Live::start(&folder, &["--labels", LABELS, "--newest"]);
    live.push();
    live.next();
    // The process itself is stopped: its pipe fills, and is emptied when it goes on.
    live.signal(Signal::STOP);
    live.stdin.write_all(&nv12(8)).unwrap();
    thread::sleep(Duration::from_millis(200));
    live.signal(Signal::CONT);
    let last = loop {
        let frame = live.next();
        if frame["frame"] == 8 {
            break frame;
        }
    };
    assert!(last["error"].is_null());
    let (summary, code) = live.end();
    assert_eq!(
        (code, counted(&summary, "pushed"), counted(&summary, "done") + counted(&summary, "replaced")),
        (Some(0), 9, 9)
    );
}

/// A reader that has seen enough is no failure, and nobody computes for it any more.
#[test]
fn a_reader_that_goes_away_ends_it() {
    let folder = folder();
    for arguments in [&["--json"][..], &["--out", "-"], &["--out", "-", "--save", "mask"]] {
        let mut command = command(&folder, &["stream", "-", "--raw", "nv12:64x48", "--labels", LABELS]);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        stdin.write_all(&nv12(1)).unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        let begin = Instant::now();
        let status = loop {
            // It may be gone already.
            let _ = stdin.write_all(&nv12(1));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "{arguments:?}: it goes on for nobody");
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

/// Whether ffmpeg is here; without it its tests say that they are skipped.
fn has_ffmpeg() -> bool {
    let has = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("skipped: no ffmpeg on this machine");
    }
    has
}

fn ffmpeg(folder: &TempDir, arguments: &[&str]) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]).args(arguments).current_dir(folder.path());
    assert!(command.status().unwrap().success(), "{arguments:?}");
}

#[test]
fn a_videos_masks_are_those_of_its_frames() {
    if !has_ffmpeg() {
        return;
    }
    let folder = folder();
    let source = "testsrc2=size=96x64:rate=25:duration=0.4";
    ffmpeg(&folder, &["-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "clip.mp4"]);
    fs::create_dir(folder.path().join("png")).unwrap();
    ffmpeg(&folder, &["-i", "clip.mp4", "png/%03d.png"]);
    stream(&folder, &["clip.mp4", "--labels", LABELS, "--out", "m"]).done();
    Answer::of(&mut command(&folder, &["run", "png", "--labels", LABELS, "--out", "r", "--save", "mask"])).done();
    let masks = |name: &str| files(&folder.path().join(name)).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert_eq!(masks("m").len(), 10);
    assert!(masks("m") == masks("r"), "masks of a video and of its frames differ");
    // In NV12 they are nearly so.
    stream(&folder, &["clip.mp4", "--labels", LABELS, "--out", "n", "--pixels", "nv12"]).done();
    let pixels = |bytes: &Vec<u8>| png_indices(bytes);
    let (mut same, mut all) = (0, 0);
    for (one, other) in masks("n").iter().zip(&masks("r")) {
        let (one, other) = (pixels(one), pixels(other));
        same += one.iter().zip(&other).filter(|(a, b)| a == b).count();
        all += one.len();
    }
    assert!(same as f64 >= 0.99 * all as f64, "{same} of {all} pixels");
    // Into a video, which has as many frames.
    stream(&folder, &["clip.mp4", "--labels", LABELS, "--out", "named.mkv"]).done();
    fs::create_dir(folder.path().join("named")).unwrap();
    ffmpeg(&folder, &["-i", "named.mkv", "named/%03d.png"]);
    assert_eq!(files(&folder.path().join("named")).len(), 10);
    assert!(!folder.path().join("named.mkv.tmp").exists());
}

/// Values of an indexed picture.
fn png_indices(bytes: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}
