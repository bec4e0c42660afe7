//! A virtual GPU: the functions of the CUDA driver, executing the PTX that nvcc wrote on the CPU, warp by warp, with
//! checks that no GPU makes and counts of what each launch did.
//!
//! The way of a kernel: [`ptx`] parses the text and decodes it into an [`ir::Program`] → [`exec`] runs its blocks on
//! threads → every access goes through [`mem`], which checks it → the launch answers with [`counts::Counts`] or a
//! [`fault::Fault`]. [`driver`] is the C interface on top: contexts, modules, memory, streams, graphs.

pub mod counts;
pub mod driver;
pub mod exec;
pub mod fault;
pub mod ir;
pub mod mem;
pub mod profile;
pub mod ptx;
