//! Token ids → table row + position row.

use super::{Buf, Element, Matrix, Operand, Operation, PlanBuilder, Vector, need};

/// Token ids (`U32`, `[b, 1, t, 1]`) → `[b, 1, t, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedTokens {
    pub ids: Buf,
    /// `[vocab, width]`
    pub table: Matrix,
    /// `[context, width]`
    pub positions: Vector,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn embed_tokens(&mut self, ids: Buf, table: Matrix, positions: Vector, out: Buf) {
        self.push(EmbedTokens { ids, table, positions, out });
    }
}

impl Operation for EmbedTokens {
    fn check(&self) -> Result<(), String> {
        let EmbedTokens { ids, table, positions, out } = self;
        let [b, h, t, width] = out.shape;
        need(ids.element == Element::U32 && ids.shape == [b, h, t, 1], || format!("ids of {:?}", ids.shape))?;
        need(table.k == width, || format!("a table {} wide for {width} channels", table.k))?;
        need(positions.len >= t * width, || format!("{t} tokens for {} position values", positions.len))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.ids));
        see(Operand::Matrix(&mut self.table));
        see(Operand::Vector(&mut self.positions));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        self.out.len()
    }

    fn shapes(&self) -> String {
        self.out.describe()
    }

    /// A row of each for a token.
    fn gathered_bytes(&self, activation: usize) -> Option<usize> {
        Some(self.out.len() * (activation + Element::F32.bytes(activation)))
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::Nothing;
    use crate::ops::cases::{Case, CaseBuilder, Cases, Values};

    pub fn add(all: &mut Cases) {
        all.awkward.push(case(1, 1, 3, 2));
        all.awkward.push(case(2, 7, 33, 19));
        all.awkward.push(case(3, 12, 64, 300));
        all.real.push(case(20, 12, 512, 49_408));
    }

    pub fn case(batch: usize, tokens: usize, width: usize, vocab: usize) -> Case {
        let mut c = CaseBuilder::new(Nothing);
        let drawn: Vec<u32> = (0..batch * tokens).map(|i| ((i * 7 + vocab - 1) % vocab) as u32).collect();
        let mut different = drawn.clone();
        different.sort_unstable();
        different.dedup();
        let ids = c.input_of([batch, 1, tokens, 1], Element::U32, move |_| Values::U32(drawn.clone()));
        let table = c.matrix(vocab, width);
        let positions = c.vector((tokens + 2) * width, 1.0);
        let out = c.output([batch, 1, tokens, width], Element::F32);
        let op = EmbedTokens { ids, table, positions, out };
        // Rows that several tokens read.
        let gathered = op.gathered_bytes(2).unwrap_or(0);
        c.spare(gathered - width * (2 * different.len() + Element::F32.bytes(2) * tokens));
        c.build(format!("{batch}x{tokens}x{width}-vocab{vocab}"), out, op)
    }
}
