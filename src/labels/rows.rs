//! What is no list of labels: tables, numbered lists, lists of other languages. A label in double quotes is never looked
//! at: that is the way out for one that only seems to be a row.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

/// A label that was not in quotes (else empty), and its line or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub number: usize,
    pub text: &'a str,
}

type Found<'a> = Option<(Row<'a>, &'static str)>;

/// `1: wall`, `1. wall`, `(1) wall`, `1,wall`, but neither `3.5 mm` nor `4-door car`.
static MARKED_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:[(\[]\d+[)\]]|\d+\s*[:),;|=\t]|\d+\.(?:\s|\p{L}))"));

/// `1 wall`
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d+)\s+\S"));

/// `wall: 1`, `wall = 1`, `wall 0.25`
static MARKED_VALUE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\S\s*[:=]\s*\d+$|\S\s+\d*\.\d+$"));

/// `wall 120 120 120`, `wall #787878`
static COLUMNS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|\s)-?\d[\d.]*\s+-?\d[\d.]*(?:\s|$)|\s#[0-9A-Fa-f]{6}\b"));

/// `wall 1`
static VALUE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(.*\S)\s+(\d+)$"));

/// `n01440764 tench`
static WORDNET_ID: LazyLock<Regex> = LazyLock::new(|| pattern(r"^n\d{8}\b"));

/// `labels = [`, `labels = "`, `names: {`
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^[\w.]+\s*(?:=\s*["'\[({]|:\s*[\[({])"#));

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant pattern")
}

/// Whether labels that were typed are another kind of list; with the label at which it shows.
pub(super) fn typed<'a>(rows: &[Row<'a>]) -> Found<'a> {
    brackets(rows).or_else(|| separators(rows))
}

/// Whether the labels of several lines, split at their commas, are another kind of list.
pub(super) fn listed<'a>(rows: &[Row<'a>]) -> Found<'a> {
    markup(rows)
        .or_else(|| any(rows, |text| WORDNET_ID.is_match(text), "a WordNet id is no word"))
        .or_else(|| any(rows, is_bullet, "a list's bullet is no part of a label"))
        .or_else(|| typed(rows))
        .or_else(|| numbers(rows))
}

/// Whether a file's lines are no list of one label a line; with the line at which it shows.
pub(super) fn written<'a>(rows: &[Row<'a>]) -> Found<'a> {
    listed(rows)
        .or_else(|| any(rows, in_single_quotes, "single quotes are no part of a label"))
        .or_else(|| commas(rows))
        .or_else(|| any(rows, |text| text.ends_with(','), "a comma at a line's end is no part of a label"))
        .or_else(|| columns(rows))
}

fn any<'a>(rows: &[Row<'a>], is: impl Fn(&str) -> bool, what: &'static str) -> Found<'a> {
    rows.iter().find(|row| is(row.text)).map(|row| (*row, what))
}

/// At the first row that `is`, where at least `percent` of all are.
fn share<'a>(rows: &[Row<'a>], percent: usize, is: impl Fn(&str) -> bool, what: &'static str) -> Found<'a> {
    let mut those = rows.iter().filter(|row| is(row.text));
    let first = those.next()?;
    (100 * (1 + those.count()) >= percent * rows.len()).then_some((*first, what))
}

/// Of labels, nearly all.
const NEARLY_ALL: usize = 80;

fn markup<'a>(rows: &[Row<'a>]) -> Found<'a> {
    let first = rows.first()?;
    let text = first.text.to_ascii_lowercase();
    let is_page = ["<!doctype", "<html", "<?xml"].iter().any(|start| text.starts_with(start));
    let what = "HTML or XML is no list of labels";
    if is_page { Some((*first, what)) } else { share(rows, NEARLY_ALL, |text| text.contains("</"), what) }
}

