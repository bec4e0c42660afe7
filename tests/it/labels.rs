//! Labels as users give them, through the real program and through the library, on to what the text tower is given.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lseg_fast::engine::LongLabels;
use lseg_fast::{DeviceChoice, Engine, Error, Options};
use tempfile::TempDir;
use testing::time::{Clock, soon};

/// The repository's small model with random weights.
const MODEL: &str = "weights/seeded/seeded.ckpt";

/// What `text` answered, called with these arguments in a folder of its own.
struct Answer {
    code: Option<i32>,
    stderr: String,
    /// The labels of its report.
    labels: Vec<String>,
    /// The array that it wrote, without its header.
    embeddings: Vec<u8>,
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn text(&self, arguments: &[&str]) -> Answer {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(MODEL);
        let output = Command::new(env!("CARGO_BIN_EXE_lseg-fast"))
            .args(["text", "--json", "--device", "cpu", "--out", "x.npy", "--model"])
            .arg(model)
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let labels = report["labels"].as_array().cloned().unwrap_or_default();
        let array = fs::read(self.0.path().join("x.npy")).unwrap_or_default();
        Answer {
            code: output.status.code(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            labels: labels.iter().map(|label| label.as_str().unwrap().to_owned()).collect(),
            embeddings: array.get(128..).unwrap_or_default().to_owned(),
        }
    }

    /// The labels that the program makes of a list that it accepts without a word.
    #[track_caller]
    fn labels(&self, labels: &str) -> Vec<String> {
        let answer = self.text(&["--labels", labels]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{labels:?}");
        answer.labels
    }

    /// The line with which it refuses a list.
    #[track_caller]
    fn refusal(&self, arguments: &[&str]) -> String {
        let answer = self.text(arguments);
        assert_eq!(answer.code, Some(2), "{arguments:?}: {}", answer.stderr);
        assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
        answer.stderr.strip_prefix("error: ").unwrap().trim_end().to_owned()
    }

    fn file(&self, content: impl AsRef<[u8]>) -> &'static str {
        fs::write(self.0.path().join("words.txt"), content).unwrap();
        "@words.txt"
    }
}

fn engine() -> Engine {
    Engine::load(MODEL.as_ref(), &Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() })
        .unwrap()
}

