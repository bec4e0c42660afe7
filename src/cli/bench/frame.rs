//! `bench frame`: photo to mask.

use std::io::BufRead;
use std::path::PathBuf;

use crate::bench::frame::{self, Frames, Prediction, Spread, Stage};
use crate::bench::prediction::{assumptions, emulate_boards, emulated_boards};
use crate::bench::windows;
use crate::checkpoint::Checkpoint;
use crate::device::Calls;
use crate::device::cuda::{Cuda, Effort};
use crate::image::decode::{DEFAULT_MAX_PIXELS, Photo, decode};
use crate::labels::{self, MAX_LABELS};
use crate::model::config::Config;
use crate::{DeviceChoice, Engine, Image, Options, Size};
use clap::Args;
use serde::Serialize;

use super::super::common::{own_size, read_config};
use super::super::plan::without_photo;
use super::super::print::Printer;
use super::super::protocol::{Chosen, ProtocolArguments};
use super::super::table::{Align, Table, grouped, mib};
use super::super::{Failure, Outcome};
use super::refuse_compiled;

/// Time a whole frame: photo in the host's memory to mask in the host's memory, then its stages
///
/// By the host's clock, and of that the GPU's part (its copies included) by its own; after --warm-up seconds of the same, because an
/// idle GPU runs at a sixth of its clock. On the virtual GPU there is no time: it counts what a frame does as an H100, an RTX 4090
/// and an AGX Orin, or as those of them that VGPU_DEVICES or VGPU_DEVICE names, and predicts from that by a model. A large model
/// takes minutes there. Of a photo in windows one pass of each kind is counted, of two windows unless --batch-windows says how many.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint [default: the small demo model in this program]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// The network's size: HEIGHTxWIDTH, or long:L for a square photo [default: the model's, of the photo where one is given]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// The photo [default: a made-up one of the network's size, or of 640×480 in windows]
    #[arg(long, value_name = "FILE")]
    photo: Option<PathBuf>,

    #[command(flatten)]
    protocol: ProtocolArguments,

    /// The labels, split at commas, or @FILE with one a line [default: made-up ones]
    #[arg(long, value_name = "WORDS|@FILE", conflicts_with = "labels_count")]
    labels: Option<String>,

    /// How many labels, made up
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_LABELS as i64))]
    labels_count: u32,

    /// Frames of one pass, as of so many cameras
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_FRAMES))]
    batch: u16,

    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: DeviceChoice,

    /// Timed frames
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,

    /// Seconds of the same work before
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    warm_up: f64,

    /// Measure when told to on standard input: "round WHO WHAT SECONDS FRAMES" a line; print JSON a round
    #[arg(long, hide = true)]
    paced: bool,

    /// Go the way of a real GPU on the virtual one: times mean nothing
    #[arg(long, hide = true)]
    rehearse: bool,
}

/// Of a pass.
const MOST_FRAMES: i64 = 64;

const EXAMPLES: &str = "\
Examples:
  lseg-fast bench frame --model lseg.safetensors --size 480x480
  lseg-fast bench frame --model lseg.safetensors --photo photo.jpg --labels \"dog,grass,other\"
  lseg-fast bench frame --model lseg.safetensors --labels-count 150 --runs 1000 --json
  lseg-fast bench frame --model lseg.safetensors --size 480x480 --batch 3
  lseg-fast bench frame --model lseg.safetensors --preset lseg-eval --labels-count 150 --runs 10
  lseg-fast bench frame --device cpu --runs 5 --warm-up 0";

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?}: expected seconds, from 0 to 3600")),
    }
}

#[derive(Serialize)]
struct Report {
    device: String,
    preset: String,
    /// Of the photo.
    height: usize,
    width: usize,
    labels: usize,
    /// Frames of a pass.
    batch: usize,
    /// The photo's preset, or `windows`, where it is not one pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<String>,
    #[serde(flatten)]
    result: FrameResult,
}

