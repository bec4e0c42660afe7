//! `plan`: each operation's shapes and cost and each buffer's place, computing nothing.

use std::path::PathBuf;

use crate::DeviceChoice;
use crate::bench::prediction::{Board, boards};
use crate::checkpoint::Checkpoint;
use crate::device::cuda::{GpuLimits, MODULES};
use crate::engine::{WindowReport, plan_windows};
use crate::labels::MAX_LABELS;
use crate::model::config::Config;
use crate::plan_report::{Cut, PlanLaunch, PlanReport, plan};
use crate::protocol::{Look, Size};
use clap::Args;
use serde::Serialize;

use super::common::read_config;
use super::print::Printer;
use super::protocol::{Chosen, ProtocolArguments};
use super::table::{Align, Table, grouped, mib};
use super::{Failure, Outcome};

/// Show what a frame takes: operations, FLOP, bytes, memory. Computes nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint [default: the demo model in this program]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// The photo's width and height, such as 640x480, where it is taken in windows or the size is native
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = photo)]
    photo: Option<(usize, usize)>,

    #[command(flatten)]
    protocol: ProtocolArguments,

    /// The network's size: HEIGHTxWIDTH, or long:L for a square photo [default: the model's]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// How many labels
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_LABELS as i64))]
    labels_count: u32,

    /// For which device: cpu or cuda, which keeps activations and matrices as float16
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: DeviceChoice,

    /// Which GPU, for --device cuda: show the kernels that it would run, with their tiles and grids. It need not be here
    #[arg(long, value_name = "GPU", value_parser = board)]
    gpu: Option<&'static Board>,
}

/// (height, width) of "640x480", as people write a photo's.
fn photo(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((h.parse().ok()?, w.parse().ok()?)));
    let sides = sides
        .filter(|(height, width): &(usize, usize)| (1..=1 << 20).contains(height) && (1..=1 << 20).contains(width));
    sides.ok_or_else(|| "expected WIDTHxHEIGHT in pixels, such as 640x480".to_owned())
}

