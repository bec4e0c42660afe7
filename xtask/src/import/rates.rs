//! What the model of a kernel's time needs to know of a GPU, from what the microbenchmarks measured.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::Outcome;
use crate::record::BEGIN;
use crate::results::{Results, median};
use crate::stages::MICRO;

/// The table that `bench frame` predicts with.
pub const BOARDS: &str = "src/bench/boards.json";
/// Names of boards, and the word in a GPU's name that tells them.
const NAMES: [(&str, &str); 4] = [("h100", "H100"), ("h200", "H200"), ("rtx4090", "4090"), ("orin", "Orin")];

/// GPUs have launches that overlap from this compute capability on.
const OVERLAPPING: (u32, u32) = (9, 0);

/// One GPU.
#[derive(Debug, PartialEq, Serialize)]
pub struct Rates {
    pub name: String,
    pub multiprocessors: u64,
    pub ghz: f64,
    /// Of mma.sync with float32 sums, a clock and multiprocessor.
    pub tensor_flop: f64,
    pub l2_gb_per_s: f64,
    pub memory_gb_per_s: f64,
    pub launch_us: f64,
    /// Where the next kernel may begin before the one before has ended; none of a GPU that has no such launches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlapped_launch_us: Option<f64>,
    pub fill_clocks: f64,
    pub source: String,
}

/// An entry of the table. Numbers stay as they were written.
#[derive(Debug, Deserialize, Serialize)]
struct Board {
    name: String,
    capability: (u32, u32),
    multiprocessors: Number,
    ghz: Number,
    /// Until it is measured, the architecture's is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_flop: Option<Number>,
    l2_gb_per_s: Number,
    memory_gb_per_s: Number,
    launch_us: Number,
    overlapped_launch_us: Number,
    fill_clocks: Number,
    source: String,
}

impl Rates {
    /// All of them, or which one was not measured.
    pub fn of(results: &Results) -> Outcome<Rates> {
        let device = results.data("device");
        let gpu = device["device"].as_str().unwrap_or_default();
        let known = NAMES.iter().find(|(_, word)| gpu.contains(word));
        let (name, _) = known.ok_or_else(|| format!("the predictions know no board like {gpu:?}"))?;
        let multiprocessors = device["multiprocessors"].as_u64().filter(|count| *count > 0);
        let multiprocessors = multiprocessors.ok_or("the number of multiprocessors is not in the record \"device\"")?;
        let probes = Probes(results);
        // The kernels' products are mma.sync: the clock under that load counts.
        let ghz = probes.clock("peak", mma)? / 1e3;
        let flop = 1e12 * probes.best("peak", mma)? / (multiprocessors as f64 * 1e9 * ghz);
        let date = results.data(BEGIN)["date"].as_str().unwrap_or("an unknown day");
        Ok(Rates {
            name: (*name).to_owned(),
            multiprocessors,
            ghz: rounded(ghz, 3),
            tensor_flop: rounded(flop, 0),
            l2_gb_per_s: rounded(probes.best("l2", |at| ["ld", "cp.async"].iter().any(|how| at["how"] == *how))?, 0),
            memory_gb_per_s: rounded(probes.best("hbm", |at| at["what"] == "read")?, 0),
            launch_us: rounded(probes.best("edge", plain_edge)?, 2),
            overlapped_launch_us: probes.best("edge", overlapping_edge).ok().map(|us| rounded(us, 2)),
            // The first data comes, the last goes.
            fill_clocks: rounded(2.0 * probes.parameter("latency", "clocks", |at| at["where"] == "HBM")?, 0),
            source: format!("measured by micro.cu on {gpu}, {date}"),
        })
    }

    pub fn json(&self) -> Outcome<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|e| e.to_string())
    }

    /// Puts them into the table's entry of that name; what a run does not measure stays.
    pub fn replace(&self, table: &Path) -> Outcome {
        let at = |reason: String| format!("{}: {reason}", table.display());
        let text = fs::read_to_string(table).map_err(|e| at(e.to_string()))?;
        let mut boards: Vec<Board> = serde_json::from_str(&text).map_err(|e| at(e.to_string()))?;
        let names = boards.iter().map(|board| board.name.clone()).collect::<Vec<_>>().join(", ");
        let board = boards.iter_mut().find(|board| board.name == self.name);
        let board = board.ok_or_else(|| at(format!("it has no entry {:?}, only {names}; add one first", self.name)))?;
        self.fill(board)?;
        let text = serde_json::to_string_pretty(&boards).map_err(|e| at(e.to_string()))?;
        fs::write(table, text + "\n").map_err(|e| at(e.to_string()))
    }

    fn fill(&self, board: &mut Board) -> Outcome {
        let number = |value: f64| Number::from_f64(value).ok_or(format!("{value} is no number"));
        board.multiprocessors = self.multiprocessors.into();
        board.ghz = number(self.ghz)?;
        board.tensor_flop = Some(number(self.tensor_flop)?);
        board.l2_gb_per_s = number(self.l2_gb_per_s)?;
        board.memory_gb_per_s = number(self.memory_gb_per_s)?;
        board.launch_us = number(self.launch_us)?;
        let is_of_older_gpu = board.capability < OVERLAPPING;
        if let Some(us) = self.overlapped_launch_us.or(is_of_older_gpu.then_some(self.launch_us)) {
            board.overlapped_launch_us = number(us)?;
        }
        board.fill_clocks = number(self.fill_clocks)?;
        board.source = self.source.clone();
        Ok(())
    }
}

fn mma(at: &Value) -> bool {
    at["instruction"].as_str().is_some_and(|name| name.starts_with("mma.sync") && name.ends_with("f16"))
}

/// Between kernels as ours are: of 100 KB of shared memory, all of one carve-out.
fn plain_edge(at: &Value) -> bool {
    is_edge(at, "plain")
}

/// The same, each of which lets the next one begin at once, which then waits.
fn overlapping_edge(at: &Value) -> bool {
    is_edge(at, "early")
}

fn is_edge(at: &Value, mode: &str) -> bool {
    at["mode"] == mode && at["shared_kb_a"] == 100 && at["shared_kb_b"] == 100
}

/// The microbenchmarks' lines.
struct Probes<'a>(&'a Results);

impl<'a> Probes<'a> {
    fn lines(&self, probe: &'a str, is_wanted: impl Fn(&Value) -> bool) -> impl Iterator<Item = &'a Value> {
        self.0.all(MICRO).filter(move |line| line["probe"] == probe && is_wanted(&line["params"]))
    }

    /// The largest median.
    fn best(&self, probe: &'a str, is_wanted: impl Fn(&Value) -> bool) -> Outcome<f64> {
        let medians = self.lines(probe, is_wanted).filter_map(|line| line["median"].as_f64());
        measured(probe, "median", medians.max_by(f64::total_cmp))
    }

    fn clock(&self, probe: &'a str, is_wanted: impl Fn(&Value) -> bool) -> Outcome<f64> {
        let clocks = self.lines(probe, is_wanted).filter_map(|line| line["sm_mhz"].as_f64());
        measured(probe, "sm_mhz", median(clocks))
    }

    fn parameter(&self, probe: &'a str, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Outcome<f64> {
        let values = self.lines(probe, is_wanted).filter_map(|line| line["params"][name].as_f64());
        measured(probe, name, median(values))
    }
}

fn measured(probe: &str, what: &str, value: Option<f64>) -> Outcome<f64> {
    value.filter(|value| value.is_finite() && *value > 0.0).ok_or(format!("{probe} gave no usable {what}"))
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}
