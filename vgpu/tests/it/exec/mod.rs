//! The executor on kernels written as operations: arithmetic at its edges, divergence, barriers, what lanes do together.

mod arithmetic;
mod barriers;
mod blocks;
mod cluster;
mod copies;
mod dependency;
mod divergence;
mod mbarrier;
mod warps;

use vgpu_cuda::fault::Fault;

use crate::lab::{Lab, OPTIONS};

fn run(lab: &Lab, block: u32) -> Vec<u64> {
    lab.run(1, block, &OPTIONS).unwrap_or_else(|fault| panic!("{fault}")).0
}

fn fault(lab: &Lab, block: u32) -> Fault {
    lab.run(1, block, &OPTIONS).expect_err("a fault")
}
