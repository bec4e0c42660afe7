//! One row of each batch item.

use super::Cpu;
use crate::ops;

impl Cpu {
    pub(super) fn take_rows(&mut self, op: &ops::TakeRows) {
        let ops::TakeRows { x, index, out } = *op;
        let (inputs, out_all) = self.arena.split(out);
        let width = x.channels();
        for (b, (row, out)) in inputs.get_u32(index).iter().zip(out_all.chunks_exact_mut(width)).enumerate() {
            out.copy_from_slice(&inputs.item(x.all(), b)[*row as usize * width..][..width]);
        }
    }
}
