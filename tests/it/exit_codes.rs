//! The program is driven through every row of docs/exit-codes.md.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Cause → calls. `MODEL` is the seeded model.
const CALLS: [(&str, &[&str]); 21] = [
    (
        "all is done",
        &[
            "run a.png --labels cat --size 32x32 --model MODEL --device cpu",
            "embed a.png --size 32x32 --model MODEL",
            "text --labels cat --out t.npy --model MODEL",
            "convert MODEL --out c.safetensors",
            "info MODEL",
            "plan --model MODEL --size 32x32",
            "tokenize -- dog",
        ],
    ),
    ("help or version was asked for", &["--help", "run --help", "--version"]),
    ("the reader of standard output went away", &["CLOSED info MODEL", "CLOSED --help"]),
    (
        "a photo cannot be opened or decoded",
        &[
            "run none.png a.png --labels cat --size 32x32 --model MODEL",
            "embed bad.png --size 32x32 --model MODEL",
            "embed a.png --max-pixels 9 --model MODEL",
        ],
    ),
    (
        "a file cannot be opened or read: a model, labels, points, a projection",
        &[
            "run a.png --labels cat --model none",
            "run a.png --labels @none --model MODEL",
            "embed a.png --points none --model MODEL",
            "embed a.png --project none --model MODEL",
            "text --labels @none --out t.npy --model MODEL",
            "text --labels cat --out t.npy --model none",
            "convert none --out c.safetensors",
            "info none",
            "plan --model none",
            "tokenize --model none -- dog",
            "eval merge none",
        ],
    ),
    (
        "a camera, a video or a pipe of frames cannot be opened or read, is lost, or has damaged frames",
        &[
            "stream none.mp4 --labels cat --model MODEL",
            "stream /dev/video99 --labels cat --model MODEL",
            "stream ftp://host/x --labels cat --model MODEL",
            "stream - --labels cat --model MODEL",
            "stream bad.y4m --labels cat --model MODEL",
        ],
    ),
    (
        "a model is damaged, lacks a tensor or contradicts itself",
        &[
            "run a.png --labels cat --model bad.png",
            "embed a.png --model bad.png",
            "text --labels cat --out t.npy --model bad.png",
            "convert bad.png --out c.safetensors",
            "info bad.png",
            "plan --model bad.png",
            "tokenize --model bad.png -- dog",
        ],
    ),
    (
        "a result cannot be written: disk full, no rights, not a regular file",
        &[
            "run a.png --labels cat --size 32x32 --model MODEL --out bad.png",
            "embed a.png --size 32x32 --model MODEL --out bad.png",
            "text --labels cat --out /dev/null --model MODEL",
            "text --labels cat --out bad.png/t.npy --model MODEL",
            "convert MODEL --out /dev/null",
            "FULL run a.png --labels cat --size 32x32 --out - --model MODEL",
        ],
    ),
    ("standard output takes no more", &["FULL info MODEL", "FULL --version", "FULL convert MODEL --out c.safetensors"]),
    (
        "more memory is needed than there is",
        &["LITTLE run a.png --labels cat --size 8192x8192 --device cpu --model MODEL"],
    ),
    (
        "an argument is not known, missing or out of its range",
        &[
            "",
            "nonsense",
            "run a.png",
            "run a.png --labels cat --threads 0",
            "text --labels cat",
            "plan --labels-count 0",
            "eval",
            "eval --data nonsense",
        ],
    ),
    (
        "arguments contradict each other, or a result would replace its source",
        &[
            "run a.png --labels cat --alpha 0.2 --save mask",
            "run a.png bad.png --labels cat --out -",
            "run a.png a.mask.png --labels cat --out .",
            "embed a.png --at full --points p.csv",
            "embed a.png --pca 3 --skip-existing",
            "embed - --pca 3",
            "convert c.safetensors --out c.safetensors",
        ],
    ),
    ("a folder without a photo", &["run empty --labels cat --model MODEL", "embed empty --model MODEL"]),
    (
        "labels that are empty, repeated, too long or no list of labels",
        &[
            "run a.png --labels cat,cat --model MODEL",
            "text --labels cat,,dog --out t.npy --model MODEL",
            "text --labels @LONG --out t.npy --model MODEL",
        ],
    ),
    ("a template without a place for the label", &["text --labels cat --template none --out t.npy --model MODEL"]),
    ("a palette that is not known or not understood", &["run a.png --labels cat --palette none --model MODEL"]),
    ("points that are not understood", &["embed a.png --points bad.png --model MODEL"]),
    (
        "a projection that is not understood, or is for other vectors",
        &["embed a.png --project bad.png --model MODEL", "embed a.png --project c.safetensors --model MODEL"],
    ),
    (
        "a data set, a list of photos or a state that is not as it should be",
        &[
            "eval --data folders --images empty --masks empty --labels cat",
            "eval --data voc:empty",
            "eval merge bad.png",
        ],
    ),
    (
        "a size that no photo or network can have",
        &[
            "run a.png --labels cat --size 0x0 --model MODEL",
            "plan --size 99999x64 --model MODEL",
            "plan --size native",
        ],
    ),
    (
        "a device that is not there",
        &[
            "run a.png --labels cat --device cuda:77 --model MODEL",
            "embed a.png --device cuda:77 --model MODEL",
            "text --labels cat --out t.npy --device cuda:77 --model MODEL",
        ],
    ),
];

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    image::RgbImage::new(40, 33).save(at("a.png")).unwrap();
    fs::copy(at("a.png"), at("a.mask.png")).unwrap();
    fs::write(at("bad.png"), "neither photo nor model").unwrap();
    fs::write(at("p.csv"), "x,y\n1,2\n").unwrap();
    fs::write(at("LONG"), "word ".repeat(100)).unwrap();
    fs::copy(model(), at("c.safetensors")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    folder
}

