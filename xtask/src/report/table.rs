//! A table, as Markdown or in columns.

pub struct Table {
    pub title: &'static str,
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// Sentences below it.
    pub notes: Vec<String>,
}

impl Table {
    pub fn new(title: &'static str, header: &[&'static str]) -> Table {
        Table { title, header: header.to_vec(), rows: Vec::new(), notes: Vec::new() }
    }

    /// A section; without rows it says so.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        if self.rows.is_empty() {
            text += "Nothing was recorded.\n";
        } else {
            text += &line(self.header.iter().map(|word| word.to_string()));
            text += &line(self.header.iter().map(|_| "---".to_owned()));
            text.extend(self.rows.iter().map(|row| line(row.iter().map(|cell| cell_of(cell)))));
        }
        for note in &self.notes {
            text += &format!("\n{}\n", cell_of(note));
        }
        text
    }

    /// At most `most` lines, at most `width` characters each; nothing without rows.
    pub fn text(&self, most: usize, width: usize) -> Vec<String> {
        if self.rows.is_empty() || most < 2 {
            return Vec::new();
        }
        let header = self.header.iter().map(|word| word.to_string()).collect();
        let rows = [header].into_iter().chain(self.rows.iter().cloned()).collect::<Vec<Vec<String>>>();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let lines = rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            line.trim_end().chars().take(width).collect::<String>()
        });
        let mut lines: Vec<String> = lines.collect();
        if lines.len() > most {
            let left_out = lines.len() - (most - 1);
            lines.truncate(most - 1);
            lines.push(format!("… {left_out} more"));
        }
        lines
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// What comes from a machine's tools may hold anything: in a page it stays one cell of one line.
fn cell_of(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_a_cell() {
        let mut table = Table::new("T", &["a", "b"]);
        table.rows.push(vec!["x|y\n<b>".into(), "2".into()]);
        assert_eq!(table.markdown(), "## T\n\n| a | b |\n| --- | --- |\n| x\\|y &lt;b> | 2 |\n");
        assert_eq!(table.text(9, 80), ["a        b", "x|y\n<b>  2"]);
    }

    #[test]
    fn a_long_table_is_cut_for_the_terminal() {
        let mut table = Table::new("T", &["a"]);
        table.rows = (0..9).map(|i| vec![i.to_string()]).collect();
        assert_eq!(table.text(3, 80), ["a", "0", "… 8 more"]);
    }
}
