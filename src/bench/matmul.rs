//! How fast this machine multiplies matrices, through the same device that runs the network: what an operation's own rate is held
//! against.

use std::time::Instant;

use crate::device::{Device, Program};
use crate::engine::Engine;
use crate::error::Result;
use crate::ops::cases::Values;
use crate::ops::{Buf, Element, Epilogue, Linear, Stage};
use crate::plan;

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
    program: Program,
    input: Buf,
}

impl Matmul {
    /// On the engine's device. Read [`Engine::timings`] first: these passes come after the frame.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where memory runs out.
    pub fn new(engine: &mut Engine) -> Result<Matmul> {
        let device = engine.lane_mut().device_for_passes()?;
        let (_, inputs, outputs) = SHAPE;
        let weight = Linear { weight: device.matrix(outputs, inputs, &values(outputs * inputs))?, bias: None };
        let pass = Pass::new(device, &weight, 1)?;
        Ok(Matmul { weight, pass, fastest: f64::INFINITY })
    }

    /// FLOP a second of the fastest product, of this call and those before. Each takes 0.1 s: calls before and after frames find
    /// a moment without other work.
    ///
    /// # Errors
    /// As [`Matmul::new`].
    pub fn rate(&mut self, engine: &mut Engine) -> Result<f64> {
        let device = engine.lane_mut().device_for_passes()?;
        let (rows, inputs, outputs) = SHAPE;
        self.pass.prepare(device)?;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < SECONDS {
            let seconds = self.pass.run(device)?;
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
    fn new(device: &mut dyn Device, weight: &Linear, repeats: usize) -> Result<Pass> {
        let (rows, inputs, outputs) = SHAPE;
        let (plan, input) = plan::record(device.activation_bytes(), &[], |d| {
            // No input of the plan, which every pass would copy.
            let x = d.buffer("x", [1, 1, rows, inputs], Element::Activation);
            let out = d.buffer("out", [1, 1, rows, outputs], Element::Activation);
            d.stage(Stage::Encoder);
            (0..repeats).for_each(|_| d.gemm(x.all(), weight, Epilogue::NONE, out.all()));
            x
        });
        Ok(Pass { repeats, program: device.compile(plan)?, input })
    }

    fn prepare(&mut self, device: &mut dyn Device) -> Result<()> {
        let input = Values::F32(values(self.input.len())).bytes(self.input.element, device.activation_bytes());
        device.write(&mut self.program, self.input, 0, &input)
    }

    /// Seconds by the device's own clock.
    fn run(&mut self, device: &mut dyn Device) -> Result<f64> {
        device.run(&mut self.program)?;
        let times = device.times();
        Ok(times.whole.unwrap_or_else(|| times.stages.iter().sum()))
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect()
}
