//! The list of labels as it is typed or kept in a file.

mod argument;
mod file;
mod quotes;
mod rows;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::printable;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// The most labels at once: a mask's values are 16 bits wide.
pub const MAX_LABELS: usize = 65_535;

/// The longest label, in bytes. A label within any model's tokens is far shorter.
pub const MAX_LABEL_BYTES: usize = 1024;

/// Labels that were checked, each with the place where it stands. What only a model's tokenizer can tell (words that
/// it sees no difference between) is checked by [`Engine::set_list`](crate::Engine::set_list).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// None where they were typed or come from a program.
    file: Option<PathBuf>,
    labels: Vec<Label>,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    text: String,
    /// Its line in the file, or its number in the list; from 1.
    number: usize,
}

impl List {
    /// How many they are.
    #[allow(clippy::len_without_is_empty, reason = "no list is empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The labels in their order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| label.text.as_str())
    }

    /// What the user should know of how the list was read.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Where label `index` stands, and the label: `words.txt: line 3 "dog"`.
    pub(crate) fn show(&self, index: usize) -> String {
        let label = &self.labels[index];
        format!("{} \"{}\"", place(self.file.as_deref(), label.number), printable(&label.text))
    }

    /// The error for a label of which nothing is left to read.
    pub(crate) fn without_tokens(&self, index: usize) -> Error {
        let place = place(self.file.as_deref(), self.labels[index].number);
        Error::Labels(format!("{place} is empty: nothing in it is a token; remove it or write a word there"))
    }

    /// The error for a label in which the text tower sees the same as in an earlier one; `why`, where that is not plain.
    pub(crate) fn repeated(&self, index: usize, first: usize, why: &str) -> Error {
        let (place, earlier) = (self.show(index), &self.labels[first]);
        let first_place = self::place(self.file.as_deref(), earlier.number);
        let why = match &self.note {
            Some(_) => " (of a table, the last column to its first semicolon counts)",
            None if earlier.text == self.labels[index].text => "",
            None => why,
        };
        Error::Labels(format!(
            "{place} repeats \"{}\" of {first_place}{why}; keep one of them",
            printable(&earlier.text)
        ))
    }

    /// The same with this label as the last, unless it is that already.
    ///
    /// # Errors
    /// [`Error::Labels`] for a label that is none, or stands elsewhere in the list.
    pub fn ending_with(mut self, text: &str) -> Result<List> {
        let text = text.trim();
        let is_last = |last: &Label| Tokenizer::clean(&last.text) == Tokenizer::clean(text);
        if !self.labels.last().is_some_and(is_last) {
            let number = self.labels.last().map_or(0, |last| last.number) + 1;
            self.labels.push(Label { text: text.to_owned(), number });
        }
        self.checked()
    }

    fn checked(self) -> Result<List> {
        if self.labels.is_empty() {
            return Err(Error::Labels("no labels; expected at least one, such as --labels \"dog,grass,other\"".into()));
        }
        if self.len() > MAX_LABELS {
            return Err(too_many(self.len()));
        }
        let mut seen = HashMap::with_capacity(self.len());
        for (i, Label { text, number }) in self.labels.iter().enumerate() {
            let place = || place(self.file.as_deref(), *number);
            if text.is_empty() {
                return Err(Error::Labels(format!("{} is empty; remove it or write a word there", place())));
            }
            if text.contains(is_line_end) {
                return Err(Error::Labels(format!(
                    "{} has a line end in it, which no label has; make two labels of it, or put a space there",
                    self.show(i)
                )));
            }
            if text.len() > MAX_LABEL_BYTES {
                return Err(Error::Labels(format!("{} {}", self.show(i), too_long(text.len(), MAX_LABEL_BYTES))));
            }
            let clean = Tokenizer::clean(text);
            if clean.is_empty() {
                return Err(self.without_tokens(i));
            }
            if let Some(first) = seen.insert(clean, i) {
                return Err(self.repeated(i, first, " (case, spaces and typography make no difference)"));
            }
        }
        Ok(self)
    }
}

