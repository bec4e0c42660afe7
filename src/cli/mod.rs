//! The command line: arguments as typed; each subcommand resolves its own into ready objects and runs.
#![allow(rustdoc::invalid_html_tags, reason = "in help, places for words stand in angle brackets")]

mod batch;
mod bench;
mod common;
mod convert;
mod embed;
mod eval;
mod failure;
mod heat;
mod info;
mod message;
mod photos;
mod plan;
mod print;
mod protocol;
mod restart;
mod result;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod stream;
mod table;
mod text;
mod timings;
mod tokenize;
mod version;
mod window_scores;

use std::io::{self, ErrorKind, Write};
use std::process::{self, ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use crate::printable::printable;
use failure::{Failure, Outcome, WRONG_CALL};
use print::Printer;

/// Name the things in a photo: words in, photo in, every pixel named.
///
/// Runs LSeg, language-driven semantic segmentation (arXiv 2201.03546).
#[derive(Parser)]
#[command(name = "lseg-fast", version, long_version = version::long(), after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Print JSON, one object a line: one a photo, or one in all (its fields: docs/json.md)
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast convert demo_e200.ckpt --out lseg.safetensors
  lseg-fast run photo.jpg --labels \"dog,grass,other\" --model lseg.safetensors
  lseg-fast embed photo.jpg --model lseg.safetensors
  lseg-fast run --help

Exit code: 0 all done, 1 a file or the machine failed (other photos are done), 2 the call was wrong.";

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Stream(Box<stream::Arguments>),
    Embed(embed::Arguments),
    Text(text::Arguments),
    Convert(convert::Arguments),
    Tokenize(tokenize::Arguments),
    Info(info::Arguments),
    Plan(plan::Arguments),
    Eval(Box<eval::Arguments>),
    Bench(bench::Arguments),
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
}

/// The program: parse, run, exit code.
pub fn main() -> ExitCode {
    match parse().and_then(run) {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            message::error(&failure);
            failure.exit_code()
        }
    }
}

/// The program's arguments, for who makes manual pages and completions of them.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The call's arguments. Ends the process for `--help`, `--version` (0) and calls that cannot be understood (2).
fn parse() -> Result<Arguments, Failure> {
    let error = match Arguments::try_parse() {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    if error.use_stderr() {
        // The same once more, because it quotes what was typed.
        let typed = std::env::args_os().map(|word| printable(&word.to_string_lossy()).into_owned());
        let _ = Arguments::try_parse_from(typed).err().unwrap_or(error).print();
        process::exit(WRONG_CALL.into());
    }
    match error.print().and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::stdout(&e)),
        _ => process::exit(0),
    }
}

/// Does what was asked for.
fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let mut printer = Printer::new(arguments.json);
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments, &mut printer),
        Command::Stream(arguments) => stream::run(&arguments, &mut printer),
        Command::Embed(arguments) => embed::run(&arguments, &mut printer),
        Command::Text(arguments) => text::run(&arguments, &mut printer),
        Command::Convert(arguments) => convert::run(&arguments, &mut printer),
        Command::Tokenize(arguments) => tokenize::run(&arguments, &mut printer),
        Command::Info(arguments) => info::run(&arguments, &mut printer),
        Command::Plan(arguments) => plan::run(&arguments, &mut printer),
        Command::Eval(arguments) => eval::run(&arguments, &mut printer),
        Command::Bench(arguments) => bench::run(&arguments, &mut printer),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(&arguments, &mut printer),
    }
}
