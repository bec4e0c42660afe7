//! Labels as they are typed behind `--labels`.

use super::quotes::{self, Start};
use super::rows::{self, Row};
use super::{List, file, is_line_end, is_space, numbered};
use crate::checkpoint::printable;
use crate::{Error, Result};

/// A label, and whether it stood in quotes.
struct Typed {
    text: String,
    quoted: bool,
}

/// The labels between commas and line ends. A line end beside a comma is white space.
pub(super) fn split(argument: &str) -> Result<List> {
    let text = without_comments(argument.strip_prefix('\u{FEFF}').unwrap_or(argument));
    let mut rest = text.trim_matches(is_space);
    let several_lines = rest.contains(is_line_end);
    if several_lines && file::lseg_table(&file::lines(rest)).is_some() {
        return Err(Error::Labels("the labels are lines of a table; give the file itself, --labels @FILE".to_owned()));
    }
    let mut labels = Vec::new();
    while !(rest.is_empty() && labels.is_empty()) {
        let (label, behind) = first(rest, labels.len() + 1)?;
        labels.push(label);
        let next = behind.trim_start_matches(is_space);
        rest = match next.strip_prefix(',') {
            Some(next) => next.trim_start_matches(is_space),
            None if next.is_empty() => break,
            None => {
                let blank = |c| is_space(c) && !is_line_end(c);
                let line_end = behind.trim_start_matches(blank);
                line_end.strip_prefix(is_line_end).unwrap_or(line_end).trim_start_matches(blank)
            }
        };
    }
    refuse_single_quotes(&labels)?;
    let plain = labels.iter().zip(1..);
    let plain: Vec<Row> =
        plain.map(|(label, number)| Row { number, text: if label.quoted { "" } else { &label.text } }).collect();
    let kind = if several_lines { rows::listed } else { rows::typed };
    if let Some((Row { number, text }, what)) = kind(&plain) {
        return Err(Error::Labels(format!(
            "label {number} \"{}\": {what}; part labels with commas, --labels \"dog,tall grass,other\" (double quotes \
             around a label keep it as it is)",
            printable(text)
        )));
    }
    Ok(numbered(labels.into_iter().map(|label| label.text)))
}

