//! What is said about results: on stdout, or on stderr where stdout gets the result itself.

use std::io::{self, ErrorKind, Write};

use std::path::Path;

use crate::Error;
use crate::printable::printable_lines;
use serde::Serialize;

use super::Failure;
use super::result::path;

/// Prints results, as text in which nothing controls the terminal, or as one JSON object a line. A reader that has gone
/// away (`… | head -1`) is no failure: what is still to be printed is dropped and the work goes on, because files may be its
/// product.
pub struct Printer {
    json: bool,
    to: To,
    has_lost_its_reader: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Stdout,
    Stderr,
    /// The reader has gone away, or nothing is to be said.
    Nobody,
}

impl Printer {
    pub fn new(json: bool) -> Self {
        Printer { json, to: To::Stdout, has_lost_its_reader: false }
    }

    /// Leaves stdout to a result: what is said goes to stderr, and nowhere where `quiet`.
    pub fn leave_stdout(&mut self, quiet: bool) {
        self.to = if quiet { To::Nobody } else { To::Stderr };
    }

    /// Whether somebody read, and went away.
    pub fn has_lost_its_reader(&self) -> bool {
        self.has_lost_its_reader
    }

    /// Prints one result at once: its fields, or what `text` makes of it.
    pub fn print<R: Serialize>(&mut self, result: &R, text: impl FnOnce(&R) -> String) -> Result<(), Failure> {
        if !self.json {
            return self.write(&printable_lines(&text(result)));
        }
        let line = serde_json::to_string(result)
            .map_err(|e| Failure::Input(format!("a result cannot be written as JSON: {e}")))?;
        self.write(&(line + "\n"))
    }

    /// As [`Printer::print`], of a text whose tabs part columns: they are printed as they are.
    pub fn columns<R: Serialize>(&mut self, result: &R, text: impl FnOnce(&R) -> String) -> Result<(), Failure> {
        if self.json {
            return self.print(result, text);
        }
        let text = text(result);
        let cells: Vec<_> = text.split('\t').map(printable_lines).collect();
        self.write(&cells.join("\t"))
    }

    /// Prints what belongs to several results, where they are not printed as JSON.
    pub fn text(&mut self, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.write(&printable_lines(&text())) }
    }

    /// Prints that a photo failed, where results are printed as JSON: who reads it need not count.
    pub fn failed(&mut self, photo: &Path, error: &Error) -> Result<(), Failure> {
        let failed = FailedPhoto { photo, error: error.to_string() };
        if self.json { self.print(&failed, |_| String::new()) } else { Ok(()) }
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = match self.to {
            To::Stdout => stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()),
            To::Stderr => io::stderr().write_all(text.as_bytes()),
            To::Nobody => Ok(()),
        };
        match written {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.to = To::Nobody;
                self.has_lost_its_reader = true;
                Ok(())
            }
            Err(e) => Err(Failure::stdout(&e)),
            Ok(()) => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct FailedPhoto<'a> {
    #[serde(serialize_with = "path")]
    photo: &'a Path,
    error: String,
}
