//! Which machine, which driver, which commit, which day.

use std::collections::BTreeMap;

use serde_json::Value;

use super::table::Table;
use super::words;
use crate::record::{BEGIN, END};
use crate::results::Results;

pub fn table(results: &Results) -> Table {
    let mut table = Table::new("The machine", &["what", "is"]);
    let mut row = |what: &str, is: String| {
        if is != "–" {
            table.rows.push(vec![what.to_owned(), is]);
        }
    };
    let (begin, machine, device) = (results.data(BEGIN), results.data("machine"), results.data("device"));
    row("date", words(&begin["date"]));
    row("commit", words(&begin["commit"]).replace('\n', "; "));
    row("GPU", words(&device["device"]));
    row("compute capability", words(&device["capability"]));
    row("driver", driver(results));
    row("driver's file", words(&device["driver_file"]));
    row("kernels run as", images(&device["modules"]));
    row("products", words(&device["products"]).replace("products: ", ""));
    row("launches", words(&device["overlap"]));
    row("nvidia-smi", last_line(&results.data("nvidia-smi")["says"]));
    row("nvcc", last_line(&results.data("nvcc")["says"]));
    row("PyTorch", torch(results.data("torch")));
    row("cuBLAS", words(&results.data("libraries")["cublas"]));
    row("processor", processor(machine));
    row("glibc", words(&machine["glibc"]));
    row("kernel", words(&machine["kernel"]));
    row("verdict", verdict(results));
    table
}

/// In one word, and why.
pub fn verdict(results: &Results) -> String {
    let end = results.data(END);
    let reasons = |name: &str| {
        let list = end[name].as_array().map(|list| list.iter().map(words).collect::<Vec<_>>()).unwrap_or_default();
        list.join("; ")
    };
    match end["verdict"].as_str() {
        Some("failed") => format!("failed: {}", reasons("failed")),
        Some(verdict) => verdict.to_owned(),
        None => "cut off before its end".to_owned(),
    }
}

fn driver(results: &Results) -> String {
    let device = results.data("device");
    match device["driver"].as_u64() {
        Some(version) => format!("for CUDA {}.{}", version / 1000, version % 1000 / 10),
        None => "–".to_owned(),
    }
}

/// Which code of ours the driver took, and in how many modules.
fn images(modules: &Value) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for module in modules.as_array().into_iter().flatten() {
        *counts.entry(words(&module["image"])).or_default() += 1;
    }
    let each = counts.iter().map(|(image, count)| format!("{image} ({count} modules)")).collect::<Vec<_>>();
    if each.is_empty() { "–".to_owned() } else { each.join(", ") }
}

fn last_line(says: &Value) -> String {
    let line = says.as_array().and_then(|lines| lines.last());
    line.map_or("–".to_owned(), words)
}

fn torch(data: &Value) -> String {
    match data["torch"].as_str() {
        Some(version) => {
            format!("{version}, CUDA {}, Python {}", words(&data["cuda"]), words(&data["python"]))
        }
        None => "–".to_owned(),
    }
}

fn processor(machine: &Value) -> String {
    match machine["processor"].as_str() {
        Some(name) => format!("{name}, {} threads", machine["processors"]),
        None => "–".to_owned(),
    }
}
