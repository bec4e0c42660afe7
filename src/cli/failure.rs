//! How a call can end.

use std::fmt;
use std::process::ExitCode;

use lseg_fast::Error;

/// A call that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Some inputs failed, each named on stderr; the others are done.
    SomeFailed,
}

impl Outcome {
    pub fn exit_code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::SomeFailed => ExitCode::from(1),
        }
    }
}

/// A call that ended early, with the reason in one line.
#[derive(Debug)]
pub enum Failure {
    /// The call itself was wrong.
    Call(String),
    /// The one input failed.
    Input(String),
}

impl Failure {
    /// For whatever goes wrong before the first input is begun.
    pub fn call(reason: impl fmt::Display) -> Failure {
        Failure::Call(reason.to_string())
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Call(_) => ExitCode::from(2),
            Failure::Input(_) => ExitCode::from(1),
        }
    }
}

impl From<Error> for Failure {
    /// What was typed is the call's fault; what is in a file is the input's.
    fn from(error: Error) -> Failure {
        let reason = error.to_string();
        match error {
            Error::Labels(_)
            | Error::Template(_)
            | Error::Palette(_)
            | Error::Points(_)
            | Error::Size(_)
            | Error::Device(_)
            | Error::Output { .. } => Failure::Call(reason),
            _ => Failure::Input(reason),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Call(reason) | Failure::Input(reason) => f.write_str(reason),
        }
    }
}