/// Reads the labels from what `--labels` was given: `a,b c,"d, e"`, split at commas and line ends and trimmed, or `@FILE`
/// with one label a line. Double quotes around a label keep its commas; `""` between them is a quote. Where there are
/// several lines, those whose first character is `#` are comments. A file may also be a table as LSeg's own label files
/// are (all columns but the last are numbers), of which the last column counts, to its first semicolon.
///
/// # Errors
/// [`Error::Labels`] if there is none, one is empty, or one is there twice, with its place; if a quote opens or closes
/// a label alone; if one is longer than [`MAX_LABEL_BYTES`]; if the file is another table, a numbered list, or in some other way no list of one label a line; if
/// there are more than [`MAX_LABELS`]; if the file is not UTF-8. [`Error::Io`] if the file cannot be read.
pub fn parse(argument: &str) -> Result<List> {
    let list = match argument.strip_prefix('@') {
        Some(file) => file::read(Path::new(file))?,
        None => argument::split(argument)?,
    };
    list.checked()
}

/// Checks a list that a program gives; each label is trimmed.
///
/// # Errors
/// [`Error::Labels`] if there is none, one is empty, has a line end, is longer than [`MAX_LABEL_BYTES`] or is there twice;
/// if there are more than [`MAX_LABELS`].
pub fn checked<S: AsRef<str>>(labels: &[S]) -> Result<List> {
    numbered(labels.iter().map(|label| label.as_ref().trim().to_owned())).checked()
}

fn numbered(texts: impl Iterator<Item = String>) -> List {
    List { labels: texts.zip(1..).map(|(text, number)| Label { text, number }).collect(), ..List::default() }
}

/// What is said of a label or line.
fn too_long(bytes: usize, most: usize) -> String {
    format!("is {bytes} bytes long, but at most {most} are read; shorten it")
}

fn too_many(count: usize) -> Error {
    Error::Labels(format!("{count} labels; at most {MAX_LABELS} are possible"))
}

fn place(file: Option<&Path>, number: usize) -> String {
    match file {
        Some(file) => format!("{}: line {number}", file.display()),
        None => format!("label {number}"),
    }
}