/// A list or a dict of Python, JSON, YAML. (`[unlabeled]` and `(other)` are labels.)
fn brackets<'a>(rows: &[Row<'a>]) -> Found<'a> {
    let (first, last) = (rows.first()?, rows.last()?);
    let what = "this is a list as programs write it, in brackets or quotes";
    if ASSIGNMENT.is_match(first.text) {
        return Some((*first, what));
    }
    let (open, close) =
        [('[', ']'), ('{', '}'), ('(', ')')].into_iter().find(|(open, _)| first.text.starts_with(*open))?;
    let closed_there = first.text.matches(open).count() <= first.text.matches(close).count();
    let several = !closed_there || first.text.contains(['"', '\'', ',']);
    (several && last.text.trim_end_matches([',', ';']).ends_with(close)).then_some((*first, what))
}

fn is_bullet(text: &str) -> bool {
    let mut chars = text.chars();
    matches!(chars.next(), Some('-' | '*' | '+' | '•' | '–')) && chars.next().is_some_and(char::is_whitespace)
}

fn in_single_quotes(text: &str) -> bool {
    let text = text.trim_end_matches(',');
    super::quotes::opens_single(text) && super::quotes::closes_single(text) && text.chars().nth(2).is_some()
}

fn numbers<'a>(rows: &[Row<'a>]) -> Found<'a> {
    let what = "the lines are numbered";
    if let Some(found) = share(rows, 50, |text| MARKED_NUMBER.is_match(text), what) {
        return Some(found);
    }
    if let Some(found) = share(rows, NEARLY_ALL, |text| MARKED_VALUE.is_match(text), "the lines end with numbers") {
        return Some(found);
    }
    if let Some(found) = share(rows, NEARLY_ALL, |text| COLUMNS.is_match(text), "the lines have columns of numbers")
        && rows.len() > 1
    {
        return Some(found);
    }
    // One label may begin with a number, and some with the same; "route 66" ends with one.
    let numbers: Vec<&str> = rows.iter().filter_map(|row| Some(NUMBER.captures(row.text)?.get(1)?.as_str())).collect();
    let different = numbers.iter().collect::<HashSet<_>>().len();
    if different >= 2 && different == numbers.len() {
        return share(rows, NEARLY_ALL, |text| NUMBER.is_match(text), what);
    }
    let ends = rows.iter().filter_map(|row| {
        let found = VALUE.captures(row.text)?;
        Some((found.get(1)?.as_str(), found.get(2)?.as_str().parse::<u64>().ok()?))
    });
    let ends: Vec<(&str, u64)> = ends.collect();
    let running = ends.windows(2).all(|pair| pair[0].1.checked_add(1) == Some(pair[1].1) && pair[0].0 != pair[1].0);
    if ends.len() >= 2 && running {
        return share(rows, NEARLY_ALL, |text| VALUE.is_match(text), "the lines end with numbers");
    }
    None
}

/// Characters that part columns and stand in no label.
fn separators<'a>(rows: &[Row<'a>]) -> Found<'a> {
    share(rows, NEARLY_ALL, |text| text.contains('\t'), "parted by tabs, as a table's rows")
        .or_else(|| share(rows, NEARLY_ALL, |text| text.contains('|'), "parted by |, as a table's rows"))
        .or_else(|| share(rows, NEARLY_ALL, has_semicolon, "parted by semicolons, as a table's rows"))
}

/// A semicolon that does not end a character reference (`&amp;`).
fn has_semicolon(text: &str) -> bool {
    text.match_indices(';').any(|(at, _)| {
        let before = &text[..at];
        let name = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '#');
        name.len() == before.len() || !name.ends_with('&')
    })
}

/// Of labels some have commas; of rows nearly all have the same number.
fn commas<'a>(rows: &[Row<'a>]) -> Found<'a> {
    let mut rows_with = HashMap::new();
    for row in rows {
        *rows_with.entry(commas_outside_quotes(row.text)).or_insert(0) += 1;
    }
    rows_with.remove(&0);
    let (number, _) = rows_with.into_iter().max_by_key(|(_, rows)| *rows)?;
    let has = |text: &str| commas_outside_quotes(text) == number;
    share(rows, NEARLY_ALL, has, "parted by commas, as a table's rows")
}

