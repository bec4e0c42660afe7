//! Whatever ends a call, the same call goes on; and shards become the whole.
#![cfg(target_os = "linux")]

use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// Long enough for anything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn read(folder: &Folder, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.path(name)).unwrap()).unwrap()
}

/// The call without a state, which nothing disturbs.
fn whole(folder: &Folder) -> String {
    folder.call(&format!("{FOLDERS} {} --json --per-photo whole.csv", model())).done().to_owned()
}

/// Ends a call by this signal after a while; whether the call was still at it.
fn ended(folder: &Folder, call: &str, signal: Signal, after: Duration) -> bool {
    let mut child: Child = folder.command(call).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let _ = kill_process(Pid::from_child(&child), signal);
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.signal() == Some(signal.as_raw());
        }
        assert!(start.elapsed() < PATIENCE, "it goes on and on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// At moments that are spread over the whole call: a state is whole or not there, and nothing is counted twice.
fn killed(times: u32) {
    let folder = Folder::new();
    folder.tree();
    let expected = whole(&folder);
    let call = format!("{FOLDERS} {} --json --state s --per-photo own.csv", model());
    let start = Instant::now();
    whole(&folder);
    let longest = start.elapsed();
    let (mut hits, mut begun) = (0, 0);
    for i in 0..times {
        let signal = [Signal::KILL, Signal::TERM, Signal::INT][i as usize % 3];
        hits += u32::from(ended(&folder, &call, signal, longest * (7 * i % times) / times));
        if folder.path("s").exists() {
            let state = read(&folder, "s");
            begun += u32::from(state["rows"].as_array().unwrap().len() < 8);
        }
        if i % 4 == 3 {
            // To its end, from whatever is there.
            assert_eq!(folder.call(&call).done(), expected);
            assert_eq!(fs::read(folder.path("own.csv")).unwrap(), fs::read(folder.path("whole.csv")).unwrap());
            fs::remove_file(folder.path("s")).unwrap();
        }
    }
    // How many depends on what else the machine does.
    assert!(hits > 0, "none of {times} calls was still at it");
    eprintln!("{hits} of {times} were ended, {begun} states were of a part");
    let names = fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.retain(|name| name != "s");
    assert_eq!(names, ["masks", "own.csv", "photos", "whole.csv"]);
}

#[test]
fn a_call_that_was_ended_goes_on() {
    killed(if std::env::var_os("LSEG_LONG_TESTS").is_some() { 50 } else { 8 });
}

/// The process dies of the signal, and what was counted before it is kept.
#[test]
fn a_signal_keeps_what_was_counted() {
    let folder = Folder::new();
    folder.tree();
    // So many, at such a size, that they take half a minute, in which this test must have seen the first of them.
    const COPIES: usize = 600;
    for copy in 0..COPIES {
        for kind in ["photos", "masks"] {
            fs::copy(folder.path(&format!("{kind}/p7.png")), folder.path(&format!("{kind}/p8{copy}.png"))).unwrap();
        }
    }
    for signal in [Signal::INT, Signal::TERM] {
        let call = format!("{FOLDERS} {} --state s --save-masks own", model()).replace("32x32", "256x256");
        let mut child = folder.command(&call).stdout(Stdio::null()).spawn().unwrap();
        // The first photo is counted before the second one's mask is there.
        let start = Instant::now();
        while !folder.path("own/p1.mask.png").exists() {
            assert!(start.elapsed() < PATIENCE, "it never happened");
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
        let rows = read(&folder, "s")["rows"].as_array().unwrap().len();
        assert!((1..8 + COPIES).contains(&rows), "{rows}");
        fs::remove_dir_all(folder.path("own")).unwrap();
        fs::remove_file(folder.path("s")).unwrap();
    }
}

#[test]
fn a_complete_state_is_told_again_and_a_failed_photo_stays_failed() {
    let folder = Folder::new();
    folder.tree();
    folder.write("photos/p3.png", "no photo");
    let call = format!("{FOLDERS} {} --json --state s", model());
    let first = folder.call(&call);
    first.refused_once(1, &["p3.png"]);
    let again = folder.call(&call);
    assert_eq!((again.code, &again.stdout), (Some(1), &first.stdout));
    assert_eq!(read(&folder, "s")["rows"].as_array().unwrap().len(), 8);
}

#[test]
fn another_measurement_refuses_the_state() {
    let folder = Folder::new();
    folder.tree();
    let judged = format!("{FOLDERS} --predictions masks");
    folder.call(&format!("{judged} --state s")).done();
    let own = format!("{FOLDERS} {} --state t", model());
    folder.call(&own).done();
    folder.write("map.txt", "0 cat\n1 wall\n2 other\n");
    let other_model = own.replace("weights/seeded/seeded.ckpt", "tests/golden/vit16/model.ckpt");
    for (call, words) in [
        (format!("{} --state s", judged.replace("wall", "tree")), &["s: ", "label 2 wall", "tree"][..]),
        (format!("{judged} --extra sky --state s"), &["as many words as 3", "4"]),
        (format!("{judged} --limit 3 --state s"), &["photos 8", "3"]),
        (format!("{judged} --map map.txt --ignore 255 --ignore 7 --state s"), &["s: ", "--map, --ignore"]),
        (format!("{judged} --state s --shard 1/2"), &["--shard 1/1", "1/2"]),
        (format!("{FOLDERS} --predictions other --state s"), &["--predictions masks", "other"]),
        (own.replace("32x32", "64x64"), &["t: ", "--size 32x32", "64x64"]),
        (own.clone() + " --template a{}", &["--template"]),
        (other_model, &["t: ", "--model"]),
    ] {
        fs::create_dir_all(folder.path("other")).unwrap();
        folder.call(&call).refused_once(2, words);
    }
    fs::rename(folder.path("photos/p7.png"), folder.path("photos/p9.png")).unwrap();
    fs::rename(folder.path("masks/p7.png"), folder.path("masks/p9.png")).unwrap();
    folder.call(&format!("{judged} --state s")).refused_once(2, &["list of photos"]);
    let state = fs::read_to_string(folder.path("s")).unwrap();
    for (bad, words) in [
        ("{}".to_owned(), &["no state of lseg-fast eval"][..]),
        (state[..state.len() / 2].to_owned(), &["no state"]),
        (state.replace("\"words\":3", "\"words\":2"), &["damaged"]),
        (state.replace("[[0,0,", "[[0,9,"), &["damaged"]),
        (state.replace("[[0,0,", "[[0,0,18446744073709551615],[0,1,"), &["damaged"]),
        (state.replace("\"part\":1", "\"part\":0"), &["damaged"]),
    ] {
        assert_ne!(bad, state);
        folder.write("s", &bad);
        folder.call(&format!("{judged} --state s")).refused_once(2, &[&["s: "], words].concat());
        folder.call("merge s").refused_once(2, &[&["s: "], words].concat());
    }
}

#[test]
fn shards_become_the_whole() {
    let folder = Folder::new();
    folder.tree();
    folder.write("photos/p4.png", "no photo");
    let whole = folder.call(&format!("{FOLDERS} {} --json --per-photo whole.csv --confusion whole.npy", model()));
    for parts in [2, 3, 8] {
        let mut files: Vec<String> = Vec::new();
        for part in 1..=parts {
            let name = format!("{part}of{parts}");
            folder.call(&format!("{FOLDERS} {} --shard {part}/{parts} --state {name}", model()));
            files.insert(0, name);
        }
        let merged = folder.call(&format!("merge {} --json --per-photo m.csv --confusion m.npy", files.join(" ")));
        assert_eq!((merged.code, &merged.stdout), (Some(1), &whole.stdout), "{merged:?}");
        for ending in ["csv", "npy"] {
            let [merged, whole] =
                ["m", "whole"].map(|name| fs::read(folder.path(&format!("{name}.{ending}"))).unwrap());
            assert_eq!(merged, whole, "{parts}");
        }
    }
    folder.call("merge 1of3 2of3").refused_once(2, &["2 of 3 shards"]);
    folder.call("merge 1of3 2of3 2of3").refused_once(2, &["2of3", "--shard"]);
    folder.call("merge 1of2 2of3").refused_once(2, &["2of3", "--shard 2/3"]);
    folder.call("merge none").refused_once(1, &["none"]);
    folder.call("merge").refused_once(2, &[]);
    let mut state = read(&folder, "1of3");
    state["rows"].as_array_mut().unwrap().pop();
    folder.write("1of3", state.to_string());
    folder.call("merge 1of3 2of3 3of3").refused_once(2, &["1of3: 2 of 3 photos were done"]);
}
