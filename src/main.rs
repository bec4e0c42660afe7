//! Parse, run, exit code.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    lseg_fast::output::clean_up_on_interrupt();
    match cli::run(cli::parse()) {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            cli::message::error(&failure);
            failure.exit_code()
        }
    }
}