/// The text with line feeds alone for line ends, where there are several lines without those that start with `#`.
fn without_comments(argument: &str) -> String {
    let text = argument.replace("\r\n", "\n");
    if !text.contains(is_line_end) {
        return text;
    }
    let lines = text.split(is_line_end).filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// The label at the text's start, which has number `number`, and what follows it.
fn first(text: &str, number: usize) -> Result<(Typed, &str)> {
    let refused = |what: &str| {
        let begin = text.split(is_line_end).next().unwrap_or_default();
        Err(Error::Labels(format!(
            "label {number} at \"{}\" {what}; double quotes go around a whole label, such as \"tall grass, dry\", and a \
             quote inside them is written twice",
            printable(begin)
        )))
    };
    let end = |text: &str| text.find(|c| c == ',' || is_line_end(c)).unwrap_or(text.len());
    match quotes::start(text) {
        Start::Unclosed => refused("has an opening quote that nothing closes"),
        Start::Quoted(label, behind) if behind[..end(behind)].trim().is_empty() => {
            Ok((Typed { text: label, quoted: true }, behind))
        }
        Start::Quoted(..) => refused("goes on behind its closing quote"),
        Start::Plain => {
            let (label, behind) = text.split_at(end(text));
            let label = label.trim();
            if quotes::closes_alone(label) {
                return refused("has a closing quote that nothing opens");
            }
            Ok((Typed { text: label.to_owned(), quoted: false }, behind))
        }
    }
}

/// Windows' command line leaves single quotes where they are, and nowhere do they keep a label's commas.
fn refuse_single_quotes(labels: &[Typed]) -> Result<()> {
    let plain = || labels.iter().enumerate().filter(|(_, label)| !label.quoted);
    let Some((first, open)) = plain().find(|(_, label)| quotes::opens_single(&label.text)) else { return Ok(()) };
    let Some((last, _)) = plain().skip_while(|(i, _)| *i < first).find(|(_, label)| quotes::closes_single(&label.text))
    else {
        return Ok(());
    };
    Err(Error::Labels(format!(
        "label {} \"{}\" begins with a single quote that label {} closes; single quotes hold nothing together here, \
         nor on Windows: write double quotes, --labels \"dog,cat\"",
        first + 1,
        printable(&open.text),
        last + 1
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(argument: &str) -> Vec<String> {
        split(argument).unwrap().texts().map(str::to_owned).collect()
    }

    fn refusal(argument: &str) -> String {
        split(argument).unwrap_err().to_string()
    }

    #[test]
    fn commas_and_line_ends_part_labels() {
        assert_eq!(labels("dog, tall  grass ,other"), ["dog", "tall  grass", "other"]);
        assert_eq!(labels("#1,é,a@b"), ["#1", "é", "a@b"]);
        for end in ["\n", "\r\n", "\r", "\u{B}", "\u{C}", "\u{85}", "\u{2028}", "\u{2029}", "\u{1E}"] {
            assert_eq!(labels(&["dog", " tree", "sky", "", ""].join(end)), ["dog", "tree", "sky"], "{end:?}");
        }
        assert_eq!(labels("# animals\ndog,\n  cat\n# more, of them\n,tree"), ["dog", "cat", "tree"]);
        assert_eq!(labels("dog\n\ncat"), ["dog", "", "cat"]);
        assert_eq!(labels("a,,b,"), ["a", "", "b", ""]);
        assert_eq!(labels("\u{FEFF}dog,cat"), ["dog", "cat"]);
        assert_eq!(labels(" \n "), [""; 0]);
    }

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(labels("\"tall grass, dry\",dog"), ["tall grass, dry", "dog"]);
        assert_eq!(
            labels("dog , \"tall grass, dry\" , “a, b”\n\"c, d\"\ncat"),
            ["dog", "tall grass, dry", "a, b", "c, d", "cat"]
        );
        assert_eq!(
            labels("5\" nail board,pipe 2\",a \"big\" dog,\"a \"\"b\"\"\""),
            ["5\" nail board", "pipe 2\"", "a \"big\" dog", "a \"b\""]
        );
    }

    #[test]
    fn quotes_alone_are_refused_with_their_place() {
        assert!(refusal("dog,\"tall grass").starts_with("label 2 at \"\"tall grass\" has an opening quote"));
        assert!(refusal("dog,tall grass, dry\"").starts_with("label 3 at \"dry\"\" has a closing quote"));
        assert!(refusal("\"big\" dog,cat").starts_with("label 1 at \"\"big\" dog,cat\" goes on behind"));
    }

    #[test]
    fn single_quotes_are_refused_and_apostrophes_pass() {
        assert!(refusal("'dog,cat'").starts_with("label 1 \"'dog\" begins with a single quote that label 2 closes"));
        assert!(refusal("cat,'dog'").contains("label 2"));
        assert!(refusal("‘dog,cat’").contains("label 2"));
        assert_eq!(labels("dog's,'90s car,dogs'"), ["dog's", "'90s car", "dogs'"]);
    }

    #[test]
    fn other_lists_are_refused() {
        assert!(refusal("dog;cat;tree").contains("semicolon"));
        assert!(refusal("dog|cat").contains("|"));
        assert!(refusal("['dog', 'cat']").starts_with("label 1 \"['dog'\""));
        assert!(refusal("1,wall\n2,sky").contains("table"));
        assert!(refusal("0 person\n1 car").starts_with("label 1 \"0 person\": the lines are numbered"));
        assert!(refusal("dog\n- cat").contains("bullet"));
        assert_eq!(labels("fish &amp; chips,\"dog;cat\""), ["fish &amp; chips", "dog;cat"]);
        assert_eq!(labels("1 person,2 people"), ["1 person", "2 people"]);
    }
}