fn commas_outside_quotes(text: &str) -> usize {
    let mut quoted = false;
    let outside = text.chars().filter(|&c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    outside.count()
}

/// Columns that are aligned by spaces.
fn columns<'a>(rows: &[Row<'a>]) -> Found<'a> {
    let found = share(rows, NEARLY_ALL, |text| text.contains("  "), "parted by spaces, as a table's rows");
    found.filter(|_| rows.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, line: usize, word: &str) {
        let found = written(&rows(text));
        let (row, what) = found.unwrap_or_else(|| panic!("passes: {text}"));
        assert!(row.number == line && what.contains(word), "{text}: {row:?} {what}");
    }

    fn rows(text: &str) -> Vec<Row<'_>> {
        text.lines().zip(1..).map(|(text, number)| Row { number, text: text.trim() }).collect()
    }

    #[test]
    fn tables_are_told_by_what_parts_their_columns() {
        refused("Idx,Name\n1,wall;door\ntree,sky", 1, "comma");
        refused("wall,building\nsky,sea", 1, "comma");
        refused("dog,cat,tree", 1, "comma");
        refused("\"a\",\"b, c\"\n\"d\",\"e\"", 1, "comma");
        refused("a;b", 1, "semicolon");
        refused("wall\t1\nsky\t2\nsea\t3\nroad\t4\nthe end", 1, "tab");
        refused("| wall | 1 |\n| sky | 2 |", 1, "|");
        refused("wall    grey\nsky     blue", 1, "spaces");
        refused("wall 120 120 120\nsky 6 230 230", 1, "columns of numbers");
        refused("wall #787878\nsky #06E6E6", 1, "columns of numbers");
        refused("dog,\ncat,\ntree", 1, "comma");
        refused("names\na, b\nc, d\ne, f\ng, h", 2, "comma");
    }

    #[test]
    fn numbered_lists_are_told() {
        refused("0 person\n1 car", 1, "numbered");
        refused("7 road\n8 sidewalk\n11 building\n0 other", 1, "numbered");
        refused("1: wall\n2: sky", 1, "numbered");
        refused("3. dog", 1, "numbered");
        refused("(1) dog\n(2) cat", 1, "numbered");
        refused("names:\n0: person\n1: car", 2, "numbered");
        refused("wall: 0\nsky: 1", 1, "end with numbers");
        refused("person 0\ncar 1", 1, "end with numbers");
        refused("wall 0.25\nsky 0.125", 1, "end with numbers");
    }

    #[test]
    fn lists_of_other_languages_are_told() {
        refused("[\"dog\", \"cat\"]", 1, "brackets");
        refused("[\n  dog,\n  cat\n]", 1, "brackets");
        refused("{\"0\": \"dog\"}", 1, "brackets");
        refused("labels = ['dog',\n 'cat']", 1, "brackets");
        refused("names: [dog, cat]", 1, "brackets");
        refused("labels = \"dog\"", 1, "brackets");
        refused("dog\n- cat", 2, "bullet");
        refused("* dog\n* cat", 1, "bullet");
        refused("'dog',\n'cat'", 1, "single quotes");
        refused("n01440764 tench\nn01443537 goldfish", 1, "WordNet");
        refused("<!DOCTYPE html>\n<p>dog", 1, "HTML");
        refused("<li>dog</li>\n<li>cat</li>", 1, "HTML");
    }

    #[test]
    fn labels_pass() {
        for text in [
            "dog\ngrass, tall\ncat",
            "grass, tall\ndog",
            "tench, Tinca tinca\ngoldfish\nshark, white shark, man-eater",
            "3 wheeler\n3 seater",
            "5 star hotel",
            "3.5 mm jack\n4-door car",
            "route 66\nboeing 747\ntree",
            "route 66\nboeing 747",
            "24 7 shop\ntree",
            "type 1\ntype 2",
            "[unlabeled]\n(other)\ndog (small)",
            "caf&eacute;\nfish &amp; chips",
            "tall  grass",
            "dog's\n'90s car",
            "-5 degrees\nc#\nnight",
        ] {
            assert_eq!(written(&rows(text)), None, "{text}");
        }
    }
}