/// The graph that a frame on a GPU is replayed as.
#[derive(Serialize)]
struct Replayed {
    nodes: usize,
    /// Between kernels of which the second may begin before the first has ended.
    programmatic_edges: usize,
    /// Whether there are any, in words.
    overlap: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum FrameResult {
    Measured {
        /// The photo copied from the caller's memory.
        frames: Frames,
        /// The photo written to the engine's frame buffer before, which saves a GPU a copy.
        #[serde(skip_serializing_if = "Option::is_none")]
        buffered: Option<Frames>,
        #[serde(skip_serializing_if = "Option::is_none")]
        graph: Option<Replayed>,
        /// Which kernels a GPU's products run on, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        products: Option<&'static str>,
        stages: Vec<Stage>,
    },
    Predicted {
        assumptions: String,
        boards: Vec<Prediction>,
    },
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let (checkpoint, config) = read_config(arguments.model.as_deref())?;
    let (is_virtual, overlap, products) = match arguments.device {
        DeviceChoice::Cuda(ordinal) => {
            if !arguments.rehearse {
                emulate_boards()?;
            }
            let cuda = Cuda::new(ordinal.unwrap_or(0))?;
            if !cuda.info().is_virtual {
                refuse_compiled(&cuda.info().name, cuda.modules())?;
            }
            (cuda.info().is_virtual, Some(cuda.overlap()), Some(cuda.products()))
        }
        _ => (false, None, None),
    };
    let chosen = windows(arguments)?;
    if is_virtual && !arguments.rehearse {
        return predict(arguments, &checkpoint, config, chosen.as_ref(), printer);
    }
    let photo = photo(arguments, &config, chosen.is_some())?;
    let (mut engine, labels) = engine(arguments, &checkpoint, &config)?;
    if let Some(chosen) = chosen {
        return whole(arguments, (&mut engine, labels), &photo, chosen, (config, products), printer);
    }
    let frame = Image::rgb8(photo.width, photo.height, &photo.rgb);
    if arguments.paced {
        return paced(&mut engine, &frame);
    }
    let effort = Effort { warm_up: arguments.warm_up, runs: arguments.runs as usize };
    let batch = usize::from(arguments.batch);
    let frames = match batch {
        1 => frame::measure(&mut engine, &frame, effort, false)?,
        _ => frame::measure_batch(&mut engine, &frame, batch, effort)?,
    };
    let again = Effort { warm_up: 0.0, ..effort };
    let has_buffer = frames.gpu.is_some() && batch == 1;
    let buffered = has_buffer.then(|| frame::measure(&mut engine, &frame, again, true)).transpose()?;
    let Calls { graph_nodes: nodes, programmatic_edges, .. } = engine.device_calls();
    let graph = overlap.map(|overlap| Replayed { nodes, programmatic_edges, overlap });
    let stages = match batch {
        1 => frame::stages(&mut engine, &frame, effort.runs)?,
        _ => frame::stages_of_batch(&mut engine, &frame, batch, effort.runs)?,
    };
    let result = FrameResult::Measured { frames, buffered, graph, products, stages };
    let (width, height) = (frame.width(), frame.height());
    let device = engine.device().to_owned();
    printer.print(
        &Report { device, preset: config.preset, height, width, labels, batch, windows: None, result },
        render,
    )?;
    Ok(Outcome::Done)
}

/// The windows that were asked for.
fn windows(arguments: &Arguments) -> Result<Option<Chosen>, Failure> {
    let chosen = arguments.protocol.beside(arguments.size.is_some())?.map(Chosen::for_scores).transpose()?;
    match chosen {
        Some(chosen) if !chosen.has_windows() => Err(Failure::call(format!(
            "--preset {} is one pass: time that with --size, or choose a preset with windows, such as lseg-eval",
            chosen.name
        ))),
        Some(_) if arguments.batch > 1 => {
            Err(Failure::call("--batch is of whole frames: of a photo in windows a pass has --batch-windows"))
        }
        Some(_) if arguments.paced => Err(Failure::call("--paced is of frames: leave the preset and windows out")),
        chosen => Ok(chosen),
    }
}

/// A photo in windows.
fn whole(
    arguments: &Arguments,
    (engine, labels): (&mut Engine, usize),
    photo: &Photo,
    Chosen { name, protocol, options }: Chosen,
    (config, products): (Config, Option<&'static str>),
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let effort = Effort { warm_up: arguments.warm_up, runs: arguments.runs as usize };
    let (frames, stages) = windows::measure(engine, photo, (&protocol, options), effort)?;
    let result = FrameResult::Measured { frames, buffered: None, graph: None, products, stages };
    let (device, height, width) = (engine.device().to_owned(), photo.height, photo.width);
    let report = Report { device, preset: config.preset, height, width, labels, batch: 1, windows: Some(name), result };
    printer.print(&report, render)?;
    Ok(Outcome::Done)
}

/// (height, width) of a photo in windows, where none is given.
const WHOLE: (usize, usize) = (480, 640);

/// A made-up photo has the network's size.
fn photo(arguments: &Arguments, config: &Config, is_whole: bool) -> Result<Photo, Failure> {
    match &arguments.photo {
        Some(path) => Ok(decode(path, DEFAULT_MAX_PIXELS)?),
        None => {
            let (height, width) = if is_whole { WHOLE } else { without_photo(size(arguments, config)?)? };
            let rgb = (0..height * width * 3).map(|i| (i * 31 % 251) as u8).collect();
            Ok(Photo { width, height, rgb })
        }
    }
}

fn size(arguments: &Arguments, config: &Config) -> Result<Size, Failure> {
    match arguments.size {
        Some(size) => Ok(size),
        None => own_size(config),
    }
}

/// With its labels, and how many they are.
fn engine(arguments: &Arguments, checkpoint: &Checkpoint, config: &Config) -> Result<(Engine, usize), Failure> {
    let options = Options { device: arguments.device, threads: None, ..Options::default() };
    let mut engine = Engine::from_checkpoint(checkpoint, &options)?;
    engine.set_size(size(arguments, config)?);
    let labels = match &arguments.labels {
        Some(words) => labels::parse(words)?,
        None => labels::checked(&(0..arguments.labels_count).map(|i| format!("label {i}")).collect::<Vec<_>>())?,
    };
    engine.set_list(&labels)?;
    Ok((engine, labels.len()))
}

/// What is printed when all is loaded.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    who: &'a str,
    device: &'a str,
}

/// A round's times, in milliseconds.
#[derive(Serialize)]
struct Round<'a> {
    who: &'a str,
    what: &'a str,
    gpu: Option<Spread>,
    host: Spread,
    n: usize,
    sm_mhz: Option<f64>,
}

