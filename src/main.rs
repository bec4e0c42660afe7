//! The program: all of it is in the library's `cli`.

use std::alloc::System;
use std::process::ExitCode;

use lseg_fast::cli;
use lseg_fast::termination::{self, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(System);

fn main() -> ExitCode {
    termination::handle_threads_without_memory();
    termination::handle_signals();
    cli::main()
}
