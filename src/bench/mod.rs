//! Measuring the CUDA device: kernel by kernel on the table of cases, and whole frames; and whether it is right.

pub mod case;
pub mod check;
pub mod frame;
pub mod golden;
pub mod kernel_page;
pub mod kernels;
pub mod matmul;
pub mod peaks;
pub mod prediction;
pub mod sweep;
pub mod windows;
