//! What the way through a stream takes, in wall time. These tests are a program of their own, since cargo runs one after another, and take turns:
//! no other test of ours has the processors meanwhile.
#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lseg_fast::stream::{Policy, Stream, StreamOptions};
use lseg_fast::{DeviceChoice, Format, Image, Network, Options, Results, Size, Wanted};
use serde_json::Value;

static ALONE: Mutex<()> = Mutex::new(());
/// What else the machine does is no fault of the stream's: a limit holds if it holds in one of so many rounds. Work that is too much is so in all.
const ROUNDS: usize = 20;

/// Asks for rounds until one is within its limits.
fn one_is_within<T: std::fmt::Debug>(round: impl Fn() -> T, is_within: impl Fn(&T) -> bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let beyond: Vec<T> = (0..ROUNDS).map(|_| round()).take_while(|round| !is_within(round)).collect();
    assert!(beyond.len() < ROUNDS, "{beyond:?}");
}

/// What a frame takes from its push to its answer, beside what it takes without a stream: at most 0.1 ms of half of them, 0.5 ms of 99 in
/// 100.
#[test]
fn the_way_through_a_stream_costs_little() {
    const FRAMES: usize = 300;
    let size = Size::Exact { height: 32, width: 32 };
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let network = Network::load(&testing::network::Network::varied().write(), &options).unwrap();
    let labels = network.labels(&["cat", "dog"]).unwrap();
    let rgb: Vec<u8> = (0..24 * 20 * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let image = Image::rgb8(24, 20, &rgb);
    let quantiles = |mut times: Vec<Duration>| {
        times.sort_unstable();
        [times[FRAMES / 2], times[FRAMES * 99 / 100]]
    };
    let round = || {
        let mut lane = network.lane().unwrap();
        lane.set_size(size);
        lane.set_labels(&labels).unwrap();
        let mut results = Results::default();
        let options = StreamOptions {
            policy: Policy::Newest,
            size: Some(size),
            warm: Some((Format::Rgb8, 24, 20)),
            ..StreamOptions::default()
        };
        let stream = Stream::start(&network, Some(&labels), options).unwrap();
        // In turn, so that both meet the same machine.
        let both: Vec<[Duration; 2]> = (0..FRAMES)
            .map(|_| {
                let begin = Instant::now();
                lane.run_into(&[image], Wanted::MASK, &mut results).unwrap();
                let alone = begin.elapsed();
                // As of a camera: nobody is awake any more.
                thread::sleep(Duration::from_micros(300));
                let begin = Instant::now();
                stream.push(&image, 0).unwrap();
                stream.recv(Duration::from_secs(60)).unwrap().expect("an answer comes");
                [alone, begin.elapsed()]
            })
            .collect();
        let [alone, through] = [0, 1].map(|i| quantiles(both.iter().map(|times| times[i]).collect()));
        let [p50, p99] = [0, 1].map(|i| through[i].saturating_sub(alone[i]));
        eprintln!("through a stream {p50:?} more (p50), {p99:?} (p99) than {alone:?} without");
        (p50, p99)
    };
    let most = (Duration::from_micros(100), Duration::from_micros(500));
    one_is_within(round, |(p50, p99)| *p50 <= most.0 && *p99 <= most.1);
}

/// 60 frames a second, of which a fraction can be computed: what comes out is the newest, whoever is slow. The age that this share of the frames
/// does not exceed, and what it may be, in milliseconds.
fn fast_camera(seconds: f64, share: &str) -> (f64, f64) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    program.args(["stream", "-", "--raw", "nv12:64x48", "--newest", "--json", "--labels", "grass,sky,other", "-q"]);
    // On one thread, some tens of milliseconds a frame.
    program.args(["--device", "cpu", "--threads", "1", "--size", "64x96"]);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let frame: Vec<u8> = (0..64 * 48 * 3 / 2).map(|i| (i * 7919 % 251) as u8).collect();
    let pid = child.id();
    let resident = move || {
        let status = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let feed = thread::spawn(move || {
        let (begin, mut early) = (Instant::now(), 0);
        let mut count = 0;
        while begin.elapsed().as_secs_f64() < seconds {
            stdin.write_all(&frame).unwrap();
            count += 1;
            if begin.elapsed().as_secs_f64() > seconds / 2.0 && early == 0 {
                early = resident();
            }
            let next = begin + Duration::from_secs_f64(count as f64 / 60.0);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        (count, early, resident())
    });
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let (pushed, early, late) = feed.join().unwrap();
    assert!(child.wait().unwrap().success());
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, frames) = lines.split_last().unwrap();
    let counted = |what: &str| summary["summary"][what].as_u64().unwrap();
    let (done, replaced) = (counted("done"), counted("replaced"));
    assert_eq!((counted("pushed"), done + replaced), (pushed, pushed), "{summary}");
    assert!(replaced > 0, "the engine is no slower than the camera: {summary}");
    let quantile = |what: &str, share: &str| summary[what][share].as_f64().unwrap();
    // One computation, and one period for the camera; quantiles are known to 4 %.
    let most = 1.05 * quantile("compute_ms", share) + 1000.0 / 60.0 + 2.0;
    let age = quantile("age_ms", share);
    eprintln!(
        "{pushed} pushed, {done} done; age {share} {age:.1} ms, compute p50 {:.1} p99 {:.1}",
        quantile("compute_ms", "p50"),
        quantile("compute_ms", "p99")
    );
    assert!(late <= early + (4 << 20), "{early} bytes of memory grew to {late}");
    let last = frames.last().unwrap()["frame"].as_u64().unwrap();
    assert_eq!(last, pushed - 1, "the last frame is computed");
    (age, most)
}

#[test]
fn the_newest_frame_is_never_old() {
    let is_long = std::env::var_os("LSEG_LONG_TESTS").is_some();
    // In some seconds 99 of 100 frames are all.
    let (seconds, share) = if is_long { (60.0, "p99") } else { (4.0, "p90") };
    one_is_within(|| fast_camera(seconds, share), |(age, most)| age <= most);
}
