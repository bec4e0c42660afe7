//! What the microbenchmarks measured.

use serde_json::Value;

use super::table::Table;
use super::{number, words};
use crate::results::Results;
use crate::stages::MICRO;

pub fn table(results: &Results) -> Table {
    let mut table = Table::new("Microbenchmarks", &["probe", "of", "median", "min", "max", "unit", "SM MHz"]);
    for line in results.all(MICRO) {
        let unit = match (line["absent"].as_str(), line["error"].as_str()) {
            (Some(why), _) => format!("absent: {why}"),
            (None, Some(why)) => format!("error: {why}"),
            (None, None) => words(&line["unit"]),
        };
        let value = |name: &str| number(line[name].as_f64(), 3);
        table.rows.push(vec![
            words(&line["probe"]),
            parameters(&line["params"]),
            value("median"),
            value("min"),
            value("max"),
            unit,
            number(line["sm_mhz"].as_f64(), 0),
        ]);
    }
    table
}

fn parameters(parameters: &Value) -> String {
    let Some(parameters) = parameters.as_object() else { return String::new() };
    parameters.iter().map(|(name, value)| format!("{name} {}", words(value))).collect::<Vec<_>>().join(", ")
}

/// Lines of a probe that the terminal shows.
const SHOWN: usize = 3;
/// Characters of its parameters.
const WIDTH: usize = 60;

/// The first lines of each probe that measured something.
pub fn short(results: &Results) -> Table {
    let whole = table(results);
    let mut short = Table { rows: Vec::new(), ..Table::new(whole.title, &whole.header) };
    for mut row in whole.rows.into_iter().filter(|row| row[2] != "–") {
        if short.rows.iter().filter(|shown| shown[0] == row[0]).count() < SHOWN {
            row[1] = row[1].chars().take(WIDTH).collect();
            short.rows.push(row);
        }
    }
    short
}
