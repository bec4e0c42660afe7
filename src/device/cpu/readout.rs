//! The readout: level by level the class token's product, then the patches'.

use super::Cpu;
use crate::ops;

impl Cpu {
    pub(super) fn readout(&mut self, op: &ops::Readout) {
        for level in &op.levels {
            self.gemm(&level.class());
            self.gemm(&level.patches());
        }
    }
}
