//! A linear layer onto the residual stream, then the stream's LayerNorm.

use super::Cpu;
use crate::ops;

impl Cpu {
    pub(super) fn gemm_norm(&mut self, op: &ops::GemmNorm) {
        self.gemm(&op.gemm());
        self.layer_norm(&op.layer_norm());
    }
}
