//! The counts are a public format: docs/counts.md lists it, name by name.

use serde_json::Value;
use vgpu_cuda::counts::Counts;

const DOCUMENT: &str = include_str!("../../docs/counts.md");

/// The names in the first column of a table.
fn documented(heading: &str) -> Vec<&str> {
    let table = DOCUMENT.split_once(heading).expect("the table").1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn the_document_lists_every_count_and_no_other() {
    let counts = serde_json::to_value(Counts::default()).expect("JSON");
    for (heading, value) in [("| `counts.` |", &counts), ("| `counts.instructions.` |", &counts["instructions"])] {
        let (mut listed, mut found) = (documented(heading), names(value));
        listed.sort();
        found.sort();
        assert_eq!(listed, found, "{heading}");
    }
}
