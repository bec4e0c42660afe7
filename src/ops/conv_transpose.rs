//! A transposed convolution whose stride is its kernel: a product, then a pixel shuffle.

use super::{Buf, Matrix, Operand, Operation, PlanBuilder, Vector, need};

/// Its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// `[stride·stride·outputs, inputs]`, rows ordered (ky, kx, output)
    pub weight: Matrix,
    /// `[stride·stride·outputs]`: the bias repeated for every (ky, kx)
    pub bias: Vector,
    pub stride: usize,
}

/// out[b, y·s + ky, x·s + kx, :] = W[ky, kx]·x[b, y, x, :] + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// `[b, h, w, inputs]`
    pub x: Buf,
    pub w: Weights,
    /// `[b, h·stride, w·stride, outputs]`
    pub out: Buf,
}

impl PlanBuilder {
    pub fn conv_transpose(&mut self, x: Buf, w: &Weights, out: Buf) {
        self.push(ConvTranspose { x, w: *w, out });
    }
}

impl Operation for ConvTranspose {
    fn check(&self) -> Result<(), String> {
        let ConvTranspose { x, w: Weights { weight, bias, stride }, out } = self;
        let [b, h, w, c] = x.shape;
        let outputs = weight.n / (stride * stride);
        need(c == weight.k, || format!("{c} channels for a depth of {}", weight.k))?;
        need(out.shape == [b, h * stride, w * stride, outputs], || format!("{:?} becomes {:?}", x.shape, out.shape))?;
        need(bias.len == weight.n, || format!("a bias of {} values for {} rows", bias.len, weight.n))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Matrix(&mut self.w.weight));
        see(Operand::Vector(&mut self.w.bias));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        2 * self.x.batch() * self.x.rows() * self.w.weight.n * self.w.weight.k
    }

    fn shapes(&self) -> String {
        format!("{0} {1}×{1} stride {1} → {2}", self.x.describe(), self.w.stride, self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (2, (5, 7), 72, 72, 2, Outliers),
            (1, (13, 9), 64, 136, 4, Nothing),
            (1, (2, 3), 24, 8, 8, Nothing),
            // Channels in whole boxes of 64, lines that are no whole boxes of pixels.
            (2, (13, 9), 72, 64, 2, Outliers),
            (1, (5, 7), 64, 128, 4, Nothing),
            (1, (1, 1), 1, 1, 2, Nothing),
            (2, (5, 7), 17, 17, 2, Nothing),
            (1, (13, 9), 33, 15, 4, Outliers),
            (2, (3, 5), 257, 3, 8, Nan),
        ];
        let made = |(batch, map, inputs, outputs, stride, plant)| case(batch, map, inputs, outputs, stride, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (30, 30), 256, 256, 4, Nothing));
        all.real.push(case(1, (30, 30), 512, 512, 2, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, inputs: usize, outputs: usize, stride: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, h, w, inputs], Element::Activation, 1.0);
        let weight = c.matrix(stride * stride * outputs, inputs);
        let bias = c.repeated(outputs, 1.0, stride * stride);
        let out = c.output([batch, h * stride, w * stride, outputs], Element::Activation);
        let sizes = format!("{batch}x{h}x{w}x{inputs}-{outputs}-stride{stride}");
        c.build(sizes, out, ConvTranspose { x, w: Weights { weight, bias, stride }, out })
    }
}
