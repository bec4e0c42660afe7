//! `text`: the labels' embeddings as one array.

use std::path::{Path, PathBuf};

use crate::image::npy;
use clap::Args;
use serde::Serialize;

use super::common::{EngineArguments, LabelArguments, refuse_terminal, write_result};
use super::photos::STANDARD;
use super::print::Printer;
use super::result::{milliseconds, path, shown};
use super::{Failure, Outcome};

/// Write the labels' embeddings, of length 1 but for templates whose means keep theirs: what the pixels are compared with.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    labels: LabelArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// The file to write, or - for standard output: float32 [labels, channels]
    #[arg(long, value_name = "X.npy|-")]
    out: PathBuf,

    /// No notes on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast text --labels \"dog,grass,other\" --out words.npy --model lseg.safetensors
  lseg-fast text --labels @words.txt --templates clip80 --other other --out words.npy
  lseg-fast text --labels @words.txt --template \"a photo of a {}\" \\
      --out words.npy --model lseg.safetensors";

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "path")]
    file: &'a PathBuf,
    labels: &'a [String],
    templates: &'a [String],
    channels: usize,
    device: &'a str,
    milliseconds: f64,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let labels = arguments.labels.resolve()?;
    if arguments.out == Path::new(STANDARD) {
        refuse_terminal()?;
        printer.leave_stdout(arguments.quiet);
    }
    let mut engine = arguments.engine.load(&arguments.engine.open()?, arguments.quiet)?;
    arguments.labels.set(&mut engine, &labels, arguments.quiet)?;
    let (embeddings, channels) = (engine.label_embeddings(), engine.config().embed_dim);
    write_result(&arguments.out, |out| npy::write(out, &[labels.len(), channels], &embeddings))?;
    let report = Report {
        file: &arguments.out,
        labels: engine.labels(),
        templates: &arguments.labels.templates()?,
        channels,
        device: engine.device(),
        milliseconds: milliseconds(engine.text_time()),
    };
    printer.print(&report, |report| {
        let (file, labels, ms) = (shown(report.file), report.labels.len(), report.milliseconds);
        format!("{file}: {labels} labels, {channels} channels; {}, {ms:.1} ms\n", report.device)
    })?;
    Ok(Outcome::Done)
}
