//! Labels in a file, one a line, or a table as LSeg's own label files are.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::quotes::{self, Start};
use super::rows::{self, Row};
use super::{Label, List, MAX_LABEL_BYTES, MAX_LABELS, is_line_end, is_space, too_long, too_many};
use crate::checkpoint::printable;
use crate::file_kind::{self, Class};
use crate::{Error, Result};

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// The longest line: a label of quotes alone, each written twice, or a table's row.
const MAX_LINE_BYTES: usize = 2 * MAX_LABEL_BYTES + 2;

/// The labels of a file, empty ones among them.
pub(super) fn read(path: &Path) -> Result<List> {
    let file = File::open(path).map_err(|e| Error::io("open the labels", path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read the labels", path, e))?;
    let refused = |what: String| Error::Labels(format!("{}: {what}", path.display()));
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refused(format!("more than {} MiB; expected one label a line", MAX_BYTES >> 20)));
    }
    if let Some(found) =
        file_kind::identify(&bytes[..bytes.len().min(file_kind::HEAD)]).filter(|found| found.class == Class::LfsPointer)
    {
        return Err(refused(format!("{}; {}", found.what, found.class.remedy())));
    }
    let text = text(&bytes).map_err(refused)?;
    let lines = lines(&text);
    // One may be a table's header.
    if lines.len() > MAX_LABELS + 1 {
        return Err(too_many(lines.len()));
    }
    if let Some(Row { number, .. }) = lines.iter().find(|line| line.text.is_empty()) {
        return Err(refused(format!("line {number} is empty; remove it or write a word there")));
    }
    if let Some(Row { number, text }) = lines.iter().find(|line| line.text.len() > MAX_LINE_BYTES) {
        return Err(refused(format!("line {number} {}", too_long(text.len(), MAX_LABEL_BYTES))));
    }
    let file = Some(path.to_owned());
    if let Some(labels) = lseg_table(&lines) {
        let note = format!(
            "{}: read as LSeg reads its tables of labels: of each line the last column, to its first semicolon",
            path.display()
        );
        return Ok(List { file, labels, note: Some(note) });
    }
    Ok(List { file, labels: one_a_line(&lines).map_err(refused)?, note: None })
}

/// UTF-8, with line feeds alone for line ends of two characters.
fn text(bytes: &[u8]) -> Result<String, String> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        wrong => {
            let at = wrong.map_or_else(|e| e.valid_up_to(), |text| text.find('\0').unwrap_or_default());
            let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
            return Err(format!("line {line} is not UTF-8; save the file as UTF-8 text"));
        }
    };
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n"))
}

/// The lines, trimmed, without comments and without empty lines at the end.
pub(super) fn lines(text: &str) -> Vec<Row<'_>> {
    let lines = text.split(is_line_end).map(|line| line.trim_matches(is_space)).zip(1..);
    let lines = lines.filter(|(line, _)| !line.starts_with('#')).map(|(text, number)| Row { number, text });
    let mut lines: Vec<Row> = lines.collect();
    while lines.pop_if(|last| last.text.is_empty()).is_some() {}
    lines
}

/// What LSeg's `get_labels` makes of a table whose columns are numbers, but for the last: of that, what stands before
/// the first semicolon. A first row of words is its header.
pub(super) fn lseg_table(lines: &[Row]) -> Option<Vec<Label>> {
    fn columns<'a>(row: &Row<'a>) -> impl Iterator<Item = &'a str> {
        row.text.split(',').map(str::trim)
    }
    // Split again and again: a table of rows as lists would take many times the file.
    let last = |row: &Row| row.text.rsplit(',').next().unwrap_or_default().trim().to_owned();
    let width = columns(lines.first()?).count();
    let is_header = columns(&lines[0]).all(|column| !column.is_empty() && !is_number(column));
    let is_row = |row: &Row| {
        let name = last(row);
        columns(row).take(width - 1).all(is_number) && !is_number(&name) && !name.contains('"')
    };
    let rows = &lines[usize::from(is_header)..];
    let is_table = width > 1
        && !rows.is_empty()
        && rows.iter().all(|row| columns(row).count() == width)
        && rows.iter().all(is_row);
    let name = |row: &Row| last(row).split(';').next().unwrap_or_default().to_owned();
    is_table.then(|| rows.iter().map(|row| Label { text: name(row), number: row.number }).collect())
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) && text.parse::<f64>().is_ok()
}

fn one_a_line(lines: &[Row]) -> Result<Vec<Label>, String> {
    let mut labels = Vec::with_capacity(lines.len());
    let mut plain = Vec::with_capacity(lines.len());
    for &Row { number, text } in lines {
        let (label, text) = match quotes::start(text) {
            Start::Quoted(label, "") => (label, ""),
            _ => (text.to_owned(), text),
        };
        labels.push(Label { text: label, number });
        plain.push(Row { number, text });
    }
    if let Some((Row { number, text }, what)) = rows::written(&plain) {
        return Err(format!(
            "line {number} \"{}\": {what}; expected one label a line (a line in double quotes is one label, whatever is in \
             it)",
            printable(text)
        ));
    }
    for Row { number, text } in plain {
        let what = match quotes::start(text) {
            Start::Unclosed => "has an opening quote that nothing closes",
            Start::Quoted(..) => "goes on behind its closing quote",
            Start::Plain if quotes::closes_alone(text) => "has a closing quote that nothing opens",
            Start::Plain => continue,
        };
        return Err(format!(
            "line {number} \"{}\" {what}; double quotes go around a whole line, and a quote inside them is written twice",
            printable(text)
        ));
    }
    Ok(labels)
}
