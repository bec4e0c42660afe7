//! How fast this machine multiplies matrices, through the same device that runs the network.

use std::time::Instant;

use crate::device::{Element, Epilogue, Executor, Linear, plan};
use crate::error::Result;

/// Rows, inputs and outputs of the product: a layer of ViT-L's MLP on a thousand tokens.
const SHAPE: (usize, usize, usize) = (1024, 1024, 4096);
const SECONDS: f64 = 0.3;

/// FLOP a second, the best product of those that fit in [`SECONDS`].
pub fn rate(device: &mut dyn Executor) -> Result<f64> {
    let (rows, inputs, outputs) = SHAPE;
    let values: Vec<f32> = (0..outputs * inputs).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
    let weight = device.matrix(outputs, inputs, &values)?;
    let linear = Linear { weight, bias: None };
    let forward = |d: &mut dyn crate::device::Device| {
        let x = d.buffer("x", [1, 1, rows, inputs], Element::Activation);
        let out = d.buffer("out", [1, 1, rows, outputs], Element::Activation);
        d.gemm(x.all(), &linear, Epilogue::NONE, out.all());
        (x, out)
    };
    let mut x = None;
    let plan = plan::record(4, &[], |d| x = Some(forward(d).0));
    device.reserve(&plan)?;
    let x = plan.placed(x.expect("recording runs the forward pass"));
    device.write(x, 0, bytemuck::cast_slice(&values[..rows * inputs]));
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        device.run(&plan, &mut |d| {
            forward(d);
        })?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    // Weights stay for good; this one need not stay large.
    device.replace_matrix(weight, 1, 1, &[0.0])?;
    Ok((2 * rows * inputs * outputs) as f64 / best)
}
