//! Lines on stderr, each in one piece and of one line whatever names are in it. That stderr may be closed or full is no
//! reason to stop.

use std::fmt::Display;
use std::io::{self, Write};

use crate::printable::printable;

pub fn error(what: impl Display) {
    say("error", &what.to_string());
}

pub fn note(what: impl Display) {
    say("note", &what.to_string());
}

fn say(kind: &str, what: &str) {
    let line = format!("{kind}: {}\n", printable(what));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Notes for people, unless they want none, and errors.
#[derive(Clone, Copy)]
pub struct Notes {
    is_quiet: bool,
}

impl Notes {
    pub fn new(is_quiet: bool) -> Notes {
        Notes { is_quiet }
    }

    pub fn say(self, what: impl Display) {
        if !self.is_quiet {
            note(what);
        }
    }

    pub fn error(self, what: impl Display) {
        error(what);
    }
}
