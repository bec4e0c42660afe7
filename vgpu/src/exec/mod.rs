//! Runs a kernel's blocks on the machine's threads.
//!
//! `launch` hands blocks to threads; a `block` runs its warps to their next barrier; `run` executes a `warp`'s
//! instructions, group by group of lanes that stand together; the other files are the instructions' work.

// Loops over lanes run over several rows at once.
#![allow(clippy::needless_range_loop)]

mod alu;
mod approx;
mod barrier;
mod block;
mod block_barrier;
mod block_communication;
mod bulk;
mod classify;
mod cluster;
mod compare;
mod control;
mod convert;
mod dependency;
mod flights;
mod float;
mod format;
mod half;
mod launch;
mod mbarrier;
mod memory;
mod mma;
mod print;
mod registers;
mod remote;
mod round;
mod run;
mod special;
mod tensor;
pub mod tensor_core;
mod trace;
mod warp;
mod wgmma;
mod wgmma_product;
mod wgmma_registers;
mod windows;

use crate::counts::Counts;
use crate::fault::Fault;
use crate::ir::{Kernel, Program};
use crate::mem::GlobalMemory;
use crate::profile::Profile;

/// How tensor cores compute: plain float32 sums, or bit for bit as the profile's hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorMode {
    Fast,
    Hardware,
}

/// How launches are run: from the environment (VGPU_*), read once by the driver.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// 0: warps in order, lowest program counter first, cp.async as late as legal. Another seed alternates the order of
    /// warps, blocks and diverged lanes, and copies cp.async as early as possible.
    pub schedule: u64,
    pub tensor: TensorMode,
    /// Perturb approximate operations within their documented bounds.
    pub jitter: bool,
    /// Print each instruction of block 0, warp 0 to stderr.
    pub trace: bool,
    /// Host threads that run blocks.
    pub threads: usize,
    /// Warp instructions after which a launch counts as endless.
    pub limit: u64,
}

/// One launch, validated by the driver (grid and block limits, shared memory).
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    pub program: &'a Program,
    pub kernel: &'a Kernel,
    /// Constant slots with relocations applied.
    pub constants: &'a [u32],
    /// The module's `.const` bank.
    pub const_bank: &'a [u8],
    pub params: &'a [u8],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: usize,
    /// Blocks of a cluster; each divides the grid's.
    pub cluster: [u32; 3],
    /// Earlier launches (their [`Ran::unfinished`]) that may still run until this one executes griddepcontrol.wait.
    pub unfinished: &'a [u16],
    /// Address of a cooperative launch's workspace, which `%envreg1` (high) and `%envreg2` (low) tell; else 0.
    pub workspace: u64,
}

/// A launch that came to its end.
#[derive(Clone, Debug)]
pub struct Ran {
    pub counts: Counts,
    /// Launches that a dependent one, begun as early as it may, finds unfinished: this one, and those before it for which not
    /// every block waited.
    pub unfinished: Vec<u16>,
}

/// Runs it to the end, or to the first fault (the lowest block's, so that a fixed seed gives a fixed report).
#[allow(clippy::result_large_err)]
pub fn run(launch: &Launch<'_>, global: &GlobalMemory, profile: &Profile, options: &Options) -> Result<Ran, Fault> {
    launch::run(launch, global, profile, options)
}
