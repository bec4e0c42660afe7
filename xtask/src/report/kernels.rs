//! Kernels at the real model's shapes, beside the vendor's libraries and PyTorch's operations.

use serde_json::Value;

use super::table::Table;
use super::{number, words};
use crate::results::Results;
use crate::stages::{KERNEL, TORCH_RATE};

const NOTE: &str = "\
Error: of the difference from the CPU over the result, in norms. Frame-like: activations warm in the L2 cache, weights from \
memory. Cold: nothing in the L2 cache. cuBLASLt: with our epilogue where it has one, the best of its own algorithms. `ours / \
best`: frame-like over the faster library, so 1.00 and less is as fast or faster. By: the family of kernels; of a product that two \
families take, the second row is what the device does not choose. Cluster: blocks that share columns × parts.";

pub fn table(results: &Results) -> Table {
    let header = [
        "case",
        "by",
        "kernel",
        "image",
        "tile × parts",
        "cluster",
        "grid",
        "error",
        "frame-like µs",
        "p99",
        "TFLOP/s",
        "of the peak",
        "cold µs",
        "cuBLAS µs",
        "cuBLASLt µs",
        "ours / best",
    ];
    let mut table = Table::new("Kernels against cuBLAS and cuBLASLt", &header);
    let cases: Vec<&Value> = results.all(KERNEL).filter(|line| line["kernels"].is_array()).collect();
    table.rows = cases.iter().map(|case| row(case)).collect();
    table.notes.push(NOTE.to_owned());
    table
}

fn row(case: &Value) -> Vec<String> {
    let kernel = &case["kernels"][0];
    let (like, cold) = (&case["frame_like"], &case["cold"]);
    let ours = like["median_us"].as_f64();
    vec![
        words(&case["name"]),
        by(case),
        words(&kernel["name"]),
        words(&kernel["image"]),
        tile(kernel),
        numbers(&kernel["cluster"]),
        numbers(&kernel["grid"]),
        case["error"].as_f64().map_or("–".to_owned(), |error| format!("{error:.0e}")),
        number(ours, 2),
        number(like["p99_us"].as_f64(), 2),
        number(like["tflops"].as_f64(), 1),
        share(like),
        number(cold["median_us"].as_f64(), 2),
        number(case["cublas_us"].as_f64(), 2),
        number(case["cublaslt_us"].as_f64(), 2),
        number(ours.zip(library(case)).map(|(ours, library)| ours / library), 2),
    ]
}

/// "warps, not chosen"
fn by(case: &Value) -> String {
    let family = words(&case["family"]);
    if case["chosen"] == false { format!("{family}, not chosen") } else { family }
}

fn tile(kernel: &Value) -> String {
    let parts = kernel["parts"].as_u64().unwrap_or(1);
    match (kernel["tile"].is_array(), parts) {
        (false, _) => "–".to_owned(),
        (true, 1) => numbers(&kernel["tile"]),
        (true, parts) => format!("{} / {parts}", numbers(&kernel["tile"])),
    }
}

fn numbers(list: &Value) -> String {
    let list = list.as_array().map(|list| list.iter().map(Value::to_string).collect::<Vec<_>>()).unwrap_or_default();
    if list.is_empty() { "–".to_owned() } else { list.join("×") }
}

fn share(times: &Value) -> String {
    match times["peak_share"].as_f64().filter(|share| share.is_finite()) {
        Some(share) => format!("{:.0} % {}", 100.0 * share, words(&times["peak"])),
        None => "–".to_owned(),
    }
}

fn library(case: &Value) -> Option<f64> {
    let times = [&case["cublas_us"], &case["cublaslt_us"]].into_iter().filter_map(Value::as_f64);
    times.filter(|time| time.is_finite() && *time > 0.0).min_by(f64::total_cmp)
}

/// PyTorch's operations.
pub fn torch(results: &Results) -> Table {
    let mut table = Table::new("PyTorch's operations", &["operation", "by", "µs"]);
    for rate in results.all(TORCH_RATE).filter(|rate| rate["name"].is_string()) {
        let us = match rate["absent"].as_str() {
            Some(why) => format!("absent: {why}"),
            None => number(rate["us"].as_f64(), 2),
        };
        table.rows.push(vec![words(&rate["name"]), words(&rate["backend"]), us]);
    }
    table
}
