//! A linear layer onto the residual stream, then the stream's LayerNorm: one after the other, for a row of the stream lies in the
//! first-level cache's reach no longer when the last panel of weights has passed.

use super::Cpu;
use crate::ops;

impl Cpu {
    pub(super) fn gemm_norm(&mut self, op: &ops::GemmNorm) {
        self.gemm(&op.gemm());
        self.layer_norm(&op.layer_norm());
    }
}
