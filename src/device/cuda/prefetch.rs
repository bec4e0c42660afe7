//! Host side of kernels/prefetch.cuh: the weights of the products behind an operation.

use bytemuck::{Pod, Zeroable};

use super::ACTIVATION_BYTES;
use super::compile::Assembler;
use crate::ops::{Op, Step};

pub const PREFETCHES: usize = 2;

/// `Prefetch` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub struct Prefetch {
    address: u64,
    bytes: u64,
}

impl Assembler<'_> {
    /// Those that the next products read before another operation of the current one's kind asks for more.
    pub fn next_weights(&self) -> [Prefetch; PREFETCHES] {
        let current = self.current().op.name();
        let behind = self.behind().iter().take_while(|step| step.op.name() != current);
        let mut found = behind.filter_map(|step: &Step| match &step.op {
            Op::Gemm(op) => Some(op.w.weight),
            Op::GemmNorm(op) => Some(op.w.weight),
            _ => None,
        });
        [(); PREFETCHES].map(|()| {
            let weight = found.next().map(|weight| (weight.n, self.matrix(weight)));
            weight.map_or(Prefetch::default(), |(n, matrix)| Prefetch {
                address: matrix.address,
                bytes: (ACTIVATION_BYTES * n * matrix.stride) as u64,
            })
        })
    }
}
