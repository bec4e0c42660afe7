//! Results on stdout.

use std::io::{self, ErrorKind, Write};

use super::Failure;

/// Prints results. A reader that has gone away (`… | head -1`) is no failure: what is still to be printed is dropped
/// and the work goes on, because files may be its product.
#[derive(Default)]
pub struct Printer {
    gone: bool,
}

impl Printer {
    /// Prints `text` at once.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
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
