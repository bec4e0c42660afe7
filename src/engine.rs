//! The engine: a model on a device, a list of labels, and one planned session per (size, labels, outputs).

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::model::config::Config;
use crate::protocol::Size;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(None)),
            _ => match text.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                Some(n) => Ok(DeviceChoice::Cuda(Some(n))),
                None => Err(Error::Device(format!("device \"{text}\": expected auto, cpu, cuda or cuda:N"))),
            },
        }
    }
}

pub struct Options {
    pub device: DeviceChoice,
    pub threads: Option<usize>,
}

pub struct Frame<'a> {
    pub width: usize,
    pub height: usize,
    pub rgb: &'a [u8],
}

pub struct Engine {
    config: Config,
}

impl Engine {
    pub fn load(_path: &Path, _options: &Options) -> Result<Engine> {
        Err(Error::Device("the engine is not there yet".into()))
    }
    pub fn config(&self) -> &Config {
        &self.config
    }
    pub fn device(&self) -> &str {
        ""
    }
    pub fn note(&self) -> Option<&str> {
        None
    }
    pub fn set_labels<S: AsRef<str>>(&mut self, _labels: &[S]) -> Result<()> {
        Ok(())
    }
    pub fn labels(&self) -> &[String] {
        &[]
    }
    pub fn set_size(&mut self, _size: Size) {}
    pub fn segment(&mut self, _frame: &Frame) -> Result<Segmentation> {
        Err(Error::Device("the engine is not there yet".into()))
    }
    pub fn segment_with_scores(&mut self, _frame: &Frame) -> Result<(Segmentation, Scores)> {
        Err(Error::Device("the engine is not there yet".into()))
    }
    pub fn text_time(&self) -> Duration {
        Duration::ZERO
    }
    pub fn stage_times(&self) -> &[(&'static str, Duration)] {
        &[]
    }
}

pub struct Segmentation {
    pub width: usize,
    pub height: usize,
    pub mask: Vec<u16>,
}

impl Segmentation {
    pub fn shares(&self, labels: usize) -> Vec<f64> {
        vec![0.0; labels]
    }
}

pub struct Scores {
    pub labels: usize,
    pub height: usize,
    pub width: usize,
    pub data: Vec<f32>,
}

pub struct PlanReport {
    pub ops: Vec<PlanOp>,
    pub buffers: Vec<PlanBuffer>,
    pub arena_bytes: usize,
    pub weight_bytes: usize,
}

pub struct PlanOp {
    pub scope: String,
    pub op: &'static str,
    pub shapes: String,
    pub gflop: f64,
    pub bytes: u64,
}

pub struct PlanBuffer {
    pub name: String,
    pub shape: String,
    pub dtype: &'static str,
    pub bytes: usize,
    pub offset: usize,
    pub first_op: usize,
    pub last_op: usize,
}

pub fn plan(_config: &Config, _height: usize, _width: usize, _labels: usize) -> PlanReport {
    PlanReport { ops: Vec::new(), buffers: Vec::new(), arena_bytes: 0, weight_bytes: 0 }
}
