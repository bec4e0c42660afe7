//! `bench`: the CUDA device's kernels, measured.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};
use lseg_fast::bench::frame::{self, Prediction, Times};
use lseg_fast::bench::kernels::{self, Counted, Kernel, Measured, Row, Time};
use lseg_fast::bench::peaks::Peaks;
use lseg_fast::bench::prediction::{ASSUMPTIONS, BOARDS, Board};
use lseg_fast::device::cpu::Cpu;
use lseg_fast::device::cuda::Cuda;
use lseg_fast::labels::MAX_LABELS;
use lseg_fast::model::config::Config;
use lseg_fast::{DeviceChoice, Engine, Frame, Options, Size};
use regex::Regex;
use serde::Serialize;

use super::batch::progress_bar;
use super::common::read_config;
use super::message;
use super::plan::without_photo;
use super::print::Printer;
use super::table::{Align, Table, grouped, mib};
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
    Frame(FrameArguments),
}

/// Time a whole frame: photo on the host to mask on the host, then its stages
///
/// On the virtual GPU there is no time: it counts what a frame does as an H100, an RTX 4090 and an AGX Orin, and predicts from that
/// by a model. A large model takes minutes there.
#[derive(Args)]
#[command(after_help = FRAME_EXAMPLES)]
struct FrameArguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint [default: the small demo model in this program]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// The network's size: HEIGHTxWIDTH, or long:L for a square photo [default: the model's]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// How many labels
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_LABELS as i64))]
    labels_count: u32,

    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: DeviceChoice,

    /// Timed frames
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,

    /// Count on the virtual GPU as it is, and predict for this board alone
    #[arg(long, value_name = "BOARD", hide = true)]
    board: Option<String>,
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
  lseg-fast bench kernels --case '^gemm' --json
  lseg-fast bench frame --model lseg.safetensors --size 480x480";

const FRAME_EXAMPLES: &str = "\
Examples:
  lseg-fast bench frame --model lseg.safetensors --size 480x480
  lseg-fast bench frame --model lseg.safetensors --labels-count 150 --runs 1000 --json
  lseg-fast bench frame --device cpu --runs 5";

