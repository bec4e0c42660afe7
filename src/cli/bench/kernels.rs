//! `bench kernels`: every operation at the real model's shapes.

use crate::DeviceChoice;
use crate::bench::kernel_page;
use crate::bench::kernels::{self, Checked, Counted, Efforts, Kernel, Measured, Row, Subject, Time};
use crate::bench::peaks::Peaks;
use crate::bench::sweep::{self, Configuration};
use crate::device::cpu::Cpu;
use crate::device::cuda::Cuda;
use clap::Args;
use regex::Regex;
use serde::Serialize;

use super::super::batch::progress_bar;
use super::super::print::Printer;
use super::super::table::{Align, Table, grouped};
use super::super::{Failure, Outcome, message};
use super::{gpu, refuse_compiled};

/// Check and time every kernel at the real model's shapes (vitl16 at 480×480; rn101; the text tower)
///
/// All cases are first computed on the CPU and compared, then timed by CUDA events, after 0.3 s of the same work, in two states of
/// the caches. Frame-like: in a graph one behind the other, activations in the L2 cache, weights not (each pass takes another
/// copy, until the copies are three times that cache). Cold: the L2 cache read full of other bytes before each run. Shares are of
/// the GPU's ceilings at its highest clocks. A product that two families of kernels take (warps by mma.sync, on compute capability 9.0
/// warpgroups by wgmma) has a row of each, the device's choice first. On the virtual GPU there is no time: it prints what the kernels did.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only the cases whose name this regular expression finds
    #[arg(long, value_name = "REGEX")]
    case: Option<Regex>,

    /// The GPU: cuda or cuda:N
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: DeviceChoice,

    /// Timed runs of each case
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,

    /// Also time the products by cuBLAS, and by the quickest of eight algorithms of cuBLASLt with their epilogue
    #[arg(long)]
    cublas: bool,

    /// Compare with the CPU and time nothing
    #[arg(long, conflicts_with_all = ["cublas", "sweep"])]
    check_only: bool,

    /// Try every tile, and every cut of the depth, of products, convolutions and attention: each is checked, then timed
    #[arg(long, conflicts_with = "cublas")]
    sweep: bool,

    /// Print the virtual GPU's counts as a table in Markdown, as docs/kernels.md has them
    #[arg(long, conflicts_with_all = ["check_only", "cublas", "sweep"])]
    markdown: bool,

    /// Go the way of a real GPU on the virtual one, with small shapes: times mean nothing
    #[arg(long, hide = true)]
    rehearse: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast bench kernels
  lseg-fast bench kernels --case '^gemm 901' --runs 1000 --cublas
  lseg-fast bench kernels --case 'attention|conv' --sweep --json --device cuda:1";

/// What comes before the cases.
#[derive(Serialize)]
struct Heading {
    device: String,
    #[serde(rename = "virtual")]
    is_virtual: bool,
    peaks: Option<Peaks>,
    /// Which kernels products run on, in words.
    products: &'static str,
    runs: u32,
}

/// How cases are treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    CheckOnly,
    Counts,
    Times,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let cuda = gpu(arguments.device)?;
    let is_virtual = cuda.info().is_virtual;
    let rehearses = arguments.rehearse && is_virtual;
    if is_virtual && (arguments.cublas || (arguments.sweep && !rehearses)) {
        return Err(Failure::call("--cublas and --sweep take times, which the virtual GPU has none of"));
    }
    if arguments.markdown && !is_virtual {
        return Err(Failure::call("--markdown prints counts, which the virtual GPU alone makes (cargo xtask vgpu)"));
    }
    let mode = match () {
        () if arguments.check_only => Mode::CheckOnly,
        () if is_virtual && !rehearses => Mode::Counts,
        () => Mode::Times,
    };
    if mode == Mode::Times && !is_virtual {
        refuse_compiled(&cuda.info().name, cuda.modules())?;
    }
    let chosen = |subject: &Subject| arguments.case.as_ref().is_none_or(|regex| regex.is_match(subject.name()));
    let all: Vec<Subject> = if rehearses { kernels::small_subjects().collect() } else { kernels::subjects().collect() };
    let subjects: Vec<Subject> =
        all.into_iter().filter(|subject| chosen(subject) && (!arguments.sweep || subject.has_choices())).collect();
    if subjects.is_empty() {
        return Err(Failure::call("no case has such a name; without --case all are measured"));
    }
    let heading = Heading {
        device: cuda.info().name.clone(),
        is_virtual,
        peaks: (!is_virtual).then(|| Peaks::of(cuda.info())).flatten(),
        products: cuda.products(),
        runs: arguments.runs,
    };
    printer.print(&heading, |heading| match arguments.markdown {
        true => String::new(),
        false => render_heading(heading, mode, arguments.sweep),
    })?;
    let efforts = if rehearses { Efforts::rehearsal() } else { Efforts::of(arguments.runs as usize) };
    let peaks = heading.peaks;
    let mut bench = Bench { arguments, cuda, cpu: Cpu::new(None)?, efforts, peaks, failed: false };
    if arguments.sweep {
        bench.sweep(&subjects, printer)?
    } else {
        bench.measure(&subjects, mode, printer)?
    }
    Ok(if bench.failed { Outcome::SomeFailed } else { Outcome::Done })
}

