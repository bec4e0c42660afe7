//! Weights and the arena on the GPU.

use std::sync::Arc;

use half::f16;

use super::driver::{Gpu, Memory};
use crate::error::Result;
use crate::ops::Weight;

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

/// All weights: one allocation for those that the model announced; what comes later, or grows, has its own.
pub struct Weights {
    gpu: Arc<Gpu>,
    block: Option<Memory>,
    used: usize,
    matrices: Vec<Place>,
    vectors: Vec<Place>,
}

struct Place {
    address: u64,
    bytes: usize,
    /// Where it is not part of the block.
    own: Option<Memory>,
}

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
    if is_aligned(values) { Ok(()) } else { Err(format!("{what} of {values}, which is no multiple of {ROW_ALIGN}")) }
}

impl Weights {
    pub fn new(gpu: Arc<Gpu>) -> Weights {
        Weights { gpu, block: None, used: 0, matrices: Vec::new(), vectors: Vec::new() }
    }

    pub fn expect(&mut self, weights: &[Weight]) -> Result<()> {
        self.block = Some(self.gpu.allocate(weight_bytes(weights), "the model's weights")?);
        self.used = 0;
        Ok(())
    }

    /// Where a matrix lies.
    pub fn matrix(&self, index: usize) -> u64 {
        self.matrices[index].address
    }

    /// float32 values.
    pub fn vector(&self, index: usize) -> u64 {
        self.vectors[index].address
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

    /// Whether it lies elsewhere now.
    pub fn replace_matrix(&mut self, index: usize, n: usize, k: usize, data: &[f32]) -> Result<bool> {
        let bytes = halves(n, k, data);
        if self.overwrite(&self.matrices[index], &bytes)? {
            return Ok(false);
        }
        self.matrices[index] = self.put_with_room(&bytes)?;
        Ok(true)
    }

    /// Whether it lies elsewhere now.
    pub fn replace_vector(&mut self, index: usize, data: &[f32]) -> Result<bool> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if self.overwrite(&self.vectors[index], bytes)? {
            return Ok(false);
        }
        self.vectors[index] = self.put_with_room(bytes)?;
        Ok(true)
    }

    /// Into the place where it is large enough.
    fn overwrite(&self, place: &Place, bytes: &[u8]) -> Result<bool> {
        let fits = bytes.len() <= place.bytes;
        if fits {
            self.copy(place, bytes)?;
        }
        Ok(fits)
    }

    /// Into the block, else an allocation of its own.
    fn put(&mut self, bytes: &[u8]) -> Result<Place> {
        let size = size(bytes);
        let place = match &self.block {
            Some(block) if block.bytes() - self.used >= size => {
                let address = block.address() + self.used as u64;
                self.used += size;
                Place { address, bytes: size, own: None }
            }
            _ => self.own(size)?,
        };
        self.copy(&place, bytes)?;
        Ok(place)
    }

    /// Into an allocation of its own with room to grow: a list of labels that grows word by word moves rarely.
    fn put_with_room(&self, bytes: &[u8]) -> Result<Place> {
        let place = self.own(size(bytes).next_power_of_two())?;
        self.copy(&place, bytes)?;
        Ok(place)
    }

    fn own(&self, bytes: usize) -> Result<Place> {
        let own = self.gpu.allocate(bytes, "a list of labels")?;
        Ok(Place { address: own.address(), bytes, own: Some(own) })
    }

    fn copy(&self, place: &Place, bytes: &[u8]) -> Result<()> {
        let (memory, at) = match (&place.own, &self.block) {
            (Some(own), _) => (own, 0),
            (None, Some(block)) => (block, (place.address - block.address()) as usize),
            (None, None) => unreachable!("a place is in the block or has its own memory"),
        };
        self.gpu.upload(memory, at, bytes)
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

fn size(bytes: &[u8]) -> usize {
    bytes.len().max(1).next_multiple_of(ALIGN)
}

/// As float16, rows padded with zeros.
fn halves(n: usize, k: usize, data: &[f32]) -> Vec<u8> {
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
    gpu: Arc<Gpu>,
    memory: Option<Memory>,
}

impl Arena {
    pub fn new(gpu: Arc<Gpu>) -> Arena {
        Arena { gpu, memory: None }
    }

    pub fn holds(&self, bytes: usize) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.bytes() >= bytes)
    }

    /// The old memory is given back first; where there is not enough, none is left.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.memory = None;
        self.memory = Some(self.gpu.allocate(bytes, "a frame of this size")?);
        Ok(())
    }

    pub fn address(&self) -> u64 {
        self.memory().address()
    }

    pub fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("reserve comes before every pass")
    }
}
