//! The command line: arguments as typed; each subcommand resolves its own into ready objects and runs.

mod common;
mod convert;
mod failure;
mod info;
pub mod message;
mod photos;
mod plan;
mod print;
mod run;
mod table;
mod tokenize;

use clap::{Parser, Subcommand};

pub use failure::{Failure, Outcome};

/// Name the things in a photo: words in, photo in, every pixel named.
///
/// Runs LSeg, language-driven semantic segmentation (arXiv 2201.03546).
#[derive(Parser)]
#[command(name = "lseg-fast", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast convert demo_e200.ckpt --out lseg.safetensors
  lseg-fast run photo.jpg --labels \"dog,grass,other\" --model lseg.safetensors
  lseg-fast run --help

Exit code: 0 all done, 1 some input failed (the others are done), 2 the call itself was wrong.";

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Convert(convert::Arguments),
    Tokenize(tokenize::Arguments),
    Info(info::Arguments),
    Plan(plan::Arguments),
}

/// The call's arguments. Ends the process for `--help`, `--version` (0) and calls that cannot be understood (2).
pub fn parse() -> Arguments {
    Arguments::parse()
}

/// Does what was asked for.
pub fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Tokenize(arguments) => tokenize::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
    }
}