struct Bench<'a> {
    arguments: &'a Arguments,
    cuda: Cuda,
    cpu: Cpu,
    efforts: Efforts,
    peaks: Option<Peaks>,
    failed: bool,
}

impl Bench<'_> {
    /// Checks all, then measures what is right: a GPU that waits for the CPU between two measurements would lower its clock.
    fn measure(&mut self, subjects: &[Subject], mode: Mode, printer: &mut Printer) -> Result<(), Failure> {
        let steps = subjects.len() * if mode == Mode::Times { 2 } else { 1 };
        let progress = progress_bar(steps, false);
        let (mut checked, mut rows) = (Vec::new(), Vec::new());
        for subject in subjects {
            progress.set_message(subject.name().to_owned());
            let outcome = kernels::check(subject, &mut self.cuda, &mut self.cpu);
            if let Some(case) = self.passed(outcome, &progress)? {
                match mode {
                    Mode::Times => checked.push(case),
                    Mode::Counts => print_all(case.counted(), &mut rows, printer, &progress)?,
                    Mode::CheckOnly => print_all(case.unmeasured(), &mut rows, printer, &progress)?,
                }
            }
            progress.inc(1);
        }
        let rivals = self.arguments.cublas && mode == Mode::Times && self.rivals(&progress);
        for case in checked {
            progress.set_message(Checked::name(&case).to_owned());
            let outcome = case.time(&mut self.cuda, &self.efforts, rivals);
            if let Some(of_case) = self.passed(outcome, &progress)? {
                self.warn_of_rivals(&of_case[0], &progress);
                print_all(of_case, &mut rows, printer, &progress)?;
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        printer.text(|| {
            if self.arguments.markdown {
                return kernel_page::HEAD.to_owned() + &rows.iter().filter_map(kernel_page::of_row).collect::<String>();
            }
            render(&rows) + &render_clock(&rows, self.peaks.as_ref())
        })
    }

    /// Whether the rivals are there. Without them this program is measured all the same.
    fn rivals(&mut self, progress: &indicatif::ProgressBar) -> bool {
        let opened = self.cuda.open_rivals();
        if let Err(reason) = &opened {
            self.failed = true;
            progress.suspend(|| message::error(reason));
        }
        opened.is_ok()
    }

    fn warn_of_rivals(&mut self, row: &Row, progress: &indicatif::ProgressBar) {
        if let Measured::Time(time) = &row.result
            && let Some(reason) = &time.rivals_failed
        {
            self.failed = true;
            progress.suspend(|| message::error(format!("{}: {reason}", row.name)));
        }
    }

    fn sweep(&mut self, subjects: &[Subject], printer: &mut Printer) -> Result<(), Failure> {
        let progress = progress_bar(subjects.len(), false);
        let mut rows = Vec::new();
        for subject in subjects {
            progress.set_message(subject.name().to_owned());
            let (cuda, cpu, failed) = (&mut self.cuda, &mut self.cpu, &mut self.failed);
            let outcome = sweep::sweep(subject, cuda, cpu, &self.efforts, &mut |configuration: Configuration| {
                *failed |= !configuration.ok;
                rows.push(printed(configuration, printer, &progress)?);
                Ok::<(), Failure>(())
            });
            self.passed(outcome, &progress)?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        printer.text(|| render_sweep(&rows))
    }

    /// What came of a case; a failure is told, and the GPU opened anew: a kernel that went wrong may have taken it.
    fn passed<T, E: std::fmt::Display>(
        &mut self,
        outcome: Result<T, E>,
        progress: &indicatif::ProgressBar,
    ) -> Result<Option<T>, Failure> {
        match outcome {
            Ok(result) => Ok(Some(result)),
            Err(reason) => {
                self.failed = true;
                progress.suspend(|| message::error(&reason));
                self.cuda = gpu(self.arguments.device)?;
                Ok(None)
            }
        }
    }
}

/// As JSON at once; as text all come in one table at the end.
fn printed<T: Serialize>(row: T, printer: &mut Printer, progress: &indicatif::ProgressBar) -> Result<T, Failure> {
    progress.suspend(|| printer.print(&row, |_| String::new()))?;
    Ok(row)
}

fn print_all(
    of_case: Vec<Row>,
    rows: &mut Vec<Row>,
    printer: &mut Printer,
    progress: &indicatif::ProgressBar,
) -> Result<(), Failure> {
    of_case.into_iter().try_for_each(|row| {
        rows.push(printed(row, printer, progress)?);
        Ok(())
    })
}

fn render_heading(heading: &Heading, mode: Mode, sweep: bool) -> String {
    let ceilings = match &heading.peaks {
        Some(peaks) => format!("; at most {:.0} TFLOP/s and {:.0} GB/s: {}", peaks.tflops, peaks.gb_per_s, peaks.basis),
        None => String::new(),
    };
    let first = match mode {
        Mode::Counts => format!("{}: counts, not times. A GPU without a GPU has no clock.\n", heading.device),
        Mode::CheckOnly => format!("{}: compared with the CPU\n", heading.device),
        Mode::Times if sweep => format!("{}, frame-like{ceilings}\n", heading.device),
        Mode::Times => format!("{}, {} runs of each{ceilings}\n", heading.device, heading.runs),
    };
    format!("{first}{}\n", heading.products)
}

fn render(rows: &[Row]) -> String {
    let counts = rows.iter().filter_map(|row| match &row.result {
        Measured::Counts(counted) => Some((row, counted)),
        _ => None,
    });
    let times = rows.iter().filter_map(|row| match &row.result {
        Measured::Time(time) => Some((row, &**time)),
        _ => None,
    });
    match rows.first().map(|row| &row.result) {
        Some(Measured::Counts(_)) => render_counts(counts),
        Some(Measured::Time(_)) => render_times(times),
        _ => render_checks(rows),
    }
}

fn render_checks(rows: &[Row]) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed([Left, Left, Left, Right], ["case", "by", "kernels", "error"]);
    for row in rows {
        let kernels = of_each(row, |kernel| kernel.name.to_owned());
        table.row([row.name.clone(), by(row), kernels, format!("{:.1e}", row.error)]);
    }
    table.render()
}

fn render_times<'a>(rows: impl Iterator<Item = (&'a Row, &'a Time)>) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Left, Left, Right, Right, Right, Right, Right, Left, Right, Right, Right, Right],
        [
            "case",
            "by",
            "kernels",
            "µs",
            "p99",
            "cold µs",
            "TFLOP/s",
            "share",
            "of",
            "of cuBLAS",
            "of Lt",
            "MHz",
            "error",
        ],
    );
    for (row, time) in rows {
        let spread = &time.frame_like;
        let share = spread.peak_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        let ratio = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us / spread.median_us));
        table.row([
            row.name.clone(),
            by(row),
            of_each(row, |kernel| match (kernel.cut.tile, kernel.cut.parts) {
                (Some(_), Some(parts)) if parts > 1 => format!("{} ÷{parts}", kernel.name),
                _ => kernel.name.to_owned(),
            }),
            format!("{:.1}", spread.median_us),
            format!("{:.1}", spread.p99_us),
            format!("{:.1}", time.cold.median_us),
            format!("{:.1}", spread.tflops),
            share,
            spread.peak.unwrap_or("-").to_owned(),
            ratio(time.cublas_us),
            ratio(time.cublaslt_us),
            format!("{:.0}", time.sm_mhz),
            format!("{:.1e}", row.error),
        ]);
    }
    table.render()
}

