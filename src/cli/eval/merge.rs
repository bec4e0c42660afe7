//! `eval merge`: the shards of one measurement, as if there had been none.

use std::path::PathBuf;

use clap::Args;

use super::output::OutputArguments;
use crate::cli::print::Printer;
use crate::cli::{Failure, Outcome};
use crate::eval::state::{self, State};

/// Put the parts of a sharded measurement together: the numbers are exactly those of a call without --shard.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The files of --state, one a shard
    #[arg(required = true, value_name = "FILE")]
    states: Vec<PathBuf>,

    #[command(flatten)]
    output: OutputArguments,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast eval merge 1.state 2.state 3.state 4.state
  lseg-fast eval merge *.state --per-photo photos.csv --confusion matrix.npy --json";

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let read = arguments.states.iter().map(|path| Ok((path.as_path(), State::read(path)?)));
    let merged = state::merge(read.collect::<crate::Result<_>>()?)?;
    arguments.output.check(merged.lists[0].words.len())?;
    arguments.output.write(&merged, printer)
}