const KERNEL_EXAMPLES: &str = "\
Examples:
  lseg-fast bench kernels
  lseg-fast bench kernels --case '^gemm 901' --runs 1000
  lseg-fast bench kernels --case 'attention|conv' --json --device cuda:1";

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    match &arguments.what {
        What::Kernels(arguments) => measure_kernels(arguments, printer),
        What::Frame(arguments) => match &arguments.board {
            Some(board) => predict_board(arguments, board, printer),
            None => measure_frame(arguments, printer),
        },
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
        [Left, Left, Right, Right, Right, Right, Right, Right, Right, Right],
        [
            "case",
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

/// One thing of each launch.
fn of_each(row: &Row, what: fn(&Kernel) -> String) -> String {
    row.kernels.iter().map(what).collect::<Vec<_>>().join(", ")
}

#[derive(Serialize)]
struct FrameReport {
    device: String,
    preset: String,
    height: usize,
    width: usize,
    labels: u32,
    #[serde(flatten)]
    result: FrameResult,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum FrameResult {
    Measured(Vec<Times>),
    Predicted { assumptions: &'static str, boards: Vec<Prediction> },
}

fn measure_frame(arguments: &FrameArguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let (checkpoint, config) = read_config(arguments.model.as_deref())?;
    let (height, width) = without_photo(size(arguments, &config)?)?;
    let is_virtual = match arguments.device {
        DeviceChoice::Cuda(ordinal) => Cuda::new(ordinal.unwrap_or(0))?.info().is_virtual,
        _ => false,
    };
    let (device, result) = if is_virtual {
        let boards = BOARDS.iter().map(|board| in_child(board.name)).collect::<Result<_, _>>()?;
        ("the virtual GPU".to_owned(), FrameResult::Predicted { assumptions: ASSUMPTIONS, boards })
    } else {
        let options = Options { device: arguments.device, threads: None };
        let mut engine = Engine::from_checkpoint(&checkpoint, &options)?;
        engine.set_size(Size::Exact { height, width });
        let labels: Vec<String> = (0..arguments.labels_count).map(|i| format!("label {i}")).collect();
        engine.set_labels(&labels)?;
        let rgb: Vec<u8> = (0..height * width * 3).map(|i| (i * 31 % 251) as u8).collect();
        let times = frame::measure(&mut engine, &Frame { width, height, rgb: &rgb }, arguments.runs as usize)?;
        (engine.device().to_owned(), FrameResult::Measured(times))
    };
    let report = FrameReport { device, preset: config.preset, height, width, labels: arguments.labels_count, result };
    printer.print(&report, render_frame)?;
    Ok(Outcome::Done)
}

fn size(arguments: &FrameArguments, config: &Config) -> Result<Size, Failure> {
    match arguments.size {
        Some(size) => Ok(size),
        None => Ok(config.default_size.parse()?),
    }
}

/// The same call once more, on the virtual GPU as another board: the kind is read once a process.
fn in_child(board: &str) -> Result<Prediction, Failure> {
    let failed = |why: String| Failure::Input(format!("counting a frame as {board}: {why}"));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--json");
    let mut child = Command::new(program);
    child.args(arguments).args(["--json", "--board", board]).env("VGPU_DEVICE", board);
    let output = child.stderr(Stdio::inherit()).output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("it ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))
}

fn predict_board(arguments: &FrameArguments, name: &str, printer: &mut Printer) -> Result<Outcome, Failure> {
    let (checkpoint, config) = read_config(arguments.model.as_deref())?;
    let network = without_photo(size(arguments, &config)?)?;
    let board = Board::named(name).ok_or_else(|| Failure::call(format!("there is no board {name:?}")))?;
    let mut cuda = gpu(arguments.device)?;
    if !cuda.info().is_virtual {
        return Err(Failure::call("--board predicts from the counts of the virtual GPU, which this is not"));
    }
    let prediction = frame::predict(&checkpoint, &mut cuda, &board, network, arguments.labels_count as usize)?;
    printer.print(&prediction, render_prediction)?;
    Ok(Outcome::Done)
}

fn render_frame(report: &FrameReport) -> String {
    let FrameReport { device, preset, height, width, labels, result } = report;
    let head = format!("{preset} at {height}x{width} with {labels} labels, mask only, on {device}\n");
    match result {
        FrameResult::Measured(rows) => {
            let mut table = Table::headed([Align::Left, Align::Right, Align::Right], ["part", "ms", "p99"]);
            for Times { name, median_ms, p99_ms } in rows {
                table.row([name.clone(), format!("{median_ms:.3}"), format!("{p99_ms:.3}")]);
            }
            head + &table.render()
        }
        FrameResult::Predicted { assumptions, boards } => {
            let boards: Vec<String> = boards.iter().map(render_prediction).collect();
            format!("{head}{assumptions}\n\n{}", boards.join("\n"))
        }
    }
}

/// Most of what a frame costs.
const COSTLIEST: usize = 5;

fn render_prediction(prediction: &Prediction) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Right, Right, Right, Right, Right, Right],
        ["kernel", "launches", "µs", "instructions", "tensor GFLOP", "conflicts", "memory"],
    );
    for cost in &prediction.kernels {
        table.row([
            cost.kernel.clone(),
            cost.launches.to_string(),
            format!("{:.0}", cost.microseconds),
            grouped(cost.instructions),
            format!("{:.1}", cost.mma_flop as f64 / 1e9),
            grouped(cost.bank_conflicts),
            mib(cost.touched_bytes),
        ]);
    }
    let costliest: Vec<&str> = prediction.kernels.iter().take(COSTLIEST).map(|cost| cost.kernel.as_str()).collect();
    format!(
        "{}: {:.2} ms predicted, {} launches, arena {}; most of it in {}\n{}",
        prediction.gpu,
        prediction.milliseconds,
        prediction.launches,
        mib(prediction.arena_bytes as u64),
        costliest.join(", "),
        table.render()
    )
}