/// The ceiling at the clock that was seen, beside that at the highest, which shares are of.
fn render_clock(rows: &[Row], peaks: Option<&Peaks>) -> String {
    let mut seen: Vec<f64> = rows
        .iter()
        .filter_map(|row| match &row.result {
            Measured::Time(time) => Some(time.sm_mhz),
            _ => None,
        })
        .collect();
    let Some(peaks) = peaks.filter(|_| !seen.is_empty()) else { return String::new() };
    let median = kernels::quantiles(&mut seen).0;
    format!(
        "the multiprocessors' clock just after, median: {median:.0} MHz of {:.0}, at which the tensor cores' ceiling is {:.0} of {:.0} \
         TFLOP/s\n",
        peaks.mhz,
        peaks.tflops * median / peaks.mhz,
        peaks.tflops
    )
}

fn render_sweep(rows: &[Configuration]) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Left, Left, Right, Right, Right, Left],
        ["case", "by", "kernel", "parts", "µs", "error", ""],
    );
    for row in rows {
        table.row([
            row.name.clone(),
            row.family.unwrap_or("-").to_owned(),
            row.kernel.to_owned(),
            row.cut.parts.map_or_else(|| "-".to_owned(), |parts| parts.to_string()),
            row.us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}")),
            format!("{:.1e}", row.error),
            if !row.ok {
                "WRONG"
            } else if row.chosen {
                "chosen"
            } else {
                ""
            }
            .to_owned(),
        ]);
    }
    table.render()
}

fn render_counts<'a>(rows: impl Iterator<Item = (&'a Row, &'a Counted)>) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Left, Left, Right, Right, Right, Right, Right, Right, Right, Right],
        [
            "case",
            "by",
            "kernels",
            "registers",
            "shared KiB",
            "instructions",
            "tensor GFLOP",
            "conflicts",
            "coalesced",
            "bytes of least",
            "error",
        ],
    );
    for (row, counted) in rows {
        table.row([
            row.name.clone(),
            by(row),
            of_each(row, |kernel| kernel.name.to_owned()),
            of_each(row, |kernel| kernel.registers.to_string()),
            of_each(row, |kernel| (kernel.shared_bytes >> 10).to_string()),
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

/// The family of kernels.
fn by(row: &Row) -> String {
    let family = row.family.unwrap_or("-");
    if row.chosen { family.to_owned() } else { format!("{family}, not chosen") }
}

/// One thing of each launch.
fn of_each(row: &Row, what: fn(&Kernel) -> String) -> String {
    row.kernels.iter().map(what).collect::<Vec<_>>().join(", ")
}
