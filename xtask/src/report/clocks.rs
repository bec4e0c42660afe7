//! The GPU's clocks while it ran, of nvidia-smi's table.

use super::number;
use super::table::Table;
use crate::results::{Results, median};

const COLUMNS: [(&str, usize); 4] =
    [("SM clock, MHz", 1), ("memory clock, MHz", 2), ("power, W", 3), ("temperature, °C", 4)];

pub fn table(results: &Results) -> Table {
    let mut table = Table::new("Clocks", &["what", "min", "median", "max"]);
    let rows: Vec<Vec<&str>> =
        results.clocks.lines().skip(1).map(|line| line.split(',').map(str::trim).collect()).collect();
    for (what, column) in COLUMNS {
        let values: Vec<f64> = rows.iter().filter_map(|row| value(row.get(column)?)).collect();
        if values.is_empty() {
            continue;
        }
        let (least, most) =
            (values.iter().copied().min_by(f64::total_cmp), values.iter().copied().max_by(f64::total_cmp));
        let cells = [least, median(values.into_iter()), most].map(|value| number(value, 0));
        table.rows.push([what.to_owned()].into_iter().chain(cells).collect());
    }
    let reasons = reasons(&rows);
    if !reasons.is_empty() {
        table.notes.push(format!("Reasons for the clock (nvidia-smi's bits: samples): {reasons}."));
    }
    table
}

/// `1980 MHz`.
fn value(cell: &str) -> Option<f64> {
    cell.split_whitespace().next()?.parse().ok().filter(|value: &f64| value.is_finite())
}

fn reasons(rows: &[Vec<&str>]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for reason in rows.iter().filter_map(|row| row.get(5)) {
        *counts.entry(reason).or_default() += 1;
    }
    counts.iter().map(|(reason, count)| format!("{reason}: {count}")).collect::<Vec<_>>().join(", ")
}
