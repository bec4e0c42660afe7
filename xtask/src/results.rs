//! A result folder, read: as much of it as is there and can be read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::Outcome;
use crate::record::{BEGIN, END, FILE, Record, STAGE};
use crate::stages::{CLOCKS_FILE, SWEEP_FILE};

#[derive(Debug, Default)]
pub struct Results {
    pub records: Vec<Record>,
    /// Lines that are no records: a cut one, or worse.
    pub unreadable: usize,
    /// The lines of sweep.jsonl.
    pub sweep: Vec<Value>,
    /// clocks.csv.
    pub clocks: String,
}

impl Results {
    pub fn read(folder: &Path) -> Outcome<Results> {
        let path = folder.join(FILE);
        let records = text(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        // A stage that was not run leaves no file.
        let other = |name: &str| text(&folder.join(name)).unwrap_or_default();
        Ok(Results {
            sweep: other(SWEEP_FILE).lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            clocks: other(CLOCKS_FILE),
            ..Results::parse(&records)
        })
    }

    pub fn parse(text: &str) -> Results {
        let mut results = Results::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(record) => results.records.push(record),
                Err(_) => results.unreadable += 1,
            }
        }
        results
    }

    pub fn first(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.name == name)
    }

    /// What the first record of that name holds; null where there is none.
    pub fn data(&self, name: &str) -> &Value {
        self.first(name).and_then(|record| record.data.as_ref()).unwrap_or(&Value::Null)
    }

    /// What every record of that name holds.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.records.iter().filter(move |record| record.name == name).filter_map(|record| record.data.as_ref())
    }

    /// The record that ended a stage; `None` where it was not run or is not over.
    pub fn stage(&self, number: u8) -> Option<&Record> {
        self.records.iter().find(|record| record.stage == number && record.name == STAGE)
    }

    /// The steps of a stage, each with its verdict.
    pub fn steps(&self, number: u8) -> impl Iterator<Item = &Record> {
        let own = |record: &&Record| ![STAGE, BEGIN, END].contains(&record.name.as_str());
        self.records.iter().filter(move |record| record.stage == number).filter(own)
    }

    /// Whether nothing in it comes from a GPU.
    pub fn is_dry(&self) -> bool {
        self.data(BEGIN)["dry"] == true || self.data("device")["virtual"] == true
    }

    /// The day that it began, as 2026-11-24.
    pub fn day(&self) -> Option<&str> {
        let date = self.data(BEGIN)["date"].as_str()?.get(..10)?;
        let is_date = date.chars().all(|c| c.is_ascii_digit() || c == '-');
        is_date.then_some(date)
    }

    pub fn gpu(&self) -> Option<&str> {
        self.data("device")["device"].as_str()
    }
}

/// The name of a file's compressed form.
pub fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// A file, or its compressed form under the name with `.gz`.
fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let compressed = compressed(path);
    if path.is_file() {
        File::open(path)?.read_to_end(&mut bytes)?;
    } else {
        GzDecoder::new(File::open(compressed)?).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The middle one; of an even number the lower of the two, which is one that was measured.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_counted() {
        let lines = [
            r#"{"stage":0,"name":"begin","ok":true}"#,
            r#"{"stage":1,"name":"x","ok":true,"s":NaN}"#,
            r#"{"stage":2,"na"#,
        ];
        let results = Results::parse(&lines.join("\n"));
        assert_eq!((results.records.len(), results.unreadable), (1, 2));
        assert_eq!(results.data("begin"), &Value::Null);
        assert_eq!(median([3.0, f64::NAN, 1.0].into_iter()), Some(1.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
