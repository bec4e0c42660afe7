//! Weights and the arena on the GPU.

use std::sync::Arc;

use half::f16;

use super::driver::{Gpu, Memory};
use crate::error::Result;

/// Every weight begins at a multiple of this.
const ALIGN: usize = 256;
/// Rows of matrices are padded with zeros to a multiple of this many values: 16 bytes, what one cp.async copies.
pub const ROW_ALIGN: usize = 8;

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

impl Weights {
    pub fn new(gpu: Arc<Gpu>) -> Weights {
        Weights { gpu, block: None, used: 0, matrices: Vec::new(), vectors: Vec::new() }
    }

    pub fn expect(&mut self, matrices: &[(usize, usize)], vectors: &[usize]) -> Result<()> {
        let matrices = matrices.iter().map(|(n, k)| 2 * n * stride(*k));
        let bytes = matrices.chain(vectors.iter().map(|len| 4 * len)).map(|bytes| bytes.next_multiple_of(ALIGN)).sum();
        self.block = Some(self.gpu.allocate(bytes, "the model's weights")?);
        self.used = 0;
        Ok(())
    }

    pub fn matrix(&self, index: usize, k: usize) -> Matrix {
        Matrix { address: self.matrices[index].address, stride: stride(k) }
    }

    /// float32 values.
    pub fn vector(&self, index: usize) -> u64 {
        self.vectors[index].address
    }

    pub fn add_matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<usize> {
        let place = self.put(None, &halves(n, k, data))?;
        self.matrices.push(place);
        Ok(self.matrices.len() - 1)
    }

    pub fn add_vector(&mut self, data: &[f32]) -> Result<usize> {
        let place = self.put(None, bytemuck::cast_slice(data))?;
        self.vectors.push(place);
        Ok(self.vectors.len() - 1)
    }

    pub fn replace_matrix(&mut self, index: usize, n: usize, k: usize, data: &[f32]) -> Result<()> {
        let old = std::mem::replace(&mut self.matrices[index], Place { address: 0, bytes: 0, own: None });
        self.matrices[index] = self.put(Some(old), &halves(n, k, data))?;
        Ok(())
    }

    pub fn replace_vector(&mut self, index: usize, data: &[f32]) -> Result<()> {
        let old = std::mem::replace(&mut self.vectors[index], Place { address: 0, bytes: 0, own: None });
        self.vectors[index] = self.put(Some(old), bytemuck::cast_slice(data))?;
        Ok(())
    }

    /// Into the old place where it is large enough, else the block, else an allocation of its own.
    fn put(&mut self, old: Option<Place>, bytes: &[u8]) -> Result<Place> {
        self.gpu.bind()?;
        let size = bytes.len().max(1).next_multiple_of(ALIGN);
        if let Some(old) = old.filter(|old| old.bytes >= size) {
            self.copy(&old, bytes)?;
            return Ok(old);
        }
        let place = match &self.block {
            Some(block) if block.bytes() - self.used >= size => {
                let address = block.address() + self.used as u64;
                self.used += size;
                Place { address, bytes: size, own: None }
            }
            _ => {
                let own = self.gpu.allocate(size, "a list of labels")?;
                Place { address: own.address(), bytes: size, own: Some(own) }
            }
        };
        self.copy(&place, bytes)?;
        Ok(place)
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

    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        if self.memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            self.memory = None;
            self.memory = Some(self.gpu.allocate(bytes, "a frame of this size")?);
        }
        Ok(())
    }

    pub fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("reserve comes before every pass")
    }
}
