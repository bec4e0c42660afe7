//! How fast this machine multiplies matrices, through the same device that runs the network.

use std::time::Instant;

use crate::cases::Values;
use crate::device::plan::{self, Plan};
use crate::device::{Buf, Device, Element, Epilogue, Executor, Linear};
use crate::error::Result;

/// Rows, inputs and outputs of the product: a layer of ViT-L on a thousand tokens.
const SHAPE: (usize, usize, usize) = (1024, 1024, 1024);
/// How long [`Matmul::rate`] goes on; many products, of which other work of the machine leaves one in peace.
const SECONDS: f64 = 0.1;

/// A product ready to run, and the fastest so far.
pub struct Matmul {
    weight: Linear,
    plan: Plan,
    input: Buf,
    fastest: f64,
}

impl Matmul {
    pub fn new(device: &mut dyn Executor) -> Result<Matmul> {
        let (_, inputs, outputs) = SHAPE;
        let weight = Linear { weight: device.matrix(outputs, inputs, &values(outputs * inputs))?, bias: None };
        let mut input = None;
        let plan = plan::record(device.activation_bytes(), &[], |d| input = Some(forward(d, &weight)));
        let input = plan.placed(input.expect("recording runs the forward pass"));
        Ok(Matmul { weight, plan, input, fastest: f64::INFINITY })
    }

    /// FLOP a second of the fastest product, of this call and those before.
    pub fn rate(&mut self, device: &mut dyn Executor) -> Result<f64> {
        let (rows, inputs, outputs) = SHAPE;
        device.reserve(&self.plan)?;
        let input = Values::F32(values(self.input.len())).bytes(self.input.element, device.activation_bytes());
        device.write(self.input, 0, &input)?;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < SECONDS {
            let start = Instant::now();
            device.run(&self.plan, &mut |d| {
                forward(d, &self.weight);
            })?;
            self.fastest = self.fastest.min(start.elapsed().as_secs_f64());
        }
        Ok((2 * rows * inputs * outputs) as f64 / self.fastest)
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect()
}

/// Returns the input.
fn forward(d: &mut dyn Device, weight: &Linear) -> Buf {
    let (rows, inputs, outputs) = SHAPE;
    let x = d.buffer("x", [1, 1, rows, inputs], Element::Activation);
    let out = d.buffer("out", [1, 1, rows, outputs], Element::Activation);
    d.gemm(x.all(), weight, Epilogue::NONE, out.all());
    x
}
