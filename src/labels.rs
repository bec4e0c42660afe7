//! The list of labels as it is typed or kept in a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::checkpoint::printable;
use crate::{Error, Result};

/// The most labels at once: a mask's values are 16 bits wide.
pub const MAX_LABELS: usize = 65_535;

/// The largest file of labels that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads the labels from what `--labels` was given: `a,b c,d`, split at commas and trimmed, or `@FILE` with one label
/// a line, where a line whose first character is `#` is a comment.
///
/// # Errors
/// [`Error::Labels`] if there is none, one is empty, or one is there twice, with its place; if there are more than
/// [`MAX_LABELS`]; if the file is not UTF-8. [`Error::Io`] if the file cannot be read.
pub fn parse(argument: &str) -> Result<Vec<String>> {
    let labels = match argument.strip_prefix('@') {
        Some(file) => from_file(Path::new(file))?,
        None if argument.trim().is_empty() => Vec::new(),
        None => argument
            .split(',')
            .enumerate()
            .map(|(i, label)| (format!("label {}", i + 1), label.trim().into()))
            .collect(),
    };
    check(labels)
}

/// (place, label)
type Placed = (String, String);

fn from_file(path: &Path) -> Result<Vec<Placed>> {
    let file = File::open(path).map_err(|e| Error::io("open the labels", path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read the labels", path, e))?;
    let refused = |what: String| Error::Labels(format!("{}: {what}", path.display()));
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused(format!("more than {} MiB; expected one label a line", MAX_FILE_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        refused(format!("line {line} is not UTF-8; save the file as UTF-8 text"))
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.starts_with('#'));
    Ok(lines.map(|(i, line)| (format!("{}: line {}", path.display(), i + 1), line.to_owned())).collect())
}

/// Checks a list that a program gives.
///
/// # Errors
/// As [`parse`].
pub fn checked<S: AsRef<str>>(labels: &[S]) -> Result<Vec<String>> {
    let places = (1..).map(|i| format!("label {i}"));
    check(places.zip(labels.iter().map(|label| label.as_ref().trim().to_owned())).collect())
}

fn check(labels: Vec<Placed>) -> Result<Vec<String>> {
    if labels.is_empty() {
        return Err(Error::Labels("no labels; expected at least one, such as --labels \"dog,grass,other\"".into()));
    }
    if labels.len() > MAX_LABELS {
        return Err(Error::Labels(format!("{} labels; at most {MAX_LABELS} are possible", labels.len())));
    }
    // The text tower sees neither case nor the amount of white space: such twins could never be told apart.
    let mut seen: HashMap<String, &Placed> = HashMap::with_capacity(labels.len());
    for labelled in &labels {
        let (place, label) = labelled;
        if label.is_empty() {
            return Err(Error::Labels(format!("{place} is empty; remove it or write a word there")));
        }
        let key = label.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((first_place, first)) = seen.insert(key, labelled) {
            let alike = if first == label { "" } else { " (case and spaces make no difference)" };
            return Err(Error::Labels(format!(
                "{place} \"{}\" repeats \"{}\" of {first_place}{alike}; keep one of them",
                printable(label),
                printable(first)
            )));
        }
    }
    Ok(labels.into_iter().map(|(_, label)| label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.txt");
        std::fs::write(&path, content).unwrap();
        let argument = format!("@{}", path.display());
        (folder, argument)
    }

    fn error(argument: &str) -> String {
        parse(argument).unwrap_err().to_string()
    }

    #[test]
    fn labels_are_split_at_commas_and_trimmed() {
        assert_eq!(parse("dog, tall  grass ,other").unwrap(), ["dog", "tall  grass", "other"]);
        assert_eq!(parse("#1,é,a@b").unwrap(), ["#1", "é", "a@b"]);
    }

    #[test]
    fn a_file_has_one_label_a_line() {
        let (_folder, argument) =
            file("\u{FEFF}# words\r\ndog\r\n  # more\r\n grass, tall \r\n@home\r\nc#\r\n".as_bytes());
        assert_eq!(parse(&argument).unwrap(), ["dog", "grass, tall", "@home", "c#"]);
    }

    #[test]
    fn empty_lists_and_labels_are_named() {
        assert!(error("").contains("no labels"));
        assert!(error("  ").contains("no labels"));
        assert!(error("a,,b").contains("label 2 is empty"));
        assert!(error("a,").contains("label 2 is empty"));
        let (_folder, argument) = file(b"# a\nx\n\ny\n");
        assert!(error(&argument).contains("labels.txt: line 3 is empty"));
        let (_folder, argument) = file(b"# only a comment\n");
        assert!(error(&argument).contains("no labels"));
    }

    #[test]
    fn duplicates_are_named_with_both_places() {
        assert!(error("dog,cat,dog").contains("label 3 \"dog\" repeats \"dog\" of label 1;"));
        assert!(error("Dog,cat,dog").contains("label 3 \"dog\" repeats \"Dog\" of label 1 (case"));
        let (_folder, argument) = file(b"x\n# y\n x\n");
        let error = error(&argument);
        assert!(error.contains("line 3 \"x\"") && error.contains("line 1;"), "{error}");
    }

    #[test]
    fn files_that_are_no_text_are_refused() {
        let (_folder, argument) = file(b"dog\ncaf\xE9\n");
        assert!(error(&argument).contains("line 2 is not UTF-8"));
        assert!(matches!(parse("@/does/not/exist"), Err(Error::Io { .. })));
    }

    #[test]
    fn a_mask_can_tell_65535_labels_apart() {
        let many = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&many(65_535)).unwrap().len(), 65_535);
        assert!(error(&many(65_536)).contains("65536 labels"));
    }
}
