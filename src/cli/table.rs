//! Aligned columns of text.
//!
//! By hand, not by comfy-table: it frames tables and fits them to a terminal; here columns are aligned, and cells, which may hold a
//! stranger's text, are made printable and cut.

use crate::printable::printable;

/// Characters of a cell: what is longer is cut. (A label may have any length, and no line here is as long.)
const LONGEST: usize = 500;

/// Which edge a column's cells share.
#[derive(Clone, Copy)]
pub enum Align {
    Left,
    Right,
}

/// Cells in rows; each column as wide as its widest cell.
pub struct Table<const COLUMNS: usize> {
    align: [Align; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub fn new(align: [Align; COLUMNS]) -> Self {
        Table { align, rows: Vec::new() }
    }

    pub fn headed(align: [Align; COLUMNS], head: [&str; COLUMNS]) -> Self {
        Table { align, rows: vec![head.map(str::to_owned)] }
    }

    pub fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| shown(&cell)));
    }

    /// The lines, indented by two spaces, columns two spaces apart, nothing trailing.
    pub fn render(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; COLUMNS] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(self.align).zip(widths) {
                line += &match align {
                    Align::Left => format!("  {cell:<width$}"),
                    Align::Right => format!("  {cell:>width$}"),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// A cell's text, whatever it came from: on one line, and not endless.
fn shown(cell: &str) -> String {
    match cell.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", printable(&cell[..end])),
        None => printable(cell).into_owned(),
    }
}

/// A number of bytes in MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A count with its thousands apart: `49,408`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::headed([Align::Right, Align::Left, Align::Left], ["share", "mask", "label"]);
        table.row(["100.0 %".into(), "0".into(), "dérevo".into()]);
        table.row(["<0.1 %".into(), "12".into(), String::new()]);
        assert_eq!(table.render(), "    share  mask  label\n  100.0 %  0     dérevo\n   <0.1 %  12\n");
    }

    #[test]
    fn a_cell_stays_in_its_line() {
        let mut table = Table::new([Align::Left, Align::Left]);
        table.row(["a\nerror: b".into(), "草".repeat(10_000)]);
        assert_eq!(table.render(), format!("  a\\nerror: b  {}…\n", "草".repeat(LONGEST)));
    }

    #[test]
    fn thousands_are_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (49_408, "49,408"), (123_456_789, "123,456,789")]
        {
            assert_eq!(grouped(count), text);
        }
    }
}
