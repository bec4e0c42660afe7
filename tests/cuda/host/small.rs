//! A pass of two operations, on the device itself.

use lseg_fast::Result;
use lseg_fast::device::cuda::Cuda;
use lseg_fast::device::{Bank, Calls, Device, Elsewhere, FrameMemory, Program, Upload};
use lseg_fast::ops::{Buf, Element, Epilogue, Linear, layer_norm};
use lseg_fast::plan::{self, Plan};

use super::difference;

pub const WIDTH: usize = 64;

/// LayerNorm, then a product.
pub struct Layers {
    pub norm: layer_norm::Weights,
    pub linear: Linear,
}

/// [`Layers`] for some rows.
pub struct Small {
    pub program: Program,
    pub x: Buf,
    pub out: Buf,
}

pub fn pattern(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 251) as f32 / 125.0 - 1.0).collect()
}

/// A bank of these rows, without offsets.
pub fn bank(cuda: &Cuda, rows: &[f32]) -> Bank {
    let n = rows.len() / WIDTH;
    cuda.bank(n, WIDTH, rows, &vec![0.0; n]).unwrap()
}

impl Layers {
    /// As [`Layers::new`], the product's weights being a bank.
    pub fn with_bank(cuda: &mut Cuda, rows: &[f32]) -> Layers {
        let bank = bank(cuda, rows);
        let linear = cuda.set_bank(None, &bank).unwrap();
        Layers { linear, ..Layers::new(cuda, 16) }
    }

    pub fn new(cuda: &mut Cuda, outputs: usize) -> Layers {
        let ones = cuda.vector(&[1.0; WIDTH]).unwrap();
        let zeros = cuda.vector(&[0.0; WIDTH]).unwrap();
        let weight = cuda.matrix(outputs, WIDTH, &pattern(outputs * WIDTH, 1)).unwrap();
        let norm = layer_norm::Weights { weight: ones, bias: zeros, eps: 1e-5 };
        Layers { norm, linear: Linear { weight, bias: None } }
    }

    /// The pass, its input and its output.
    pub fn plan(&self, cuda: &Cuda, rows: usize) -> (Plan, [Buf; 2]) {
        plan::record(cuda.activation_bytes(), &[], |d| {
            let x = d.buffer("x", [1, 1, rows, WIDTH], Element::F32);
            d.input(x);
            let normed = d.buffer("normed", x.shape, Element::Activation);
            d.layer_norm(x, &self.norm, normed);
            let out = d.buffer("out", [1, 1, rows, self.linear.weight.n], Element::F32);
            d.gemm(normed.all(), &self.linear, Epilogue::NONE, out.all());
            d.output(out);
            [x, out]
        })
    }

    pub fn compile(&self, cuda: &mut Cuda, rows: usize) -> Small {
        let (plan, [x, out]) = self.plan(cuda, rows);
        Small { program: cuda.compile(plan).unwrap(), x, out }
    }
}

impl Small {
    /// The result's bits.
    pub fn run(&mut self, cuda: &mut Cuda, seed: usize) -> Result<Vec<u32>> {
        cuda.write(&mut self.program, self.x, 0, bytemuck::cast_slice(&pattern(self.x.len(), seed)))?;
        cuda.run(&mut self.program)?;
        let mut bits = vec![0u32; self.out.len()];
        cuda.read(&self.program, self.out, 0, bytemuck::cast_slice_mut(&mut bits))?;
        Ok(bits)
    }

    /// Puts a pass in flight.
    pub fn submit(&mut self, cuda: &mut Cuda, slot: usize, seed: usize) -> Result<()> {
        let bytes = cuda.slot_input(&mut self.program, slot, self.x)?;
        bytes.copy_from_slice(bytemuck::cast_slice(&pattern(self.x.len(), seed)));
        cuda.submit(&mut self.program, slot, &Elsewhere::default())
    }

    /// As [`Small::submit`], of memory of the device's own allocator, which any thread may have filled.
    pub fn submit_memory(&mut self, cuda: &mut Cuda, slot: usize, memory: &mut FrameMemory, seed: usize) -> Result<()> {
        memory.slice_mut()?.copy_from_slice(bytemuck::cast_slice(&pattern(self.x.len(), seed)));
        let FrameMemory::Cuda(memory) = memory else { unreachable!("it is of a GPU's allocator") };
        cuda.submit(&mut self.program, slot, &Elsewhere { host: Some((self.x, memory)), ..Elsewhere::default() })
    }

    /// The bits of its result.
    pub fn finish(&self, cuda: &mut Cuda, slot: usize) -> Result<Vec<u32>> {
        cuda.finish(slot)?;
        Ok(bytemuck::pod_collect_to_vec(cuda.slot_output(self.program.plan(), slot, self.out)?))
    }

    /// The result's bits, and what the device was asked for.
    pub fn counted(&mut self, cuda: &mut Cuda, seed: usize) -> (Vec<u32>, Calls) {
        calls(cuda, |cuda| self.run(cuda, seed).unwrap())
    }
}

/// What the device was asked for while `f` ran.
pub fn calls<T>(cuda: &mut Cuda, f: impl FnOnce(&mut Cuda) -> T) -> (T, Calls) {
    let before = cuda.calls();
    let result = f(cuda);
    (result, difference(before, cuda.calls()))
}