/// The characters at which Python's `splitlines` ends a line.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{1C}'..='\u{1E}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || is_line_end(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.txt");
        std::fs::write(&path, content).unwrap();
        let argument = format!("@{}", path.display());
        (folder, argument)
    }

    #[track_caller]
    fn read(content: impl AsRef<[u8]>) -> Vec<String> {
        let (_folder, argument) = file(content);
        parse(&argument).unwrap().texts().map(str::to_owned).collect()
    }

    fn error(argument: &str) -> String {
        parse(argument).unwrap_err().to_string()
    }

    fn file_error(content: impl AsRef<[u8]>) -> String {
        let (_folder, argument) = file(content);
        let message = error(&argument);
        message.split_once("labels.txt: ").expect("the file's name").1.to_owned()
    }

    #[test]
    fn a_file_has_one_label_a_line() {
        let labels = ["dog", "grass, tall", "@home", "c#"];
        for end in ["\n", "\r\n", "\r", "\u{B}", "\u{C}", "\u{85}", "\u{2028}", "\u{2029}"] {
            let lines = ["\u{FEFF}# words", "dog", "  # more", " grass, tall ", "@home", "c#", "", "# end", " "];
            assert_eq!(read(lines.join(end)), labels, "{end:?}");
        }
        assert_eq!(read("\"dog, cat\"\n\"a \"\"b\"\"\"\npipe 2\"\n"), ["dog, cat", "a \"b\"", "pipe 2\""]);
    }

    #[test]
    fn empty_lists_and_labels_are_named() {
        assert!(error("").contains("no labels"));
        assert!(error("  ").contains("no labels"));
        assert!(error("a,,b").contains("label 2 is empty"));
        assert!(error("a,").contains("label 2 is empty"));
        assert!(error("\u{FEFF},dog").contains("label 1 is empty"));
        assert!(error("dog,\u{1}").contains("label 2 is empty"));
        assert!(error("dog,\"\"").contains("label 2 is empty"));
        assert!(file_error("# a\nx\n\ny\n").starts_with("line 3 is empty"));
        assert!(error(&file("# only a comment\n\n").1).contains("no labels"));
    }

    #[test]
    fn duplicates_are_named_with_both_places() {
        assert!(error("dog,cat,dog").contains("label 3 \"dog\" repeats \"dog\" of label 1;"));
        assert!(error("Dog,cat,dog").contains("label 3 \"dog\" repeats \"Dog\" of label 1 (case"));
        for twins in ["don’t,don't", "ﬂag,flag", "Ｔree,tree", "fish &amp; chips,fish & chips", "a  b,a b"] {
            assert!(error(twins).contains("repeats"), "{twins}");
        }
        let error = file_error("x\n# y\n x\n");
        assert!(error.starts_with("line 3 \"x\"") && error.contains("line 1;"), "{error}");
    }

    #[test]
    fn a_label_has_no_line_end() {
        assert!(error("\"dog\ncat\",sky").contains("has a line end in it"));
        let message = checked(&["sky", "dog\u{2028}cat"]).unwrap_err().to_string();
        assert!(message.contains("label 2") && message.contains("line end"), "{message}");
        assert_eq!(checked(&["dog\n", " a, b"]).unwrap().texts().collect::<Vec<_>>(), ["dog", "a, b"]);
    }

    #[test]
    fn files_that_are_no_text_are_refused() {
        assert!(file_error(b"dog\ncaf\xE9\n").starts_with("line 2 is not UTF-8"));
        assert!(file_error(b"d\0o\0g\0\n\0").starts_with("line 1 is not UTF-8"));
        assert!(file_error(b"\xFF\xFEd\0o\0g\0").starts_with("line 1 is not UTF-8"));
        assert!(
            file_error(b"version https://git-lfs.github.com/spec/v1\noid a\nsize 1\n").starts_with("a Git LFS pointer")
        );
        assert!(matches!(parse("@/does/not/exist"), Err(Error::Io { .. })));
    }

    #[test]
    fn lsegs_own_tables_are_read_as_lseg_reads_them() {
        let table = "Idx,Ratio,Train,Val,Stuff,Name\n1,0.20,900,90,1,wall\n2,0.1,5,5,0,door;double;door\n";
        assert_eq!(read(table), ["wall", "door"]);
        assert_eq!(read("1,wall\n2,sky\n"), ["wall", "sky"]);
        let (_folder, argument) = file(table);
        assert!(parse(&argument).unwrap().note().unwrap().contains("last column"));
        let twice = file_error(format!("{table}3,0.1,1,1,0,wall;brick\n"));
        assert!(
            twice.starts_with("line 4 \"wall\" repeats \"wall\" of") && twice.contains("line 2 (of a table"),
            "{twice}"
        );
        // A word more, a number for a name, a column less: no table of LSeg's.
        for other in ["1,wall,a\n2,sky,b", "wall,1\nsky,2", "a,b\n1,2", "1,2,wall\n2,sky"] {
            assert!(file_error(other).contains("expected one label a line"), "{other}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let message = file_error("# ids\n0 person\n1 car\n");
        assert!(
            message.starts_with("line 2 \"0 person\": the lines are numbered; expected one label a line"),
            "{message}"
        );
        assert_eq!(read("\"0 person\"\n\"1 car\"\n"), ["0 person", "1 car"]);
        assert!(file_error("dog\n\"tall grass\n").starts_with("line 2 \"\"tall grass\" has an opening quote"));
    }

    #[test]
    fn a_long_label_is_refused_unread() {
        assert!(error(&format!("dog,&{}lt;", "amp;".repeat(1 << 20))).contains("4194308 bytes long"));
    }

    #[test]
    fn a_mask_can_tell_65535_labels_apart() {
        let many = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&many(65_535)).unwrap().len(), 65_535);
        assert!(error(&many(65_536)).contains("65536 labels"));
    }
}
