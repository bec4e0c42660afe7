//! `eval`: how right the masks are, measured on a data set.

mod ahead;
mod data;
mod measure;
mod merge;
mod output;
mod saved;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::common::{EngineArguments, TextArguments};
use super::print::Printer;
use super::protocol::ProtocolArguments;
use super::{Failure, Outcome};
use crate::eval::state::Shard;
use crate::image::decode::DEFAULT_MAX_PIXELS;
use crate::protocol::Size;
use data::DataArguments;
use output::OutputArguments;

/// What means nothing where masks are given.
const OF_THE_ENGINE: [&str; 11] = [
    "model",
    "device",
    "threads",
    "max_memory",
    "timeout",
    "size",
    "preset",
    "templates",
    "template_list",
    "long_labels",
    "save_masks",
];

/// Measure how right the masks are: photos whose pixels have names in, published metrics out.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    text: TextArguments,

    #[command(flatten)]
    protocol: ProtocolArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// The network's size: native (the photo's own), HEIGHTxWIDTH, or long:L (longer side L) [default: the model's]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// Judge the masks of this folder, whoever made them, and compute none: <name>.png or <name>.mask.png, whose values
    /// are the labels' indices from 0
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_THE_ENGINE)]
    predictions: Option<PathBuf>,

    /// Also write each mask into this folder, as <name>.mask.png
    #[arg(long, value_name = "DIR")]
    save_masks: Option<PathBuf>,

    /// Refuse photos and masks of more pixels than this
    #[arg(long, default_value_t = DEFAULT_MAX_PIXELS, value_name = "N")]
    max_pixels: u64,

    /// Keep what was counted in this file, every 30 seconds and at the end: the same call goes on from it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Measure part K of N of the photos into --state; `eval merge` makes the whole of all parts
    #[arg(long, value_name = "K/N", requires = "state")]
    shard: Option<Shard>,

    #[command(flatten)]
    output: OutputArguments,

    /// No progress and no notes on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Merge(merge::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast eval --data folders --images photos --masks masks --labels @words.txt --ignore 255
  lseg-fast eval --data ade20k:ADEChallengeData2016 --labels @objectInfo150.txt --preset lseg-eval \\
      --model m.ckpt
  lseg-fast eval --data cityscapes:cityscapes --model m.safetensors --state citys.state
  lseg-fast eval --data voc:VOCdevkit/VOC2012 --predictions masks --confusion voc.csv
  lseg-fast eval --data ade20k:ADE --labels @objectInfo150.txt --shard 1/4 --state 1.state
  lseg-fast eval merge 1.state 2.state 3.state 4.state --per-photo photos.csv

What each data set must look like, and what the metrics mean: docs/eval.md.";

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    match &arguments.command {
        Some(Command::Merge(merge)) => merge::run(merge, printer),
        None => measure::run(arguments, printer),
    }
}
