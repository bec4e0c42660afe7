//! The CUDA device: every operation against float64 on the table of cases, what the virtual GPU counts, kernels broken on
//! purpose, the machine code of those for warpgroups; and in `host` what users see of it beside its results. Without a GPU or the
//! virtual one (`cargo xtask test` has it) the tests say that they are skipped.
//!
//! `LSEG_CASE=gemm` runs the cases alone whose name contains it.

mod bounds;
mod counts;
mod dump;
mod gelu;
mod golden;
mod gpu;
mod host;
mod kernels_page;
mod mutants;
mod numbers;
mod operations;
mod overlap;
mod prefetch;
mod protocols;
mod sass;
mod sass_attention;
mod warpgroups;
