//! `convert`: a published checkpoint in, one safetensors file with its configuration out.

use std::fs;
use std::path::PathBuf;

use crate::checkpoint::Checkpoint;
use crate::convert::{self, Options, Summary, TargetDtype};
use crate::model::config::{Activation, HeadBlockKind};
use crate::model::detect::{HeadBlockOverride, detect};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::print::Printer;
use super::result::{path, shown};
use super::table::{Align, Table, grouped, mib};
use super::{Failure, Outcome};

/// Convert a published checkpoint into one file with its configuration.
///
/// Reads Lightning checkpoints (.ckpt), PyTorch state dicts (.pt, .pth) and safetensors. Nothing in them is executed.
/// Checksums in them are compared; the file written has one of its own (`lseg-fast info --verify`).
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The checkpoint
    #[arg(value_name = "CKPT")]
    checkpoint: PathBuf,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Element type of the weights written; source keeps each tensor's own
    #[arg(long, value_enum, default_value_t = DtypeName::Source)]
    dtype: DtypeName,

    /// The spatial regularisation, where the checkpoint does not say which one it has
    #[arg(long, value_enum, value_name = "KIND")]
    head_block: Option<HeadBlockName>,

    /// How many times the head block is applied
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    depth: Option<u16>,

    /// The head block's activation
    #[arg(long, value_enum, value_name = "NAME")]
    activation: Option<ActivationName>,

    /// No progress on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast convert demo_e200.ckpt --out lseg.safetensors
  lseg-fast convert demo_e200.ckpt --out lseg-f16.safetensors --dtype f16
  lseg-fast convert m.pth --out m.safetensors --head-block bottleneck \\
      --depth 3 --activation lrelu";

#[derive(Clone, Copy, ValueEnum)]
enum DtypeName {
    Source,
    F16,
    F32,
}

#[derive(Clone, Copy, ValueEnum)]
enum HeadBlockName {
    None,
    Bottleneck,
    Depthwise,
}

#[derive(Clone, Copy, ValueEnum)]
enum ActivationName {
    Relu,
    Lrelu,
    Tanh,
}

impl Arguments {
    fn dtype(&self) -> TargetDtype {
        match self.dtype {
            DtypeName::Source => TargetDtype::Source,
            DtypeName::F16 => TargetDtype::F16,
            DtypeName::F32 => TargetDtype::F32,
        }
    }

    fn flags(&self) -> HeadBlockOverride {
        HeadBlockOverride {
            head_block: self.head_block.map(|name| match name {
                HeadBlockName::None => HeadBlockKind::None,
                HeadBlockName::Bottleneck => HeadBlockKind::Bottleneck,
                HeadBlockName::Depthwise => HeadBlockKind::Depthwise,
            }),
            depth: self.depth.map(usize::from),
            activation: self.activation.map(|name| match name {
                ActivationName::Relu => Activation::Relu,
                ActivationName::Lrelu => Activation::Lrelu,
                ActivationName::Tanh => Activation::Tanh,
            }),
        }
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "path")]
    file: PathBuf,
    preset: String,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    dropped: Vec<Dropped>,
}

/// Tensors of the checkpoint that the model does not need.
#[derive(Serialize)]
struct Dropped {
    names: String,
    tensors: usize,
}

impl Report {
    fn new(file: PathBuf, summary: Summary) -> Report {
        let Summary { preset, tensors, parameters, bytes, dropped } = summary;
        let dropped = dropped.into_iter().map(|(names, tensors)| Dropped { names, tensors }).collect();
        Report { file, preset, tensors, parameters, bytes, dropped }
    }
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let (from, to) = (&arguments.checkpoint, &arguments.out);
    if fs::canonicalize(from).is_ok_and(|from| fs::canonicalize(to).is_ok_and(|to| from == to)) {
        return Err(Failure::call(format!("--out {} is the checkpoint itself; choose another name", to.display())));
    }
    let checkpoint = Checkpoint::open(from)?;
    let config = detect(&checkpoint, &arguments.flags())?;

    let bar = progress_bar(arguments.quiet);
    let options = Options { out: to.clone(), dtype: arguments.dtype() };
    let summary = convert::convert(&checkpoint, &config, &options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    printer.print(&Report::new(to.clone(), summary), render)?;
    Ok(Outcome::Done)
}

/// On stderr, and only where that is a terminal.
fn progress_bar(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn render(report: &Report) -> String {
    let mut table = Table::new([Align::Left, Align::Left]);
    table.row(["preset".into(), report.preset.clone()]);
    table.row(["tensors".into(), grouped(report.tensors as u64)]);
    table.row(["parameters".into(), grouped(report.parameters)]);
    table.row(["bytes".into(), format!("{} ({})", grouped(report.bytes), mib(report.bytes))]);
    let dropped = match &report.dropped[..] {
        [] => "nothing".into(),
        groups => {
            groups.iter().map(|group| format!("{} ({})", group.names, group.tensors)).collect::<Vec<_>>().join(", ")
        }
    };
    table.row(["dropped".into(), dropped]);
    format!("{}\n{}", shown(&report.file), table.render())
}
