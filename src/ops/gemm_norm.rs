//! A transformer's "add & norm": a linear layer onto the residual stream, and the LayerNorm of the stream.

use super::{Buf, Element, Epilogue, Gemm, LayerNorm, Linear, Operand, Operation, PlanBuilder, layer_norm, need};

/// out = x·Wᵀ + b + add; normed = LayerNorm(out), each row by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GemmNorm {
    /// `[b, 1, m, k]`, activations
    pub x: Buf,
    /// `[n, k]`
    pub w: Linear,
    /// The stream before: `[b, 1, m, n]`, float32
    pub add: Buf,
    pub norm: layer_norm::Weights,
    /// As `add`
    pub out: Buf,
    /// As `add`, activations
    pub normed: Buf,
}

impl PlanBuilder {
    pub fn gemm_norm(&mut self, x: Buf, w: &Linear, add: Buf, norm: &layer_norm::Weights, (out, normed): (Buf, Buf)) {
        self.push(GemmNorm { x, w: *w, add, norm: *norm, out, normed });
    }
}

impl GemmNorm {
    /// The first half.
    pub fn gemm(&self) -> Gemm {
        Gemm { x: self.x.all(), w: self.w, epilogue: Epilogue::add(self.add.all()), out: self.out.all() }
    }

    /// The second.
    pub fn layer_norm(&self) -> LayerNorm {
        LayerNorm { x: self.out, w: self.norm, out: self.normed }
    }
}

impl Operation for GemmNorm {
    fn check(&self) -> Result<(), String> {
        let GemmNorm { x, add, out, normed, .. } = self;
        need(add.shape == out.shape, || format!("{:?} is added to {:?}", add.shape, out.shape))?;
        let elements = [x, add, out, normed].map(|buf| buf.element);
        let expected = [Element::Activation, Element::F32, Element::F32, Element::Activation];
        need(elements == expected, || "the stream is float32, what goes into products activations".to_owned())?;
        self.gemm().check()?;
        self.layer_norm().check()
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        self.w.operands(see);
        see(Operand::Read(&mut self.add));
        see(Operand::Vector(&mut self.norm.weight));
        see(Operand::Vector(&mut self.norm.bias));
        see(Operand::Write(&mut self.out));
        see(Operand::Write(&mut self.normed));
    }

    fn flop(&self) -> usize {
        self.gemm().flop() + self.layer_norm().flop()
    }

    fn shapes(&self) -> String {
        self.gemm().shapes()
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases};

    pub fn add(all: &mut Cases) {
        // Rows of 512 and of 1024 have kernels of warpgroups.
        let awkward = [
            (1, 1, 8, 512, Nothing),
            (1, 63, 72, 512, Outliers),
            (2, 33, 136, 512, Nothing),
            (1, 130, 520, 512, Nan),
            (3, 1, 264, 1024, Outliers),
            (1, 65, 1032, 1024, Nothing),
            (2, 70, 64, 1024, Zeros),
            (1, 145, 72, 264, Outliers),
            (2, 3, 33, 20, Nothing),
        ];
        for (batch, rows, k, n, plant) in awkward {
            for is_norm in [false, true] {
                all.awkward.push(case(batch, rows, k, n, plant, is_norm));
            }
        }
        all.real.push(case(1, 901, 1024, 1024, Outliers, true));
        all.real.push(case(20, 12, 512, 512, Nothing, true));
    }

    /// Looked at is the norm, or the stream.
    pub fn case(batch: usize, rows: usize, k: usize, n: usize, plant: Plant, is_norm: bool) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, 1, rows, k], Element::Activation, 1.0);
        let shape = [batch, 1, rows, n];
        let add = c.input(shape, Element::F32, 1.0);
        let w = Linear { weight: c.matrix(n, k), bias: Some(c.vector(n, 1.0)) };
        let norm = layer_norm::Weights { weight: c.vector(n, 2.0), bias: c.vector(n, 1.0), eps: 1e-6 };
        let (out, normed) = (c.output(shape, Element::F32), c.output(shape, Element::Activation));
        let (name, seen) = if is_norm { ("norm", normed) } else { ("stream", out) };
        c.build(format!("{batch}x{rows}x{k}x{n}-{name}"), seen, GemmNorm { x, w, add, norm, out, normed })
    }
}
