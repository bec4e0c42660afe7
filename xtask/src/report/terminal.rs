//! The last lines that a run prints, for people.

use super::table::Table;
use super::{about, checks, frames, kernels, micro};
use crate::results::Results;

/// Lines in all.
pub const LINES: usize = 60;
const WIDTH: usize = 150;

/// `folder` is where the results are.
pub fn terminal(results: &Results, folder: &str) -> String {
    let mut lines = vec![format!("== {} ==", results.gpu().unwrap_or("no GPU"))];
    add(&mut lines, &checks::stages(results), 11);
    let failures = checks::failures(results);
    lines.extend(failures.iter().take(6).map(|failure| short(&format!("failed: {failure}"))));
    add(&mut lines, &narrow(frames::table(results), &[0, 1, 2, 3, 5, 6, 8, 10, 12]), 9);
    add(&mut lines, &narrow(kernels::table(results), &[0, 1, 2, 8, 10, 12, 13, 14, 15]), 14);
    let left = (LINES - 2).saturating_sub(lines.len());
    add(&mut lines, &micro::short(results), left);
    lines.truncate(LINES - 2);
    lines.push(short(&format!("verdict: {}", about::verdict(results))));
    lines.push(short(&format!("results: {folder}")));
    lines.join("\n")
}

fn add(lines: &mut Vec<String>, table: &Table, most: usize) {
    lines.extend(table.text(most, WIDTH).into_iter().map(|line| line.replace(char::is_control, " ")));
}

fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WIDTH).collect()
}

/// Some columns of it.
fn narrow(table: Table, columns: &[usize]) -> Table {
    let pick = |row: &Vec<String>| columns.iter().filter_map(|column| row.get(*column).cloned()).collect();
    Table {
        header: columns.iter().filter_map(|column| table.header.get(*column).copied()).collect(),
        rows: table.rows.iter().map(pick).collect(),
        ..table
    }
}
