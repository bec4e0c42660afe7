//! Seeded values of a case: its inputs and its weights.

use half::f16;

use super::Plant;
use crate::error::Result;
use crate::ops::Upload;
use crate::ops::{Element, Matrix, Op, Vector, Weight};

/// Pseudo-random numbers, the same everywhere (Knuth's linear congruential generator).
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    /// Evenly in (−scale, scale).
    pub fn value(&mut self, scale: f32) -> f32 {
        scale * (self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0)
    }

    pub fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.value(scale)).collect()
    }

    /// Of a photo.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// What the host writes into a buffer.
#[derive(Clone, Debug)]
pub enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Values {
    pub fn f32(&self) -> &[f32] {
        match self {
            Values::F32(values) => values,
            other => panic!("{other:?} are no float32 values"),
        }
    }

    pub fn u8(&self) -> &[u8] {
        match self {
            Values::U8(values) => values,
            other => panic!("{other:?} are no bytes"),
        }
    }

    /// A mask's.
    pub fn labels(&self) -> Vec<u16> {
        match self {
            Values::U8(values) => values.iter().copied().map(u16::from).collect(),
            Values::U16(values) => values.clone(),
            other => panic!("{other:?} are no labels"),
        }
    }

    pub fn u32(&self) -> &[u32] {
        match self {
            Values::U32(values) => values,
            other => panic!("{other:?} are no ids"),
        }
    }

    /// As a buffer of `element` has them on a device whose activations take `activation` bytes: 4, or 2 for float16.
    pub fn bytes(&self, element: Element, activation: usize) -> Vec<u8> {
        match self {
            Values::F32(values) if element.bytes(activation) == 2 => {
                let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
                bytemuck::pod_collect_to_vec(&halves)
            }
            Values::F32(values) => bytemuck::pod_collect_to_vec(values),
            Values::U8(values) => values.clone(),
            Values::U16(values) => bytemuck::pod_collect_to_vec(values),
            Values::U32(values) => bytemuck::pod_collect_to_vec(values),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Input {
    pub shape: [usize; 4],
    pub element: Element,
    pub values: Values,
}

/// A weight matrix on the host, `[n, k]`.
#[derive(Clone, Debug)]
pub struct Table {
    pub n: usize,
    pub k: usize,
    pub values: Vec<f32>,
    /// What it is.
    pub weight: Weight,
}

impl Table {
    fn upload(&self, device: &mut dyn Upload) -> Result<Matrix> {
        match self.weight {
            Weight::Filters(shape) => device.filters(shape, &self.values),
            Weight::Phases(shape) => device.phases(shape, &self.values),
            Weight::Matrix { .. } | Weight::Vector(_) => device.matrix(self.n, self.k, &self.values),
        }
    }
}

/// The values of a case, each list in the order of its declarations.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    pub inputs: Vec<Input>,
    pub matrices: Vec<Table>,
    pub vectors: Vec<Vec<f32>>,
}

/// Handles of a case's weights.
#[derive(Clone, Debug)]
pub struct Weights {
    pub matrices: Vec<Matrix>,
    pub vectors: Vec<Vector>,
}

impl Prepared {
    /// With float16's values in whatever half precision holds as float16: activations, matrices, the biases of products.
    /// What stays float32 there keeps its values.
    pub fn rounded(mut self, op: &Op) -> Prepared {
        let round = |value: &mut f32| *value = f16::from_f32(*value).to_f32();
        self.matrices.iter_mut().flat_map(|matrix| &mut matrix.values).for_each(round);
        for input in self.inputs.iter_mut().filter(|input| input.element == Element::Activation) {
            if let Values::F32(values) = &mut input.values {
                values.iter_mut().for_each(round);
            }
        }
        // Those of the norm stay.
        if matches!(op, Op::GemmNorm(_)) {
            self.vectors[0].iter_mut().for_each(round);
        }
        if matches!(op, Op::Gemm(_) | Op::Conv(_) | Op::Polyphase(_) | Op::Readout(_)) {
            self.vectors.iter_mut().flatten().for_each(round);
        }
        self
    }

    pub fn upload(&self, device: &mut dyn Upload) -> Result<Weights> {
        let matrices = self.matrices.iter().map(|m| m.upload(device)).collect::<Result<_>>()?;
        let vectors = self.vectors.iter().map(|v| device.vector(v)).collect::<Result<_>>()?;
        Ok(Weights { matrices, vectors })
    }
}

impl Plant {
    /// Changes the values of a first input, `[batch, .., channels]`.
    pub fn add_to(self, x: &mut [f32], [batch, _, _, c]: [usize; 4]) {
        match self {
            Plant::Nothing => {}
            Plant::Outliers => {
                x.chunks_exact_mut(c).for_each(|row| row.iter_mut().skip(c / 3).step_by(97).for_each(|v| *v *= 300.0));
            }
            Plant::Nan => x.iter_mut().skip(c / 2).step_by(5 * c + 1).for_each(|v| *v = f32::NAN),
            Plant::Infinite => {
                let first = x.len() / batch;
                x[..first].chunks_exact_mut(c).for_each(|row| row[c / 2] = f32::INFINITY);
            }
            Plant::Zeros => x.chunks_exact_mut(c).step_by(3).for_each(|row| row.fill(0.0)),
        }
    }
}
