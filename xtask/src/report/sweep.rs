//! Which tile is the fastest, and which one is taken.

use serde_json::Value;

use super::number;
use super::table::Table;
use crate::results::Results;

pub fn table(results: &Results) -> Table {
    let header = ["case", "taken", "µs", "fastest", "µs", "taken / fastest", "tried", "wrong"];
    let mut table = Table::new("Sweep of tiles", &header);
    let mut names: Vec<&str> = Vec::new();
    for name in results.sweep.iter().filter_map(|line| line["name"].as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let lines: Vec<&Value> = results.sweep.iter().filter(|line| line["name"] == name).collect();
        table.rows.push(row(name, &lines));
    }
    table
}

fn row(name: &str, lines: &[&Value]) -> Vec<String> {
    let right = || lines.iter().filter(|line| line["ok"] != false);
    let taken = right().find(|line| line["chosen"] == true);
    let fastest =
        right().filter(|line| us(line).is_some()).min_by(|a, b| us(a).unwrap_or(0.0).total_cmp(&us(b).unwrap_or(0.0)));
    let (a, b) = (taken.and_then(|line| us(line)), fastest.and_then(|line| us(line)));
    vec![
        name.to_owned(),
        taken.map_or("–".to_owned(), |line| configuration(line)),
        number(a, 2),
        fastest.map_or("–".to_owned(), |line| configuration(line)),
        number(b, 2),
        number(a.zip(b).map(|(a, b)| a / b), 2),
        lines.len().to_string(),
        (lines.len() - right().count()).to_string(),
    ]
}

fn us(line: &Value) -> Option<f64> {
    line["us"].as_f64().filter(|us| us.is_finite() && *us > 0.0)
}

fn configuration(line: &Value) -> String {
    let parts =
        line["parts"].as_u64().filter(|parts| *parts > 1).map(|parts| format!(" / {parts}")).unwrap_or_default();
    format!("{}{parts}", super::words(&line["kernel"]))
}