fn reason(result: lseg_fast::Result<()>) -> String {
    match result {
        Err(error @ Error::Labels(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn quotes_and_line_ends_part_labels() {
    let folder = Folder::new();
    assert_eq!(folder.labels("\"tall grass, dry\",dog"), ["tall grass, dry", "dog"]);
    assert_eq!(folder.labels("dog\ntree\r\nsky\n\n"), ["dog", "tree", "sky"]);
    assert_eq!(
        folder.labels(folder.file("dog\u{2028}\"grass, tall\"\u{85}# more\rsky\r\n\r\n")),
        ["dog", "grass, tall", "sky"]
    );
    assert!(folder.refusal(&["--labels", "'dog,cat'"]).contains("label 1 \"'dog\" begins with a single quote"));
    assert!(folder.refusal(&["--labels", "dog,\"cat"]).contains("label 2"));
    assert!(folder.refusal(&["--labels", folder.file("dog\n0 tree\n1 sky\n2 sea\n3 road\n")]).contains("line 2"));
}

#[test]
fn a_table_of_lsegs_is_read_and_said_to_be_one() {
    let folder = Folder::new();
    let file = folder.file("Idx,Ratio,Train,Val,Stuff,Name\n1,0.20,900,90,1,wall\n2,0.10,500,50,1,door;double;door\n");
    let answer = folder.text(&["--labels", file]);
    assert_eq!((answer.code, answer.labels), (Some(0), vec!["wall".to_owned(), "door".to_owned()]));
    assert!(answer.stderr.starts_with("note: words.txt: ") && answer.stderr.lines().count() == 1, "{}", answer.stderr);
    assert_eq!(folder.text(&["--labels", file, "--quiet"]).stderr, "");
}

/// What typing cannot tell apart, or not alone: the tokens decide.
#[test]
fn labels_that_the_text_tower_cannot_tell_apart_are_refused_with_their_lines() {
    let folder = Folder::new();
    for twins in ["don’t\ndon't", "dog\ndog <end_of_text> cat", "dog\u{345}\ndog", "ﬂag\nＦlag", "a &amp; b\na & b"]
    {
        let message = folder.refusal(&["--labels", folder.file(format!("# words\nsky\n{twins}\n"))]);
        assert!(message.starts_with("words.txt: line 4 ") && message.contains(" of words.txt: line 3"), "{message}");
    }
    for empty in ["\u{FEFF}", "<end_of_text>", "<END_OF_TEXT> dog", "\u{345}", "\u{1}", "\u{1B}[1m"] {
        let message = folder.refusal(&["--labels", folder.file(format!("sky\n{empty}\n"))]);
        assert!(message.starts_with("words.txt: line 2 is empty"), "{message}");
        let message = folder.refusal(&["--labels", &format!("{empty},sky"), "--template", "a photo of {}"]);
        assert!(message.starts_with("label 1 is empty"), "{message}");
    }
    // The end token in the template hides every label.
    let message = folder.refusal(&["--labels", "dog,sky", "--template", "a <end_of_text> {}"]);
    assert!(message.starts_with("label 2 \"sky\" repeats \"dog\" of label 1"), "{message}");
    let mut engine = engine();
    engine.set_labels(&["sky"]).unwrap();
    assert!(reason(engine.set_labels(&["dog", "dog<end_of_text>"])).contains("label 2"));
    assert!(reason(engine.set_labels(&["dog", "sky\nsea"])).contains("line end"));
    assert_eq!(engine.labels(), ["sky"]);
}

/// The text tower reads at the first end token, as CLIP does: its argmax finds the first of the largest ids.
#[test]
fn what_stands_behind_an_end_token_is_not_read() {
    let folder = Folder::new();
    let ended = folder.text(&["--labels", "a <end_of_text> b c,a b <end_of_text> c"]).embeddings;
    let plain = folder.text(&["--labels", "a,a b"]).embeddings;
    assert!(!plain.is_empty());
    assert_eq!(floats(&ended).len(), floats(&plain).len());
    for (a, b) in floats(&ended).into_iter().zip(floats(&plain)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn long_labels_are_refused_or_cut() {
    let folder = Folder::new();
    let (room, long) = (engine().config().text.context - 2, "a ".repeat(99) + "b");
    let labels = format!("sky,{long}");
    let message = folder.refusal(&["--labels", &labels]);
    assert!(message.starts_with("label 2 \"a a a"), "{message}");
    assert!(message.contains(&format!("100 tokens long, but the model reads at most {room}")), "{message}");
    assert!(message.contains("--long-labels cut"), "{message}");

    let cut = folder.text(&["--labels", &labels, "--long-labels", "cut"]);
    assert_eq!(cut.code, Some(0), "{}", cut.stderr);
    assert!(cut.stderr.starts_with("note: label 2 \"a a") && cut.stderr.lines().count() == 1, "{}", cut.stderr);
    assert!(cut.stderr.contains(&format!("only the first {room} are read, to \"…a a")), "{}", cut.stderr);
    assert_eq!(cut.labels, ["sky", &long]);
    // Truncated as CLIP does it: the tokens that fit, the end token the last.
    let short = folder.text(&["--labels", &format!("sky,{}", "a ".repeat(room))]);
    assert_eq!((short.code, short.stderr.as_str()), (Some(0), ""));
    assert_eq!(cut.embeddings, short.embeddings);

    // It is the filled-in text that is too long.
    let fitting = "a ".repeat(room);
    let call = ["--labels", fitting.trim(), "--template", "{}", "--template", "a {} b"];
    let message = folder.refusal(&call);
    assert!(message.contains(&format!("{} tokens long in its template", room + 2)), "{message}");
    let cut = folder.text(&[&call[..], &["--long-labels", "cut"]].concat());
    assert!(cut.code == Some(0) && cut.stderr.contains("in its template"), "{}", cut.stderr);

    // Where only what was cut off differed, one label would get all of the other's pixels.
    let twins = format!("{long} c,{long} d");
    let message = folder.refusal(&["--labels", &twins, "--long-labels", "cut"]);
    assert!(message.starts_with("label 2") && message.contains("to where they are read"), "{message}");
}

/// Texts that an engine has cut are refused again once it is told to.
#[test]
fn the_engine_cuts_long_labels_only_while_it_is_told_to() {
    let mut engine = engine();
    let long = "word ".repeat(100);
    assert!(reason(engine.set_labels(&["sky", &long])).contains("shorten it"));
    engine.set_long_labels(LongLabels::Cut);
    engine.set_labels(&["sky", &long]).unwrap();
    assert_eq!(engine.label_notes().len(), 1);
    engine.set_labels(&["sky"]).unwrap();
    assert!(engine.label_notes().is_empty());
    engine.set_long_labels(LongLabels::Refuse);
    assert!(reason(engine.set_labels(&["sky", &long])).contains("shorten it"));
}

/// Before anything is done to it, by its line.
#[test]
fn a_label_of_more_than_a_kilobyte_is_refused() {
    let folder = Folder::new();
    let long = format!("a{}b", " ".repeat(1025));
    let fits = format!("a{}b", " ".repeat(1022));
    let words = "is 1027 bytes long, but at most 1024 are read; shorten it";
    assert!(folder.refusal(&["--labels", &format!("dog,{long}")]).ends_with(words));
    let message = folder.refusal(&["--labels", folder.file(format!("dog\n# more\n{long}\n"))]);
    assert!(message.starts_with("words.txt: line 3 ") && message.ends_with(words), "{message}");
    let message = folder.refusal(&["--labels", folder.file(format!("dog\n{}\n", "x".repeat(1 << 20)))]);
    assert!(message.starts_with("words.txt: line 2 is 1048576 bytes long") && message.len() < 200, "{message}");
    assert_eq!(folder.labels(&format!("dog,{fits}")).len(), 2);
    assert_eq!(folder.labels(folder.file(format!("dog\n\"{fits}\"\n"))).len(), 2);
    let mut engine = engine();
    assert!(reason(engine.set_labels(&["dog", &long])).contains("label 2"));
}

/// A file of the most bytes that are read.
#[test]
fn a_list_of_hostile_labels_is_read_in_little_time() {
    let nested = |i: usize| format!("{i}&{}lt;", "amp;".repeat(253));
    let list: Vec<String> = (0..1000).map(nested).collect();
    let read = || lseg_fast::labels::checked(&list).unwrap().len();
    assert_eq!(soon("a list of labels", Clock::Thread, Duration::from_secs(1), read), list.len());
}

#[test]
fn templates_that_would_fill_the_memory_are_refused() {
    let folder = Folder::new();
    let (many, long) = ("{} ".repeat(300), "x".repeat(1025) + "{}");
    let message = folder.refusal(&["--labels", &"dog".repeat(300), "--template", &many]);
    assert!(message.contains("bytes, and all of them with"), "{message}");
    let message = folder.refusal(&["--labels", "dog", "--template", &long]);
    assert!(message.contains("is 1027 bytes long, but at most 1024 are read"), "{message}");
    let mut engine = engine();
    engine.set_templates(&vec!["a {}".to_owned(); 1 << 19]).unwrap();
    let message = engine.set_labels(&["dog", "cat", "sky"]).unwrap_err().to_string();
    assert!(message.contains("3 labels in 524288 templates are 1572864 texts, more than 1048576"), "{message}");
}

#[test]
fn progress_is_told_until_all_texts_are_encoded() {
    let mut engine = engine();
    let words: Vec<String> = (0..70).map(|i| format!("word {i}")).collect();
    let list = lseg_fast::labels::checked(&words).unwrap();
    let mut told = Vec::new();
    engine.set_list_watched(&list, &mut |done, of| told.push((done, of))).unwrap();
    assert_eq!(told, [(32, 70), (64, 70), (70, 70)]);
    // They are known now.
    engine.set_list_watched(&list, &mut |_, _| panic!("nothing is encoded")).unwrap();
}
