//! How a call can end, and with which exit code: docs/exit-codes.md.

use std::fmt;
use std::process::ExitCode;

use crate::Error;

/// A file or the machine failed.
const FAILED: u8 = 1;

/// The call was wrong.
pub const WRONG_CALL: u8 = 2;

/// A call that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Some photos failed, each named on stderr.
    SomeFailed,
}

impl Outcome {
    pub fn exit_code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::SomeFailed => ExitCode::from(FAILED),
        }
    }
}

/// A call that ended early, with the reason in one line.
#[derive(Debug)]
pub enum Failure {
    /// The call itself was wrong.
    Call(String),
    /// A file or the machine failed.
    Input(String),
}

impl Failure {
    /// For arguments that contradict each other or what is there. (An [`Error`] has its own code.)
    pub fn call(reason: impl Into<String>) -> Failure {
        Failure::Call(reason.into())
    }

    /// For what cannot be said because stdout does not take it.
    pub fn stdout(error: &std::io::Error) -> Failure {
        Failure::Input(format!("cannot write to standard output: {error}"))
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Call(_) => WRONG_CALL,
            Failure::Input(_) => FAILED,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let reason = error.to_string();
        if is_the_calls(&error) { Failure::Call(reason) } else { Failure::Input(reason) }
    }
}

/// Whether another call would be right, with the same files on the same machine: by its cause alone, in every command.
fn is_the_calls(error: &Error) -> bool {
    match error {
        Error::NoModel
        | Error::Labels(_)
        | Error::Template(_)
        | Error::Palette(_)
        | Error::Points(_)
        | Error::Data(_)
        | Error::Size(_)
        | Error::Foreign(_)
        | Error::Device(_) => true,
        Error::Io { .. }
        | Error::Output { .. }
        | Error::Checkpoint { .. }
        | Error::MissingTensor { .. }
        | Error::Tensor { .. }
        | Error::Config { .. }
        | Error::Photo { .. }
        | Error::Lost(_)
        | Error::Memory(_)
        | Error::Busy(_)
        | Error::NotFinite(_)
        | Error::Video(_) => false,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Call(reason) | Failure::Input(reason) => f.write_str(reason),
        }
    }
}
