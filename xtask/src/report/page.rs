//! The pages: one beside a run's files, and docs/gpu.md of all runs.

use std::fmt::Write as _;

use super::{about, checks, clocks, frames, kernels, micro, sweep};
use crate::results::Results;

const HEADER: &str = "# On a GPU

Written by `cargo xtask import`, every number from the files of [benches/runs](../benches/runs); not to be edited.
How a run is made: [benches/gpu](../benches/gpu/README.md).

";
const NO_RUN: &str = "\
**Nothing has run on silicon yet.** No measurement of a GPU exists: what performance.md says of speed on one is a model's
prediction, and correctness has been seen on the virtual GPU alone.
";

/// A run, in tables.
pub fn body(results: &Results) -> String {
    let tables = [
        about::table(results),
        checks::stages(results),
        checks::correctness(results),
        checks::sanitizer(results),
        frames::table(results),
        kernels::table(results),
        kernels::torch(results),
        sweep::table(results),
        micro::table(results),
        clocks::table(results),
    ];
    let mut text = tables.iter().map(|table| table.markdown()).collect::<Vec<_>>().join("\n");
    if results.unreadable > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{} lines of result.jsonl could not be read.\n", results.unreadable);
    }
    text
}

/// docs/gpu.md: of all runs, oldest first, each with its folder's name.
pub fn page(runs: &[(String, Results)]) -> String {
    let mut text = HEADER.to_owned();
    let Some((name, newest)) = runs.last() else {
        text += NO_RUN;
        return text;
    };
    text += "| run | GPU | verdict |\n| --- | --- | --- |\n";
    for (name, results) in runs.iter().rev() {
        let _ = writeln!(
            text,
            "| [{name}](../benches/runs/{name}/gpu.md) | {} | {} |",
            results.gpu().unwrap_or("–").replace('|', " "),
            about::verdict(results).replace(['|', '\n'], " ")
        );
    }
    let _ = write!(text, "\nThe newest, {name}, whole:\n\n{}", body(newest));
    text
}