#[derive(Serialize)]
struct Absent<'a> {
    who: &'a str,
    what: &'a str,
    absent: &'a str,
}

/// What this program is called in a race.
const WHO: &str = "lseg-fast";

/// Measures when told to, so that contenders can take turns on one GPU.
fn paced(engine: &mut Engine, frame: &Image<'_>) -> Result<Outcome, Failure> {
    let mut printer = Printer::new(true);
    let device = engine.device().to_owned();
    printer.print(&Ready { ready: true, who: WHO, device: &device }, |_| String::new())?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::Input(format!("standard input: {e}")))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let wrong = || Failure::call(format!("{line:?}: expected \"round WHO WHAT SECONDS FRAMES\""));
        let ["round", who, what, warm_up, runs] = words[..] else { return Err(wrong()) };
        let effort =
            Effort { warm_up: seconds(warm_up).map_err(|_| wrong())?, runs: runs.parse().map_err(|_| wrong())? };
        let buffered = match what {
            "mask" => false,
            "mask-buffered" => true,
            _ => {
                let absent = "embeddings go to the host in this version";
                printer.print(&Absent { who, what, absent }, |_| String::new())?;
                continue;
            }
        };
        let Frames { host, gpu, frames, sm_mhz } = frame::measure(engine, frame, effort, buffered)?;
        printer.print(&Round { who, what, gpu, host, n: frames, sm_mhz }, |_| String::new())?;
    }
    Ok(Outcome::Done)
}

