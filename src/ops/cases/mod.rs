//! Operations with sizes to try them at and seeded values: one list for tests, `bench kernels` and every device.
//!
//! Each operation's cases stand in its room. [`awkward`] has the sizes that kernels get wrong (odd, ragged, one, just past a
//! block), with values planted where arithmetic goes wrong; [`long`] a sequence of thousands of tokens; [`real`] the shapes
//! of the published models at 480×480: vitl16 with 20 labels, then what rn101 and the text tower have of their own.

mod data;

use std::sync::LazyLock;

use half::f16;

pub use self::data::{Input, Prepared, Seeded, Table, Values, Weights};
use super::{Buf, Element, Matrix, Op, Operand, PlanBuilder, Vector, Weight, conv, polyphase};

/// (height, width)
pub type Map = (usize, usize);

/// What is planted among seeded values of about 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plant {
    Nothing,
    /// Some channels are 300 times the others, as in trained transformers; attention logits reach ±80.
    Outliers,
    /// Some values are NaN.
    Nan,
    /// Some values are infinite, in the first batch item alone.
    Infinite,
    /// Some rows are zeros.
    Zeros,
}

/// An operation on buffers and weights of its own, which are numbered from 0 in the order of their declarations.
pub struct Case {
    /// "layer_norm/2x3x768/nan": unlike every other case's, and what stored errors are found by.
    pub name: String,
    pub op: Op,
    pub plant: Plant,
    /// The output that is looked at; the first input where the operation works in place.
    pub out: Buf,
    buffers: Vec<Buf>,
    inputs: Vec<Buf>,
    draws: Vec<Draw>,
    /// Bytes of the operation's buffers and weights that it need not move.
    spared: usize,
}

type Draw = Box<dyn Fn(&mut Seeded, &mut Prepared) + Send + Sync>;

impl Case {
    /// Its values; the same each time.
    pub fn prepare(&self) -> Prepared {
        let (mut seeded, mut prepared) = (Seeded::new(2022), Prepared::default());
        self.draws.iter().for_each(|draw| draw(&mut seeded, &mut prepared));
        prepared
    }

    /// The operation alone, with a device's weights, as a forward pass.
    pub fn record(&self, d: &mut PlanBuilder, weights: &Weights) {
        let mut op = self.op;
        op.operands(&mut |operand| match operand {
            Operand::Matrix(matrix) => *matrix = weights.matrices[matrix.index],
            Operand::Vector(vector) => *vector = weights.vectors[vector.index],
            Operand::Read(_) | Operand::Write(_) | Operand::Update(_) => {}
        });
        for buf in &self.buffers {
            d.buffer(if self.inputs.contains(buf) { "input" } else { "output" }, buf.shape, buf.element);
        }
        d.output(self.out);
        d.push(op);
    }

    /// The buffers that the host fills, in the order of [`Prepared::inputs`].
    pub fn inputs(&self) -> &[Buf] {
        &self.inputs
    }

    /// Handles of its weights in shape alone, for plans that no device runs.
    pub fn shapes(&self) -> Weights {
        let mut weights = Weights { matrices: Vec::new(), vectors: Vec::new() };
        self.op.clone().operands(&mut |operand| match operand {
            Operand::Matrix(matrix) => weights.matrices.push(*matrix),
            Operand::Vector(vector) => weights.vectors.push(*vector),
            Operand::Read(_) | Operand::Write(_) | Operand::Update(_) => {}
        });
        weights.matrices.sort_by_key(|matrix| matrix.index);
        weights.vectors.sort_by_key(|vector| vector.index);
        weights
    }

    /// Bytes of the outputs, activations in float16.
    pub fn stored_bytes(&self) -> u64 {
        let mut bytes = 0;
        self.op.clone().operands(&mut |operand| match operand {
            Operand::Write(buf) | Operand::Update(buf) => bytes += buf.len() * buf.element.bytes(2),
            Operand::Read(_) | Operand::Matrix(_) | Operand::Vector(_) => {}
        });
        bytes as u64
    }

    /// The fewest bytes that it can move: each value that it needs once, each value of its outputs once; activations and
    /// matrices in float16, vectors in float32.
    pub fn least_bytes(&self) -> u64 {
        (self.op.bytes(2) - self.spared) as u64
    }
}

/// A case in the making: declares buffers and weights, whose values are drawn in this order.
pub struct CaseBuilder {
    plant: Plant,
    buffers: Vec<Buf>,
    inputs: Vec<Buf>,
    draws: Vec<Draw>,
    matrices: usize,
    vectors: usize,
    spared: usize,
}

impl CaseBuilder {
    pub fn new(plant: Plant) -> CaseBuilder {
        let (buffers, inputs, draws) = (Vec::new(), Vec::new(), Vec::new());
        CaseBuilder { plant, buffers, inputs, draws, matrices: 0, vectors: 0, spared: 0 }
    }

    /// A buffer that the host fills with values in (−scale, scale); what is planted, in the first.
    pub fn input(&mut self, shape: [usize; 4], element: Element, scale: f32) -> Buf {
        let plant = if self.inputs.is_empty() { self.plant } else { Plant::Nothing };
        self.input_of(shape, element, move |seeded| {
            let mut values = seeded.values(shape.iter().product(), scale);
            plant.add_to(&mut values, shape);
            Values::F32(values)
        })
    }

