//! Results on stdout.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::Failure;

/// Prints results, as text or as one JSON object a line. A reader that has gone away (`… | head -1`) is no failure: what is still to be printed is dropped
/// and the work goes on, because files may be its product.
pub struct Printer {
    json: bool,
    gone: bool,
}

impl Printer {
    pub fn new(json: bool) -> Self {
        Printer { json, gone: false }
    }

    /// Prints one result at once: its fields, or what `text` makes of it.
    pub fn print<R: Serialize>(&mut self, result: &R, text: impl FnOnce(&R) -> String) -> Result<(), Failure> {
        if !self.json {
            return self.write(&text(result));
        }
        let line = serde_json::to_string(result)
            .map_err(|e| Failure::Input(format!("a result cannot be written as JSON: {e}")))?;
        self.write(&(line + "\n"))
    }

    /// Prints what belongs to several results, where they are not printed as JSON.
    pub fn text(&mut self, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.write(&text()) }
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.gone {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            Err(e) => Err(Failure::Input(format!("cannot write to standard output: {e}"))),
            Ok(()) => Ok(()),
        }
    }
}
