//! Weights and the arena on the GPU.

use std::sync::Arc;

use half::f16;

use super::bank::{GpuBank, Part};
use super::driver::{Memory, Stream};
use crate::error::Result;
use crate::ops::{self, Linear, Vector, Weight};

/// Every weight begins at a multiple of this.
const ALIGN: usize = 256;
/// Rows of matrices are padded with zeros to a multiple of this many values: 16 bytes, what one cp.async copies.
const ROW_ALIGN: usize = 8;

/// A matrix `[n, k]` of float16: row i begins at `address + 2·i·stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub address: u64,
    /// Values from row to row; those behind k are zeros.
    pub stride: usize,
}

/// All weights of a device: one allocation for those that the model announced; what comes later, or grows, has its own. Where they
/// lie is shared with the device's siblings; the list is its own.
pub struct Weights {
    stream: Arc<Stream>,
    block: Option<Arc<Memory>>,
    used: usize,
    matrices: Vec<Place>,
    vectors: Vec<Place>,
}

/// So many bytes of an allocation.
#[derive(Clone)]
struct Place {
    memory: Arc<Memory>,
    at: usize,
    bytes: usize,
}

impl Place {
    fn address(&self) -> u64 {
        self.memory.address() + self.at as u64
    }

    /// Whether so many bytes may be put there, and nobody else sees it.
    fn takes(&self, bytes: usize) -> bool {
        bytes <= self.bytes && Arc::strong_count(&self.memory) == 1
    }
}

/// What an allocation for a bank is called in errors.
pub const LABELS: &str = "a list of labels";

pub fn stride(k: usize) -> usize {
    k.next_multiple_of(ROW_ALIGN)
}

/// Whether rows of so many float16 values are whole chunks of 16 bytes, as the kernels read them.
pub fn is_aligned(values: usize) -> bool {
    values.is_multiple_of(ROW_ALIGN)
}

/// # Errors
/// They are not.
pub fn aligned(what: &str, values: usize) -> std::result::Result<(), String> {
    whole(what, values, ROW_ALIGN)
}

/// # Errors
/// They are no multiple of a kernel's step.
pub fn whole(what: &str, values: usize, step: usize) -> std::result::Result<(), String> {
    if values.is_multiple_of(step) {
        Ok(())
    } else {
        Err(format!("{what} of {values}, which is no multiple of {step}"))
    }
}

impl Weights {
    pub fn new(stream: &Arc<Stream>) -> Weights {
        let (block, used, matrices, vectors) = Default::default();
        Weights { stream: Arc::clone(stream), block, used, matrices, vectors }
    }

    /// The same weights for a device with this stream. What is left of the block stays with the first.
    pub fn shared(&self, stream: &Arc<Stream>) -> Weights {
        let (matrices, vectors) = (self.matrices.clone(), self.vectors.clone());
        Weights { stream: Arc::clone(stream), block: None, used: 0, matrices, vectors }
    }

    pub fn expect(&mut self, weights: &[Weight]) -> Result<()> {
        self.block = Some(Arc::new(self.stream.allocate(weight_bytes(weights), "the model's weights")?));
        self.used = 0;
        Ok(())
    }

    /// Where a matrix lies.
    pub fn matrix(&self, index: usize) -> u64 {
        self.matrices[index].address()
    }

    /// float32 values.
    pub fn vector(&self, index: usize) -> u64 {
        self.vectors[index].address()
    }

    pub fn add_matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<usize> {
        let place = self.put(&halves(n, k, data))?;
        self.matrices.push(place);
        Ok(self.matrices.len() - 1)
    }

    pub fn add_vector(&mut self, data: &[f32]) -> Result<usize> {
        let place = self.put(bytemuck::cast_slice(data))?;
        self.vectors.push(place);
        Ok(self.vectors.len() - 1)
    }