    /// A buffer that the host fills with what `draw` makes.
    pub fn input_of(
        &mut self,
        shape: [usize; 4],
        element: Element,
        draw: impl Fn(&mut Seeded) -> Values + Send + Sync + 'static,
    ) -> Buf {
        self.draw(move |seeded, prepared| {
            let values = draw(seeded);
            prepared.inputs.push(Input { shape, element, values });
        });
        let buf = self.output(shape, element);
        self.inputs.push(buf);
        buf
    }

    pub fn output(&mut self, shape: [usize; 4], element: Element) -> Buf {
        let buf = Buf { index: self.buffers.len(), offset: 0, shape, element };
        self.buffers.push(buf);
        buf
    }

    /// `[n, k]`
    pub fn matrix(&mut self, n: usize, k: usize) -> Matrix {
        self.matrix_of(Weight::Matrix { n, k, halves: false })
    }

    /// The weights of a convolution.
    pub fn filters(&mut self, shape: conv::Shape) -> Matrix {
        self.matrix_of(Weight::Filters(shape))
    }

    /// Those of a polyphase convolution.
    pub fn phases(&mut self, shape: polyphase::Shape) -> Matrix {
        self.matrix_of(Weight::Phases(shape))
    }

    fn matrix_of(&mut self, weight: Weight) -> Matrix {
        let (n, k) = weight.size();
        self.draw(move |seeded, prepared| {
            let values = seeded.values(n * k, 1.7 / (k as f32).sqrt());
            prepared.matrices.push(Table { n, k, values, weight });
        });
        self.matrices += 1;
        Matrix { index: self.matrices - 1, n, k }
    }

    /// Values in (−scale, scale).
    pub fn vector(&mut self, len: usize, scale: f32) -> Vector {
        self.draw(move |seeded, prepared| prepared.vectors.push(seeded.values(len, scale)));
        self.vectors += 1;
        Vector { index: self.vectors - 1, len }
    }

    fn draw(&mut self, draw: impl Fn(&mut Seeded, &mut Prepared) + Send + Sync + 'static) {
        self.draws.push(Box::new(draw));
    }

    /// Says that the operation need not move so many bytes of its buffers and weights (see [`Case::least_bytes`]).
    pub fn spare(&mut self, bytes: usize) {
        self.spared += bytes;
    }

    /// `sizes` are those of the name.
    pub fn build(self, sizes: String, out: Buf, op: impl Into<Op>) -> Case {
        let (op, plant) = (op.into(), self.plant);
        let planted = if plant == Plant::Nothing { String::new() } else { format!("/{}", lowercase(plant)) };
        let name = format!("{}/{sizes}{planted}", op.name());
        let CaseBuilder { buffers, inputs, draws, spared, .. } = self;
        Case { name, op, plant, out, buffers, inputs, draws, spared }
    }
}

/// The name of a variant.
pub fn lowercase(variant: impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

/// "-bias-add2": what is true, for a name.
pub fn switches<const N: usize>(switches: [(bool, &str); N]) -> String {
    switches.iter().filter(|(on, _)| *on).map(|(_, name)| format!("-{name}")).collect()
}

/// All cases, which the rooms add theirs to.
#[derive(Default)]
pub struct Cases {
    pub awkward: Vec<Case>,
    pub long: Vec<Case>,
    pub real: Vec<Case>,
}

static ALL: LazyLock<Cases> = LazyLock::new(super::all_cases);

/// Small and uneven.
pub fn awkward() -> &'static [Case] {
    &ALL.awkward
}

/// 1024×1024 pixels are 4,097 tokens.
pub fn long() -> &'static [Case] {
    &ALL.long
}

/// The published models'.
pub fn real() -> &'static [Case] {
    &ALL.real
}

/// An output as numbers, from a device whose activations take `activation` bytes.
pub fn numbers(bytes: &[u8], element: Element, activation: usize) -> Vec<f32> {
    match element {
        Element::F16 | Element::Activation if element.bytes(activation) == 2 => {
            bytemuck::pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f16::to_f32).collect()
        }
        Element::U8 => bytes.iter().copied().map(f32::from).collect(),
        Element::U16 => bytemuck::pod_collect_to_vec::<u8, u16>(bytes).into_iter().map(f32::from).collect(),
        Element::U32 => bytemuck::pod_collect_to_vec::<u8, u32>(bytes).into_iter().map(|n| n as f32).collect(),
        _ => bytemuck::pod_collect_to_vec(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> impl Iterator<Item = &'static Case> {
        awkward().iter().chain(long()).chain(real())
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        all().for_each(|case| assert!(names.insert(&case.name), "two cases are called {}", case.name));
    }

    #[test]
    fn every_operation_has_awkward_and_real_cases() {
        for list in [awkward(), real()] {
            let names: BTreeSet<&str> = list.iter().map(|case| case.op.name()).collect();
            assert_eq!(names, Op::NAMES.iter().copied().collect());
        }
    }

    #[test]
    fn every_case_fits_its_operation() {
        for case in all() {
            let mut d = PlanBuilder::default();
            case.record(&mut d, &case.shapes());
            assert!(d.steps.len() == 1 && case.least_bytes() > 0, "{}", case.name);
        }
    }
}
