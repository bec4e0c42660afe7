//! LayerNorm over the channels of every row.

use super::{Buf, Operand, Operation, PlanBuilder, Vector, need};

/// Its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// `[width]`
    pub weight: Vector,
    /// `[width]`
    pub bias: Vector,
    pub eps: f32,
}

/// out = (x − mean) / √(variance + eps) · weight + bias, each row by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// `[b, 1, rows, width]`, float32
    pub x: Buf,
    pub w: Weights,
    /// As `x`, activations
    pub out: Buf,
}

impl PlanBuilder {
    pub fn layer_norm(&mut self, x: Buf, w: &Weights, out: Buf) {
        self.push(LayerNorm { x, w: *w, out });
    }
}

impl Operation for LayerNorm {
    fn check(&self) -> Result<(), String> {
        let LayerNorm { x, w, out } = self;
        need(x.shape == out.shape, || format!("{:?} become {:?}", x.shape, out.shape))?;
        let widths = [w.weight.len, w.bias.len];
        need(widths == [x.channels(); 2], || format!("weights of {widths:?} values for {} channels", x.channels()))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Vector(&mut self.w.weight));
        see(Operand::Vector(&mut self.w.bias));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        8 * self.x.len()
    }

    fn shapes(&self) -> String {
        self.x.describe()
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, 1, 1, Nothing),
            (2, 5, 33, Nan),
            (1, 145, 300, Outliers),
            (2, 7, 17, Zeros),
            (1, 7, 1024, Outliers),
            (2, 3, 768, Nan),
            (1, 145, 64, Outliers),
            (1, 2, 1025, Outliers),
            (1, 1, 4, Nothing),
        ];
        all.awkward.extend(awkward.map(|(batch, rows, channels, plant)| case(batch, rows, channels, plant)));
        all.real.push(case(1, 901, 1024, Outliers));
    }

    pub fn case(batch: usize, rows: usize, channels: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let shape = [batch, 1, rows, channels];
        let x = c.input(shape, Element::F32, 1.0);
        let w = Weights { weight: c.vector(channels, 2.0), bias: c.vector(channels, 1.0), eps: 1e-6 };
        let out = c.output(shape, Element::Activation);
        c.build(format!("{batch}x{rows}x{channels}"), out, LayerNorm { x, w, out })
    }
}
