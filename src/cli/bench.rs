//! `bench`: the CUDA device's kernels, measured.

use clap::{Args, Subcommand};
use lseg_fast::bench::kernels::{self, Counted, Measured, Row, Time};
use lseg_fast::bench::peaks::Peaks;
use lseg_fast::device::cpu::Cpu;
use lseg_fast::device::cuda::Cuda;
use lseg_fast::engine::DeviceChoice;
use regex::Regex;
use serde::Serialize;

use super::batch::progress_bar;
use super::message;
use super::print::Printer;
use super::table::{Align, Table, grouped};
use super::{Failure, Outcome};

/// Measure the CUDA device
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Kernels(KernelArguments),
}

/// Check and time every kernel at the real model's shapes (vitl16 at 480×480; rn101; the text tower)
///
/// Each case is first computed on the CPU and compared. Then it runs --runs times on an empty L2 cache, timed by CUDA
/// events. Shares are of the GPU's ceilings as its clocks give them. On the virtual GPU there is no time: it prints what
/// the kernels did.
#[derive(Args)]
#[command(after_help = KERNEL_EXAMPLES)]
struct KernelArguments {
    /// Only the cases whose name this regular expression finds
    #[arg(long, value_name = "REGEX")]
    case: Option<Regex>,

    /// The GPU: cuda or cuda:N
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: DeviceChoice,

    /// Timed runs of each case
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast bench kernels
  lseg-fast bench kernels --case '^gemm' --json";

const KERNEL_EXAMPLES: &str = "\
Examples:
  lseg-fast bench kernels
  lseg-fast bench kernels --case '^gemm 901' --runs 1000
  lseg-fast bench kernels --case 'attention|conv' --json --device cuda:1";

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    match &arguments.what {
        What::Kernels(arguments) => measure_kernels(arguments, printer),
    }
}

/// The GPU that was chosen.
fn gpu(device: DeviceChoice) -> Result<Cuda, Failure> {
    match device {
        DeviceChoice::Cuda(ordinal) => Ok(Cuda::new(ordinal.unwrap_or(0))?),
        _ => Err(Failure::call("bench measures a GPU: --device takes cuda or cuda:N")),
    }
}

/// Everything, as JSON.
#[derive(Serialize)]
struct Report {
    device: String,
    #[serde(rename = "virtual")]
    is_virtual: bool,
    peaks: Option<Peaks>,
    runs: u32,
    cases: Vec<Row>,
}

fn measure_kernels(arguments: &KernelArguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let mut cuda = gpu(arguments.device)?;
    let is_virtual = cuda.info().is_virtual;
    cuda.record_launches();
    let mut cpu = Cpu::new(None)?;
    let chosen = |name: &str| arguments.case.as_ref().is_none_or(|regex| regex.is_match(name));
    let mut cases = Vec::new();
    let mut failed = false;
    let subjects: Vec<_> = kernels::subjects().filter(|subject| chosen(subject.name())).collect();
    let progress = progress_bar(subjects.len(), false);
    for subject in &subjects {
        progress.set_message(subject.name().to_owned());
        match kernels::measure(subject, &mut cuda, &mut cpu, arguments.runs as usize) {
            Ok(row) => cases.push(row),
            Err(reason) => {
                failed = true;
                progress.suspend(|| message::error(&reason));
                // A kernel that went wrong may have taken the device with it.
                drop(cuda);
                cuda = gpu(arguments.device)?;
                cuda.record_launches();
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if cases.is_empty() && !failed {
        return Err(Failure::call("no case has such a name; without --case all are measured"));
    }
    let report = Report {
        device: cuda.info().name.clone(),
        is_virtual,
        peaks: (!is_virtual).then(|| Peaks::of(cuda.info())).flatten(),
        runs: arguments.runs,
        cases,
    };
    printer.print(&report, render)?;
    Ok(if failed { Outcome::SomeFailed } else { Outcome::Done })
}

fn render(report: &Report) -> String {
    let names: Vec<(&Row, &Measured)> = report.cases.iter().map(|row| (row, &row.result)).collect();
    if report.is_virtual {
        let rows = names.iter().filter_map(|(row, result)| match result {
            Measured::Counts(counted) => Some((*row, counted)),
            Measured::Time(_) => None,
        });
        return format!(
            "{}: counts, not times. A GPU without a GPU has no clock.\n{}",
            report.device,
            render_counts(rows)
        );
    }
    let rows = names.iter().filter_map(|(row, result)| match result {
        Measured::Time(time) => Some((*row, time)),
        Measured::Counts(_) => None,
    });
    let ceilings = match &report.peaks {
        Some(peaks) => {
            format!("at most {:.0} TFLOP/s and {:.0} GB/s: {}", peaks.tflops, peaks.gb_per_s, peaks.basis)
        }
        None => "its ceilings are not known".to_owned(),
    };
    format!("{}, {} runs of each on an empty L2 cache; {ceilings}\n{}", report.device, report.runs, render_times(rows))
}

fn render_times<'a>(rows: impl Iterator<Item = (&'a Row, &'a Time)>) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Right, Right, Right, Right, Right, Left, Right, Right],
        ["case", "µs", "p99", "TFLOP/s", "GB/s", "share", "of", "of cuBLAS", "error"],
    );
    for (row, time) in rows {
        let share = time.peak_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        let ratio = time.cublas_us.map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us / time.median_us));
        table.row([
            row.name.clone(),
            format!("{:.1}", time.median_us),
            format!("{:.1}", time.p99_us),
            format!("{:.1}", time.tflops),
            format!("{:.0}", time.gb_per_s),
            share,
            time.peak.unwrap_or("-").to_owned(),
            ratio,
            format!("{:.1e}", row.error),
        ]);
    }
    table.render()
}

fn render_counts<'a>(rows: impl Iterator<Item = (&'a Row, &'a Counted)>) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Left, Right, Right, Right, Right, Right, Right],
        ["case", "kernels", "instructions", "tensor GFLOP", "conflicts", "coalesced", "bytes of least", "error"],
    );
    for (row, counted) in rows {
        table.row([
            row.name.clone(),
            row.kernels.join(", "),
            grouped(counted.issued),
            format!("{:.3}", counted.mma_flop as f64 / 1e9),
            grouped(counted.bank_conflicts),
            format!("{:.1} %", 100.0 * counted.coalesced),
            format!("{:.2}", counted.touched_bytes as f64 / counted.least_bytes.max(1) as f64),
            format!("{:.1e}", row.error),
        ]);
    }
    table.render()
}
