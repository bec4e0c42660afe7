//! Parse, run, exit code.

mod cli;

use std::alloc::System;
use std::process::ExitCode;

use lseg_fast::ending::{self, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(System);

fn main() -> ExitCode {
    ending::prepare();
    match cli::parse().and_then(cli::run) {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            cli::message::error(&failure);
            failure.exit_code()
        }
    }
}
