//! Measuring the CUDA device: kernel by kernel on the table of cases, and whole frames.

pub mod frame;
pub mod kernels;
pub mod peaks;
pub mod prediction;
