//! What is in a checkpoint: `cargo run --example list -- FILE [KEY…]`. The keys lead to the dict that is read, where the file
//! has several.

use std::process::ExitCode;

use torch_file::{Options, Result};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: list FILE [KEY…]");
        return ExitCode::from(2);
    };
    match list(&path, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(path: &str, keys: impl Iterator<Item = String>) -> Result<()> {
    let file = Options::new().dict(keys).open(path)?;
    println!("{}: {}, {} tensors", file.path().display(), file.format(), file.names().len());
    // A name may hold what controls a terminal: `{:?}` shows it escaped.
    for name in file.names() {
        let info = file.info(name).expect("a name from the list");
        println!("{name:?}: {info}, {} bytes", info.bytes());
    }
    for (name, class) in file.others() {
        println!("{name:?}: no tensor that is read, but {class}");
    }
    for (name, value) in file.settings() {
        println!("{name:?} = {value:?}");
    }
    for (name, text) in file.metadata() {
        println!("{name:?} = {text:?}");
    }
    Ok(())
}
