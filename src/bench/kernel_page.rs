//! Rows of docs/kernels.md: what the kernels did for a case, as the virtual GPU counted it. What depends on neither schedule nor
//! machine, so that a test can hold the page.

use super::kernels::{Counted, Kernel, Measured, Row, Subject};
use crate::device::cuda::Launched;
use crate::ops::cases::Case;

/// The table's head, in Markdown.
pub const HEAD: &str = "\
| at | kernels | registers | shared KiB | tensor GFLOP | conflicts | coalesced | memory |
|---|---|---:|---:|---:|---:|---:|---:|
";

/// The line of a row; `None` where nothing was counted.
pub fn of_row(row: &Row) -> Option<String> {
    match &row.result {
        Measured::Counts(counted) => Some(line(&row.name, &row.kernels, counted)),
        _ => None,
    }
}

/// The line of a case, of the launches that computed it.
pub fn of_case(case: &'static Case, launches: &[Launched]) -> String {
    let kernels: Vec<Kernel> = launches.iter().map(Kernel::of).collect();
    line(Subject::new(case).name(), &kernels, &Counted::of(launches, case.least_bytes()))
}

fn line(name: &str, kernels: &[Kernel], counted: &Counted) -> String {
    let each = |what: fn(&Kernel) -> String| kernels.iter().map(what).collect::<Vec<_>>().join(", ");
    format!(
        "| {name} | {} | {} | {} | {} | {} | {:.0} % | {:.2} |\n",
        each(|kernel| format!("`{}`", kernel.name)),
        each(|kernel| kernel.registers.to_string()),
        each(|kernel| or_dash(kernel.shared_bytes > 0, (kernel.shared_bytes >> 10).to_string())),
        or_dash(counted.mma_flop > 0, format!("{:.2}", counted.mma_flop as f64 / 1e9)),
        counted.bank_conflicts,
        100.0 * counted.coalesced,
        counted.touched_bytes as f64 / counted.least_bytes.max(1) as f64,
    )
}

fn or_dash(is_there: bool, value: String) -> String {
    if is_there { value } else { "–".to_owned() }
}
