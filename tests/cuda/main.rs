//! The CUDA device: every operation against float64 on the table of cases, what the virtual GPU counts, kernels broken on
//! purpose. Without a GPU or the virtual one (`cargo xtask test` has it) the tests say that they are skipped.
//!
//! `LSEG_CASE=gemm` runs the cases alone whose name contains it.

mod bounds;
#[path = "../cases/mod.rs"]
mod cases;
mod counts;
mod dump;
mod gelu;
mod golden;
mod gpu;
mod mutants;
mod numbers;
mod operations;
#[path = "../support_golden/mod.rs"]
mod support_golden;
#[path = "../support_gpu/mod.rs"]
mod support_gpu;
#[path = "../support_network/mod.rs"]
mod support_network;
