//! `stages`: what the bundle's run.sh starts.

use std::process::ExitCode;

use gpu_run::stages::arguments::{self, HELP, Variables};
use gpu_run::stages::places::Bundle;
use gpu_run::stages::{self, Verdict};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments = match arguments::parse(&words, Variables::read()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => return refuse(&reason),
    };
    if let Err(reason) = ctrlc::set_handler(stages::interrupt) {
        return refuse(&format!("interruptions cannot be heard: {reason}"));
    }
    match Bundle::find().and_then(|bundle| stages::run(arguments, bundle)) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Ok(Verdict::Interrupted) => ExitCode::from(130),
        Err(reason) => refuse(&reason),
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::from(2)
}