fn board(name: &str) -> Result<&'static Board, String> {
    Board::named(name).ok_or_else(|| {
        let known: Vec<&str> = boards().iter().map(|board| board.name.as_str()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast plan --model lseg.safetensors
  lseg-fast plan --model lseg.safetensors --size 1024x1024 --labels-count 150 --device cuda
  lseg-fast plan --model lseg.safetensors --size 480x480 --device cuda --gpu h100
  lseg-fast plan --preset lseg-eval --photo 8000x6000 --labels-count 150 --model lseg.safetensors";

#[derive(Serialize)]
struct Windowed {
    preset: String,
    labels: usize,
    photo_height: usize,
    photo_width: usize,
    #[serde(flatten)]
    windows: WindowReport,
}

#[derive(Serialize)]
struct Report {
    preset: String,
    height: usize,
    width: usize,
    labels: usize,
    #[serde(flatten)]
    plan: PlanReport,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let (checkpoint, config) = read_config(arguments.model.as_deref())?;
    let chosen = arguments.protocol.chosen()?;
    if arguments.size.is_some() && (arguments.protocol.has_preset() || chosen.is_some()) {
        return Err(Failure::call("a preset and windows have sizes of their own: leave --size out, or them"));
    }
    let labels = arguments.labels_count as usize;
    if arguments.gpu.is_some() && !matches!(arguments.device, DeviceChoice::Cuda(_)) {
        return Err(Failure::call("--gpu says for which GPU, and this is not for one: pass --device cuda as well"));
    }
    if arguments.gpu.is_some() && MODULES.is_empty() {
        return Err(Failure::call(
            "--gpu shows kernels, and this build has none: build with CUDA's nvcc, or leave it out",
        ));
    }
    let gpu = arguments.gpu.map(Board::limits);
    if let Some(chosen) = chosen.as_ref().filter(|chosen| chosen.has_windows()) {
        return windowed(arguments, (&checkpoint, &config), chosen, gpu, printer);
    }
    let size = match chosen.as_ref().map(|chosen| &chosen.protocol.look) {
        Some(Look::Once(size)) => *size,
        _ => arguments.size.map_or_else(|| config.default_size.parse(), Ok)?,
    };
    let (height, width) = match arguments.photo {
        Some((height, width)) => size.network_size(height, width)?,
        None => without_photo(size)?,
    };
    let plan = plan(&checkpoint, &config, (height, width), labels, arguments.device, gpu)?;
    let report = Report { preset: config.preset, height, width, labels, plan };
    printer.print(&report, |report| {
        format!("{} at {height}x{width} with {labels} labels\n{}", report.preset, render(&report.plan))
    })?;
    Ok(Outcome::Done)
}

/// A photo in windows.
fn windowed(
    arguments: &Arguments,
    (checkpoint, config): (&Checkpoint, &Config),
    chosen: &Chosen,
    gpu: Option<GpuLimits>,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let Some(photo) = arguments.photo else {
        let name = &chosen.name;
        return Err(Failure::call(format!("{name} cuts windows of a photo: give its size, such as --photo 640x480")));
    };
    let labels = arguments.labels_count as usize;
    let how = (&chosen.protocol, photo, chosen.options);
    let windows = plan_windows(checkpoint, config, how, labels, arguments.device, gpu)?;
    let (photo_height, photo_width) = photo;
    let report = Windowed { preset: chosen.name.clone(), labels, photo_height, photo_width, windows };
    printer.print(&report, render_windows)?;
    Ok(Outcome::Done)
}

fn render_windows(report: &Windowed) -> String {
    use Align::{Left, Right};
    let Windowed { preset, labels, photo_height, photo_width, windows } = report;
    let mut scales = Table::headed([Right, Right, Right, Right], ["scale", "width", "height", "windows"]);
    for scale in &windows.scales {
        let count = format!("{} x {}", scale.windows_across, scale.windows_down);
        scales.row([scale.scale.to_string(), scale.width.to_string(), scale.height.to_string(), count]);
    }
    let mut all = Table::new([Left, Right]);
    let [height, width] = windows.out;
    let rows = [
        ("windows", windows.windows.to_string()),
        ("of them computed again at seams", windows.repeated.to_string()),
        ("passes", windows.passes.to_string()),
        ("strips of columns", windows.strips.to_string()),
        ("handed out", format!("{width} wide, {height} high")),
        ("GFLOP", format!("{:.1}", windows.gflop)),
        ("sums", format!("{} of {} channels", mib(windows.sums_bytes), windows.sums_channels)),
    ];
    rows.into_iter().for_each(|(name, value)| all.row([name.into(), value]));
    format!(
        "{preset} of a photo {photo_width} wide, {photo_height} high, with {labels} labels\n{}\n{}\nOne pass, and the \
         rows that are handed out at once:\n{}",
        scales.render(),
        all.render(),
        render(&windows.plan)
    )
}

/// The network's (height, width) where there is no photo: a long side alone means a square.
pub fn without_photo(size: Size) -> Result<(usize, usize), Failure> {
    match size {
        Size::Native => Err(Failure::call("size native needs a photo; give --size as HEIGHTxWIDTH, such as 480x640")),
        Size::Exact { .. } | Size::LongSide(_) => Ok(size.network_size(1, 1)?),
    }
}

/// "128×256"
fn sides([rows, columns]: [usize; 2]) -> String {
    format!("{rows}×{columns}")
}

fn render(report: &PlanReport) -> String {
    use Align::{Left, Right};
    let mut operations = Table::headed(
        [Right, Left, Left, Left, Right, Right],
        ["#", "scope", "operation", "shapes", "GFLOP", "memory"],
    );
    for (i, op) in report.ops.iter().enumerate() {
        let cells = [i.to_string(), op.scope.clone(), op.op.into(), op.shapes.clone(), format!("{:.3}", op.gflop)];
        let [number, scope, name, shapes, gflop] = cells;
        operations.row([number, scope, name, shapes, gflop, mib(op.bytes)]);
    }
    let gflop: f64 = report.ops.iter().map(|op| op.gflop).sum();
    let bytes: u64 = report.ops.iter().map(|op| op.bytes).sum();
    operations.row(["".into(), "total".into(), "".into(), "".into(), format!("{gflop:.3}"), mib(bytes)]);

    let mut launches = Table::headed(
        [Right, Left, Left, Right, Right, Right, Right, Right],
        ["#", "kernel", "tile", "parts", "cluster", "grid", "waves", "clocks (predicted)"],
    );
    let made = report.ops.iter().enumerate().flat_map(|(i, op)| op.launches.iter().map(move |launch| (i, launch)));
    for (i, launch) in made {
        let PlanLaunch { kernel, cut: Cut { tile, parts, cluster }, grid, waves, predicted_clocks } = launch;
        launches.row([
            i.to_string(),
            (*kernel).to_owned(),
            tile.map_or(String::new(), sides),
            parts.map_or(String::new(), |parts| parts.to_string()),
            cluster.map_or(String::new(), sides),
            grid.map(|n| n.to_string()).join("×"),
            format!("{waves:.2}"),
            predicted_clocks.map_or(String::new(), |clocks| grouped(clocks as u64)),
        ]);
    }
    let launches = if report.ops.iter().all(|op| op.launches.is_empty()) {
        String::new()
    } else {
        let (products, overlap) = (report.products.unwrap_or_default(), report.overlap.unwrap_or_default());
        format!("{}{products}\n{overlap}\n\n", launches.render())
    };

    let mut buffers = Table::headed(
        [Left, Left, Left, Right, Right, Right],
        ["buffer", "shape", "type", "size", "offset", "used by"],
    );
    for buffer in &report.buffers {
        buffers.row([
            buffer.name.clone(),
            buffer.shape.clone(),
            buffer.dtype.into(),
            mib(buffer.bytes as u64),
            buffer.offset.to_string(),
            format!("{}-{}", buffer.first_op, buffer.last_op),
        ]);
    }
    let mut memory = Table::new([Left, Right]);
    memory.row(["arena".into(), mib(report.arena_bytes as u64)]);
    memory.row(["frame in all".into(), mib(report.frame_bytes)]);
    memory.row(["weights".into(), mib(report.weight_bytes)]);
    memory.row(["loading them".into(), mib(report.loading_bytes)]);
    format!("{}\n{launches}{}\n{}", operations.render(), buffers.render(), memory.render())
}
