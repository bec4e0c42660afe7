//! A transposed convolution whose stride is its kernel and the 3×3 convolution behind it, as one: each phase of the output has
//! filters of its own over the two or one coarse rows and columns that its 3×3 neighbours lie in (polyphase decomposition).
//!
//! Along one axis of stride s, output s·y + p sees coarse y − 1 and y where p = 0, y and y + 1 where p = s − 1, else y alone.

use super::{Buf, Matrix, Operand, Operation, PlanBuilder, Vector, need};

/// Its hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub outputs: usize,
    pub inputs: usize,
    /// At least 2.
    pub stride: usize,
}

/// Coarse rows, or columns, that a phase sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub count: usize,
    /// Whether the first of them lies before the phase's own.
    pub is_before: bool,
}

impl Window {
    /// The row, or column, of a map with so many whose window reaches over the border.
    pub fn over(self, side: usize) -> Option<usize> {
        match self {
            Window { count: 1, .. } => None,
            Window { is_before: true, .. } => Some(0),
            Window { is_before: false, .. } => Some(side - 1),
        }
    }
}

/// The ways in which a phase's window can lie at the map's border: whole or not, along either axis.
pub const BORDERS: usize = 4;

impl Shape {
    pub fn window(self, phase: usize) -> Window {
        Window { count: if phase == 0 || phase + 1 == self.stride { 2 } else { 1 }, is_before: phase == 0 }
    }

    pub fn phases(self) -> usize {
        self.stride * self.stride
    }

    /// Input pixels that phase (py, px) sees.
    pub fn taps(self, phase: usize) -> usize {
        self.window(phase / self.stride).count * self.window(phase % self.stride).count
    }

    /// Those of all phases.
    pub fn all_taps(self) -> usize {
        (self.stride + 2) * (self.stride + 2)
    }

    /// A matrix of all filters, row-major: `[all taps · outputs, inputs]`.
    pub fn size(self) -> (usize, usize) {
        (self.all_taps() * self.outputs, self.inputs)
    }

    /// Cuts what [`Shape::size`] measures: each phase's filters.
    pub fn cut(self, mut filters: &[f32]) -> impl Iterator<Item = &[f32]> {
        (0..self.phases()).map(move |phase| {
            let own;
            (own, filters) = filters.split_at(self.taps(phase) * self.outputs * self.inputs);
            own
        })
    }
}

/// Its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Phase by phase (py, px), each `[outputs, rows, columns, inputs]` of its window.
    pub weight: Matrix,
    /// `[phases, BORDERS, outputs]`: 1 of a border, where the window's rows reach over it; 2, where its columns do.
    pub bias: Vector,
    pub stride: usize,
}

impl Weights {
    pub fn outputs(&self) -> usize {
        self.bias.len / (BORDERS * self.stride * self.stride)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polyphase {
    /// `[b, h, w, inputs]`
    pub x: Buf,
    pub w: Weights,
    /// `[b, h·stride, w·stride, outputs]`
    pub out: Buf,
}

impl PlanBuilder {
    pub fn polyphase(&mut self, x: Buf, w: &Weights, out: Buf) {
        self.push(Polyphase { x, w: *w, out });
    }
}

impl Polyphase {
    pub fn shape(&self) -> Shape {
        Shape { outputs: self.out.channels(), inputs: self.x.channels(), stride: self.w.stride }
    }
}

impl Operation for Polyphase {
    fn check(&self) -> Result<(), String> {
        let (Polyphase { x, w: Weights { weight, bias, stride }, out }, shape) = (self, self.shape());
        let [b, h, w, _] = x.shape;
        need(*stride >= 2, || format!("a stride of {stride}: it is at least 2"))?;
        need((weight.n, weight.k) == shape.size(), || {
            format!("weights [{}, {}] where {shape:?} has {:?}", weight.n, weight.k, shape.size())
        })?;
        need([out.batch(), out.shape[1], out.shape[2]] == [b, h * stride, w * stride], || {
            format!("{:?} becomes {:?}", x.shape, out.shape)
        })?;
        need(bias.len == shape.phases() * BORDERS * shape.outputs, || format!("a bias of {} values", bias.len))
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
        format!("{} ×{1}×{1} 3×3 → {2}", self.x.describe(), self.w.stride, self.out.describe())
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
            (1, (1, 1), 1, 1, 2, Nothing),
            (2, (5, 7), 17, 17, 2, Nothing),
            (1, (13, 9), 33, 15, 4, Outliers),
            (2, (3, 5), 257, 3, 8, Nan),
            (1, (1, 1), 8, 8, 2, Nothing),
            (2, (5, 7), 72, 72, 2, Outliers),
            (1, (13, 9), 64, 136, 4, Nothing),
            (1, (2, 3), 24, 8, 8, Nothing),
            (1, (5, 1), 64, 33, 3, Nothing),
            (2, (13, 9), 72, 64, 2, Nan),
            (1, (5, 7), 64, 128, 4, Outliers),
            // Large tiles where there are few multiprocessors.
            (1, (23, 33), 136, 128, 2, Nothing),
            (1, (15, 30), 264, 200, 2, Nan),
        ];
        let made = |(batch, map, inputs, outputs, stride, plant)| case(batch, map, inputs, outputs, stride, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (30, 30), 256, 256, 4, Nothing));
        all.real.push(case(1, (30, 30), 512, 256, 2, Nothing));
    }

    pub fn case(batch: usize, (h, w): Map, inputs: usize, outputs: usize, stride: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, h, w, inputs], Element::Activation, 1.0);
        let shape = Shape { outputs, inputs, stride };
        let weight = c.phases(shape);
        let bias = c.vector(shape.phases() * BORDERS * outputs, 1.0);
        let out = c.output([batch, h * stride, w * stride, outputs], Element::Activation);
        let sizes = format!("{batch}x{h}x{w}x{inputs}-{outputs}-stride{stride}");
        c.build(sizes, out, Polyphase { x, w: Weights { weight, bias, stride }, out })
    }
}
