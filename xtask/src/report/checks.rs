//! Verdicts: of the stages, of the checks, of compute-sanitizer.

use serde_json::Value;

use super::table::Table;
use super::{number, words};
use crate::record::Record;
use crate::results::Results;
use crate::stages::{FRAME, names};

pub fn stages(results: &Results) -> Table {
    let mut table = Table::new("Stages", &["stage", "result", "s", "why"]);
    for (stage, name) in names() {
        let Some(record) = results.stage(stage) else { continue };
        let missing: Vec<&str> =
            results.steps(stage).filter(|step| step.missing).map(|step| step.name.as_str()).collect();
        let why = match (&record.why, missing.is_empty()) {
            (Some(why), _) => why.clone(),
            (None, true) => String::new(),
            (None, false) => format!("missing: {}", missing.join(", ")),
        };
        table.rows.push(vec![format!("{stage} {name}"), verdict(record), number(record.s, 1), why]);
    }
    table
}

pub fn correctness(results: &Results) -> Table {
    let mut table = Table::new("Correctness", &["check", "result", "found", "why"]);
    let agreement = results.steps(4).filter(|step| step.name == "agreement");
    for step in results.steps(2).chain(agreement) {
        let found = step.data.as_ref().map(found).unwrap_or_default();
        table.rows.push(vec![step.name.clone(), verdict(step), found, step.why.clone().unwrap_or_default()]);
    }
    let outcome = results.steps(8).next();
    if let Some(step) = outcome {
        let what =
            if step.ok { "its engine is lost, a new one in the same process works" } else { "not as the test expects" };
        table.notes.push(format!("A faulting kernel (alone, last, no part of the verdict): {what}."));
    }
    table
}

pub fn sanitizer(results: &Results) -> Table {
    let mut table = Table::new("compute-sanitizer", &["tool", "errors", "result", "why"]);
    for step in results.steps(3) {
        let errors = step.data.as_ref().map_or("–".to_owned(), |data| words(&data["errors"]));
        table.rows.push(vec![step.name.clone(), errors, verdict(step), step.why.clone().unwrap_or_default()]);
    }
    table
}

/// Steps that failed, lines of data aside.
pub fn failures(results: &Results) -> Vec<String> {
    let failed = |record: &&Record| !record.ok && !record.missing && record.name != FRAME;
    let steps = names().flat_map(|(stage, _)| results.steps(stage)).filter(failed);
    steps.map(|step| format!("{} {}: {}", step.stage, step.name, step.why.as_deref().unwrap_or("failed"))).collect()
}

fn verdict(record: &Record) -> String {
    let word = if record.missing {
        "missing"
    } else if record.ok {
        "ok"
    } else {
        "FAILED"
    };
    word.to_owned()
}

/// A check's numbers, whichever it gives.
fn found(data: &Value) -> String {
    let mut parts = Vec::new();
    let counts = ["cases", "comparisons", "kernels", "networks"].map(|name| (name, name));
    for (name, word) in [("passed", "tests")].into_iter().chain(counts) {
        if let Some(count) = data[name].as_u64() {
            parts.push(format!("{count} {word}"));
        }
    }
    if let Some(failures) = data["failures"].as_array().filter(|failures| !failures.is_empty()) {
        let names: Vec<String> = failures.iter().map(|failure| words(&failure["name"])).collect();
        parts.push(format!("failed: {}", names.join(", ")));
    }
    if let Some(error) = data["error"].as_f64() {
        let share = |name: &str| number(data[name].as_f64().map(|share| 100.0 * share), 3);
        parts.push(format!("largest error of the scores {:.3} % of their range", 100.0 * error));
        parts.push(format!(
            "masks equal in {} %, where decided in {} %",
            share("agreement"),
            share("agreement_decided")
        ));
        let half = &data["pytorch_half"]["error"];
        parts.push(format!("PyTorch's in half {} %", number(half.as_f64().map(|error| 100.0 * error), 3)));
    }
    parts.join(", ")
}