fn model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/seeded/seeded.ckpt").display().to_string()
}

/// (code, stderr) of a call, which may begin with what its standard output or memory is.
fn call(folder: &TempDir, line: &str) -> (Option<i32>, String) {
    let model = model();
    let mut words: Vec<&str> =
        line.split_whitespace().map(|word| if word == "MODEL" { &model } else { word }).collect();
    let how = words.first().copied().filter(|word| ["FULL", "CLOSED", "LITTLE"].contains(word));
    words.drain(..usize::from(how.is_some()));
    let program = env!("CARGO_BIN_EXE_lseg-fast");
    let mut command = Command::new(if how == Some("LITTLE") { "sh" } else { program });
    if how == Some("LITTLE") {
        command.args(["-c", "ulimit -v 1000000 && exec \"$@\"", "sh", program]);
    }
    command.args(words).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match how {
        Some("FULL") => command.stdout(File::options().write(true).open("/dev/full").unwrap()).spawn().unwrap(),
        Some("CLOSED") => {
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            drop(child.stdout.take());
            child
        }
        _ => command.spawn().unwrap(),
    };
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    (child.wait().unwrap().code(), stderr)
}

/// Cause → code, of the second table.
fn documented() -> BTreeMap<String, i32> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exit-codes.md")).unwrap();
    let table = text.split("| cause | code |\n").nth(1).unwrap();
    let rows = table.lines().skip(1).map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.rsplit_once(" | ").unwrap()).map(|(cause, code)| (cause.into(), code.parse().unwrap())).collect()
}

#[test]
fn every_cause_has_its_code_in_every_command() {
    let folder = folder();
    let documented = documented();
    let mut causes: Vec<&str> = CALLS.iter().map(|(cause, _)| *cause).collect();
    causes.sort();
    assert_eq!(causes, documented.keys().collect::<Vec<_>>());
    for (cause, calls) in CALLS {
        for line in calls {
            let (code, stderr) = call(&folder, line);
            assert_eq!(code, Some(documented[cause]), "{cause}: {line}: {stderr}");
            let is_told = stderr.contains("error: ") || stderr.contains("Usage");
            assert_eq!(is_told, code != Some(0), "{line}: {stderr}");
        }
    }
}
