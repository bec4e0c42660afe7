//! The race: a frame, ours and PyTorch's.

use serde_json::Value;

use super::table::Table;
use super::{number, words};
use crate::results::{Results, median};
use crate::stages::{FRAME, OURS};

const NOTE: &str = "\
GPU: by events around the work on the GPU. Host: photo in the caller's memory to result in the caller's memory, by the host's \
clock (embeddings stay on the GPU). p50: median of the rounds' medians; p99 and max: the worst round's. `of PyTorch's best`: GPU \
p50 over that of PyTorch's fastest form (host p50 where a side has no GPU time). `right`: share of the mask's pixels as in \
PyTorch's float32, or mean cosine of the embeddings.";

/// All rounds of one contender.
struct Row<'a> {
    who: &'a str,
    what: &'a str,
    rounds: Vec<&'a Value>,
    absent: Option<&'a str>,
}

pub fn table(results: &Results) -> Table {
    let header = [
        "who",
        "what",
        "GPU p50 ms",
        "p99",
        "max",
        "host p50 ms",
        "p99",
        "max",
        "of PyTorch's best",
        "frames",
        "right",
        "form",
        "SM MHz",
    ];
    let mut table = Table::new("A frame against PyTorch", &header);
    let rows = rows(results);
    for row in &rows {
        table.rows.push(row.cells(best_of_theirs(&rows, row.what)));
    }
    table.notes.push(NOTE.to_owned());
    table
}

/// In the order in which they first answered; ours first.
fn rows(results: &Results) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for answer in results.all(FRAME) {
        let (Some(who), Some(what)) = (answer["who"].as_str(), answer["what"].as_str()) else { continue };
        let place = rows.iter().position(|row| row.who == who && row.what == what).unwrap_or_else(|| {
            rows.push(Row { who, what, rounds: Vec::new(), absent: None });
            rows.len() - 1
        });
        match answer["absent"].as_str() {
            Some(why) => rows[place].absent = Some(why),
            None => rows[place].rounds.push(answer),
        }
    }
    rows.sort_by_key(|row| (row.what != "mask", row.who != OURS, row.who));
    rows
}

impl Row<'_> {
    fn cells(&self, best: Option<f64>) -> Vec<String> {
        let mut cells = vec![self.who.to_owned(), self.what.to_owned()];
        for clock in ["gpu", "host"] {
            cells.push(number(self.median(clock), 3));
            cells.extend(["p99", "max"].map(|name| number(self.worst(clock, name), 3)));
        }
        cells.push(number(best.and_then(|best| Some(self.time()? / best)), 2));
        cells.push(self.rounds.iter().filter_map(|round| round["n"].as_u64()).sum::<u64>().to_string());
        let last = self.rounds.last();
        cells.push(number(last.and_then(|round| round["agrees"].as_f64()), 4));
        cells.push(match self.absent {
            Some(why) => format!("absent: {why}"),
            None => last.map_or("–".to_owned(), |round| words(&round["form"])),
        });
        cells.push(number(median(self.rounds.iter().filter_map(|round| round["sm_mhz"].as_f64())), 0));
        cells
    }

    fn median(&self, clock: &str) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round[clock]["p50"].as_f64()))
    }

    fn worst(&self, clock: &str, name: &str) -> Option<f64> {
        let values = self.rounds.iter().filter_map(|round| round[clock][name].as_f64());
        values.filter(|value| value.is_finite()).max_by(f64::total_cmp)
    }

    /// What it is compared by.
    fn time(&self) -> Option<f64> {
        self.median("gpu").or_else(|| self.median("host")).filter(|time| *time > 0.0)
    }
}

fn best_of_theirs(rows: &[Row], what: &str) -> Option<f64> {
    let theirs = rows.iter().filter(|row| row.who != OURS && row.what == what);
    theirs.filter_map(Row::time).min_by(f64::total_cmp)
}