    /// Queues the copy of a bank to a place of this device's own: that of `old`, unless it is too small or a sibling's too. Where it
    /// is, and whether that is elsewhere than before. Where there is an error, places are what they were.
    pub fn set_bank(&mut self, old: Option<Linear>, bank: &GpuBank) -> Result<(Linear, bool)> {
        let (rows, offsets) = (bank.rows(), bank.offsets());
        let matrix = old.map(|old| old.weight.index);
        let vector = old.and_then(|old| old.bias).map(|bias| bias.index);
        // Both, before either is changed.
        let new_rows = self.new_place(matrix.map(|index| &self.matrices[index]), rows.bytes)?;
        let new_offsets = self.new_place(vector.map(|index| &self.vectors[index]), offsets.bytes)?;
        // Before the old places go: while one may still fail, launches point at those.
        self.copy(&rows, new_rows.as_ref().or(matrix.map(|index| &self.matrices[index])))?;
        self.copy(&offsets, new_offsets.as_ref().or(vector.map(|index| &self.vectors[index])))?;
        let has_moved = new_rows.is_some() || new_offsets.is_some();
        let weight = ops::Matrix { index: settle(&mut self.matrices, matrix, new_rows), n: bank.n, k: bank.k };
        let bias = Vector { index: settle(&mut self.vectors, vector, new_offsets), len: bank.n };
        Ok((Linear { weight, bias: Some(bias) }, has_moved))
    }

    /// Another place for so many bytes, where `old` does not take them; with room to grow: a list of labels that grows word by word
    /// moves rarely.
    fn new_place(&self, old: Option<&Place>, bytes: usize) -> Result<Option<Place>> {
        if old.is_some_and(|old| old.takes(bytes)) {
            return Ok(None);
        }
        self.own(aligned_size(bytes).next_power_of_two()).map(Some)
    }

    fn copy(&self, part: &Part<'_>, place: Option<&Place>) -> Result<()> {
        let place = place.expect("there is a new place where there was none");
        self.stream.copy(part.memory, part.at, &place.memory, place.at, part.bytes)
    }

    /// Into the block, else an allocation of its own.
    fn put(&mut self, bytes: &[u8]) -> Result<Place> {
        let size = aligned_size(bytes.len());
        let place = match &self.block {
            Some(block) if block.bytes() - self.used >= size => {
                let place = Place { memory: Arc::clone(block), at: self.used, bytes: size };
                self.used += size;
                place
            }
            _ => self.own(size)?,
        };
        self.stream.upload(&place.memory, place.at, bytes)?;
        Ok(place)
    }

    fn own(&self, bytes: usize) -> Result<Place> {
        Ok(Place { memory: Arc::new(self.stream.allocate(bytes, LABELS)?), at: 0, bytes })
    }
}

/// The index at which a place is kept: a new one takes the old one's.
fn settle(places: &mut Vec<Place>, old: Option<usize>, new: Option<Place>) -> usize {
    match (old, new) {
        (Some(index), None) => index,
        (Some(index), Some(new)) => {
            places[index] = new;
            index
        }
        (None, new) => {
            places.extend(new);
            places.len() - 1
        }
    }
}

/// Bytes of the block that holds these weights.
pub fn weight_bytes(weights: &[Weight]) -> usize {
    let bytes = |weight: &Weight| match (*weight, weight.size()) {
        (Weight::Vector(len), _) => 4 * len,
        (_, (n, k)) => 2 * n * stride(k),
    };
    weights.iter().map(|weight| bytes(weight).next_multiple_of(ALIGN)).sum()
}

/// Of a place for so many.
pub fn aligned_size(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGN)
}

/// As float16, rows padded with zeros.
pub fn halves(n: usize, k: usize, data: &[f32]) -> Vec<u8> {
    let stride = stride(k);
    let mut values = vec![f16::ZERO; n * stride];
    if k > 0 {
        for (to, from) in values.chunks_exact_mut(stride).zip(data.chunks_exact(k)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = f16::from_f32(*from));
        }
    }
    bytemuck::pod_collect_to_vec(&values)
}

/// The activations' memory; it grows to the largest plan.
pub struct Arena {
    stream: Arc<Stream>,
    memory: Option<Memory>,
}

impl Arena {
    pub fn new(stream: Arc<Stream>) -> Arena {
        Arena { stream, memory: None }
    }

    pub fn holds(&self, bytes: usize) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.bytes() >= bytes)
    }

    /// The old memory is given back first; where there is not enough, none is left.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.memory = None;
        self.memory = Some(self.stream.allocate(bytes, "a frame of this size")?);
        Ok(())
    }

    pub fn address(&self) -> u64 {
        self.memory().address()
    }

    pub fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("reserve comes before every pass")
    }
}
