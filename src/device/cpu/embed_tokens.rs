//! Token ids → table row + position row.

use super::Cpu;
use crate::ops;

impl Cpu {
    pub(super) fn embed_tokens(&mut self, op: &ops::EmbedTokens) {
        let ops::EmbedTokens { ids, table, positions, out } = *op;
        let (table, positions) = (self.weights.packed(table), self.weights.vector(positions));
        let (inputs, out_all) = self.arena.split(out);
        let (t, width) = (out.rows(), out.channels());
        for (i, (id, out)) in inputs.get_u32(ids).iter().zip(out_all.chunks_exact_mut(width)).enumerate() {
            let (token, position) = (table.row(*id as usize), &positions[i % t * width..][..width]);
            out.iter_mut().zip(token).zip(position).for_each(|((o, a), b)| *o = a + b);
        }
    }
}
