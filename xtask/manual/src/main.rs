//! `manual FOLDER`: the program's manual pages into FOLDER/man, its shell completions into FOLDER/completions. A program of its
//! own, so that what makes them is no part of the product.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use clap_complete::Shell;

/// The files that packagers put into their places.
fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut command = lseg_fast::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "lseg-fast", &completions)?;
    }
    // A page says its version alone: it is of every build. `help` has no page, it shows them.
    let command = lseg_fast::cli::command().long_version(None).disable_help_subcommand(true);
    clap_mangen::generate_to(command.mut_subcommands(|command| command.disable_help_subcommand(true)), &man)
}

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: manual FOLDER");
        return ExitCode::FAILURE;
    };
    match write(folder.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
