//! Lines on stderr. That stderr may be closed or full is no reason to stop.

use std::fmt::Display;
use std::io::{self, Write};

pub fn error(what: impl Display) {
    let _ = writeln!(io::stderr(), "error: {what}");
}

pub fn note(what: impl Display) {
    let _ = writeln!(io::stderr(), "note: {what}");
}