fn predict(
    arguments: &Arguments,
    checkpoint: &Checkpoint,
    config: Config,
    chosen: Option<&Chosen>,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let (labels, batch) = (arguments.labels_count as usize, usize::from(arguments.batch));
    let (height, width) = match chosen {
        Some(_) => photo(arguments, &config, true).map(|photo| (photo.height, photo.width))?,
        None => without_photo(size(arguments, &config)?)?,
    };
    let on = |(board, ordinal)| {
        let cuda = &mut Cuda::new(ordinal)?;
        match chosen {
            Some(Chosen { protocol, options, .. }) => {
                windows::predict(checkpoint, cuda, board, (protocol, *options), (height, width), labels)
            }
            None => frame::predict(checkpoint, cuda, board, (height, width), batch, labels),
        }
    };
    let boards = emulated_boards()?.into_iter().map(on).collect::<Result<_, _>>()?;
    let result = FrameResult::Predicted { assumptions: assumptions(), boards };
    let (device, windows) = ("the virtual GPU".to_owned(), chosen.map(|chosen| chosen.name.clone()));
    printer.print(&Report { device, preset: config.preset, height, width, labels, batch, windows, result }, render)?;
    Ok(Outcome::Done)
}

fn render(report: &Report) -> String {
    let Report { device, preset, height, width, labels, batch, windows, result } = report;
    let how = windows.as_ref().map_or_else(String::new, |windows| format!(", {windows} of a photo"));
    let pass = if *batch == 1 { String::new() } else { format!(", {batch} frames in one pass") };
    let head = format!("{preset}{how} at {height}x{width} with {labels} labels, mask only{pass}, on {device}\n");
    match result {
        FrameResult::Measured { frames, buffered, graph, products, stages } => {
            let clock =
                frames.sm_mhz.map_or_else(String::new, |mhz| format!("the GPU's clock just after: {mhz:.0} MHz\n"));
            let graph = graph.as_ref().map_or_else(String::new, |graph| {
                let Replayed { nodes, programmatic_edges, overlap } = graph;
                format!("a graph of {nodes} nodes, {programmatic_edges} programmatic edges; {overlap}\n")
            });
            let products = products.map_or_else(String::new, |products| format!("{products}\n"));
            format!(
                "{head}{clock}{graph}{products}{}\n{}",
                render_frames(frames, buffered.as_ref(), *batch),
                render_stages(stages)
            )
        }
        FrameResult::Predicted { assumptions, boards } => {
            let boards: Vec<String> = boards.iter().map(|board| render_prediction(board, *batch)).collect();
            format!("{head}{assumptions}\n\n{}", boards.join("\n"))
        }
    }
}

fn render_frames(frames: &Frames, buffered: Option<&Frames>, batch: usize) -> String {
    use Align::{Left, Right};
    let mut table = Table::headed(
        [Left, Right, Right, Right],
        [if batch == 1 { "ms a frame" } else { "ms a pass" }, "p50", "p99", "max"],
    );
    let mut row = |name: &str, spread: &Spread| {
        let Spread { p50, p99, max } = spread;
        table.row([name.to_owned(), format!("{p50:.3}"), format!("{p99:.3}"), format!("{max:.3}")]);
    };
    row("photo to mask, by the host's clock", &frames.host);
    frames.gpu.iter().for_each(|gpu| row("of that the GPU's part, copies included", gpu));
    buffered.iter().for_each(|frames| row("from the engine's frame buffer to mask", &frames.host));
    table.render()
}

fn render_stages(stages: &[Stage]) -> String {
    let mut table =
        Table::headed([Align::Left, Align::Right, Align::Right], ["stage, operation by operation", "ms", "p99"]);
    for Stage { name, median_ms, p99_ms } in stages {
        table.row([(*name).to_owned(), format!("{median_ms:.3}"), format!("{p99_ms:.3}")]);
    }
    table.render()
}

/// Most of what a frame costs.
const COSTLIEST: usize = 5;

fn render_prediction(prediction: &Prediction, batch: usize) -> String {
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
    let each = match batch {
        1 => String::new(),
        _ => format!(" ({:.2} a frame)", prediction.milliseconds / batch as f64),
    };
    format!(
        "{}: {:.2} ms predicted{each}, {} launches, {} of which overlap the one before, arena {}; {}; most of it in {}\n{}",
        prediction.gpu,
        prediction.milliseconds,
        prediction.launches,
        prediction.overlapping,
        mib(prediction.arena_bytes as u64),
        prediction.products,
        costliest.join(", "),
        table.render()
    )
}
