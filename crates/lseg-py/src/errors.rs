//! The engine's errors as the classes of `lseg_fast.errors`.

use lseg_fast::Error;
use pyo3::prelude::*;

/// The exception of an error of the engine.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Labels(_)
        | Error::Template(_)
        | Error::Points(_)
        | Error::Size(_)
        | Error::Palette(_)
        | Error::Photo { .. }
        | Error::Foreign(_) => "InputError",
        Error::Device(_) => "DeviceError",
        Error::Lost(_) => "LostError",
        Error::Busy(_) => "BusyError",
        Error::Memory(_) => "OutOfMemoryError",
        Error::Io { .. }
        | Error::Checkpoint { .. }
        | Error::MissingTensor { .. }
        | Error::Tensor { .. }
        | Error::Config { .. }
        | Error::NoModel
        | Error::NotFinite(_) => "ModelError",
        _ => "Error",
    };
    new(py, class, error.to_string())
}

/// What the caller gave is not what is taken.
pub fn input(py: Python<'_>, message: impl Into<String>) -> PyErr {
    new(py, "InputError", message.into())
}

/// Of this class of `lseg_fast.errors`.
pub fn new(py: Python<'_>, class: &str, message: String) -> PyErr {
    match py.import("lseg_fast.errors").and_then(|errors| errors.getattr(class)?.call1((message,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
