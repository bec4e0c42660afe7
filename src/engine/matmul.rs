//! How fast this machine multiplies matrices, through the same device that runs the network.

use std::time::Instant;

use crate::cases::Values;
use crate::device::plan::{self, Plan};
use crate::device::{Buf, Device, Element, Epilogue, Executor, Linear, Stage};
use crate::error::Result;

/// Rows, inputs and outputs of the product: a layer of ViT-L on a thousand tokens.
const SHAPE: (usize, usize, usize) = (1024, 1024, 1024);
/// How long [`Matmul::rate`] goes on; many products, of which other work of the machine leaves one in peace.
const SECONDS: f64 = 0.1;

/// A pass that takes less than this holds one product too few to be timed: what is around it counts too much.
const SHORTEST: f64 = 1e-3;
const MANY: usize = 64;

/// Products ready to run, and the time of the fastest so far.
pub struct Matmul {
    weight: Linear,
    pass: Pass,
    fastest: f64,
}

/// One pass of `repeats` products.
struct Pass {
    repeats: usize,
    plan: Plan,
    input: Buf,
}

impl Matmul {
    pub fn new(device: &mut dyn Executor) -> Result<Matmul> {
        let (_, inputs, outputs) = SHAPE;
        let weight = Linear { weight: device.matrix(outputs, inputs, &values(outputs * inputs))?, bias: None };
        let pass = Pass::new(device, &weight, 1)?;
        Ok(Matmul { weight, pass, fastest: f64::INFINITY })
    }

    /// FLOP a second of the fastest product, of this call and those before.
    pub fn rate(&mut self, device: &mut dyn Executor) -> Result<f64> {
        let (rows, inputs, outputs) = SHAPE;
        self.pass.prepare(device)?;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < SECONDS {
            let seconds = self.pass.run(device, &self.weight)?;
            if seconds < SHORTEST && self.pass.repeats == 1 {
                self.pass = Pass::new(device, &self.weight, MANY)?;
                self.pass.prepare(device)?;
                continue;
            }
            self.fastest = self.fastest.min(seconds / self.pass.repeats as f64);
        }
        Ok((2 * rows * inputs * outputs) as f64 / self.fastest)
    }
}

impl Pass {
    fn new(device: &mut dyn Executor, weight: &Linear, repeats: usize) -> Result<Pass> {
        let mut input = None;
        let plan = plan::record(device.activation_bytes(), &[], |d| input = Some(forward(d, weight, repeats)));
        let input = plan.placed(input.expect("recording runs the forward pass"));
        Ok(Pass { repeats, plan, input })
    }

    fn prepare(&self, device: &mut dyn Executor) -> Result<()> {
        device.reserve(&self.plan)?;
        let input = Values::F32(values(self.input.len())).bytes(self.input.element, device.activation_bytes());
        device.write(&self.plan, self.input, 0, &input)
    }

    /// Seconds by the device's own clock.
    fn run(&self, device: &mut dyn Executor, weight: &Linear) -> Result<f64> {
        device.run(&self.plan, &mut |d| {
            forward(d, weight, self.repeats);
        })?;
        Ok(device.whole_seconds().unwrap_or_else(|| device.stage_seconds().iter().sum()))
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect()
}

/// Returns the input.
fn forward(d: &mut dyn Device, weight: &Linear, repeats: usize) -> Buf {
    let (rows, inputs, outputs) = SHAPE;
    // No input of the plan, which every pass would copy.
    let x = d.buffer("x", [1, 1, rows, inputs], Element::Activation);
    let out = d.buffer("out", [1, 1, rows, outputs], Element::Activation);
    d.stage(Stage::Encoder);
    for _ in 0..repeats {
        d.gemm(x.all(), weight, Epilogue::NONE, out.all());
    }
    x
}
