//! Where to compute, as a caller says it.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where one works, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// A GPU by its number (the first if none).
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "auto" => return Ok(DeviceChoice::Auto),
            None if text == "cpu" => return Ok(DeviceChoice::Cpu),
            None if text == "cuda" => return Ok(DeviceChoice::Cuda(None)),
            Some(("cuda", number)) => {
                if let Ok(number) = number.parse() {
                    return Ok(DeviceChoice::Cuda(Some(number)));
                }
            }
            _ => {}
        }
        Err(Error::Device(format!("device {text:?}: expected auto, cpu, cuda or cuda:N")))
    }
}
