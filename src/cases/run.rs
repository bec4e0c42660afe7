//! One pass on a device: plan, write, run, read, as the engine does it.

use half::f16;

use super::{Op, Prepared, Values};
use crate::device::{Buf, Device, Element, Executor, plan};
use crate::error::Result;

/// What a forward list hands back: the buffers that the host fills, and the one that it reads.
#[derive(Clone, Debug)]
pub struct Io {
    pub inputs: Vec<Buf>,
    pub out: Buf,
}

/// Runs `forward` with `values` written into its inputs; the bytes of its output.
pub fn pass(
    device: &mut dyn Executor,
    values: &[&Values],
    forward: &(dyn Fn(&mut dyn Device) -> Io + Sync),
) -> Result<Vec<u8>> {
    let mut io = None;
    let plan = plan::record(device.activation_bytes(), &[], |d| {
        let made = forward(d);
        d.output(made.out);
        io = Some(made);
    });
    let Io { inputs, out } = io.expect("recording runs the forward list");
    device.reserve(&plan)?;
    let out = plan.placed(out);
    // NaN wherever nothing is written later.
    let activation = device.activation_bytes();
    let bytes = out.len() * out.element.bytes(activation);
    device.write(&plan, out, 0, &vec![0xff; bytes])?;
    assert_eq!(inputs.len(), values.len());
    for (buf, values) in inputs.iter().zip(values) {
        device.write(&plan, plan.placed(*buf), 0, &values.bytes(buf.element, activation))?;
    }
    device.run(&plan, &mut |d| {
        forward(d);
    })?;
    let mut result = vec![0; bytes];
    device.read(&plan, out, 0, &mut result)?;
    Ok(result)
}

/// As [`pass`], for an output of float32.
pub fn pass_f32(
    device: &mut dyn Executor,
    values: &[&Values],
    forward: &(dyn Fn(&mut dyn Device) -> Io + Sync),
) -> Result<Vec<f32>> {
    Ok(bytemuck::pod_collect_to_vec(&pass(device, values, forward)?))
}

/// The case's operation on a device: the output's bytes.
pub fn run(device: &mut dyn Executor, op: &Op, prepared: &Prepared) -> Result<Vec<u8>> {
    let weights = prepared.upload(device)?;
    let values: Vec<&Values> = prepared.inputs.iter().map(|input| &input.values).collect();
    pass(device, &values, &|d| forward(d, op, prepared, &weights))
}

/// The forward list of one operation.
pub fn forward(d: &mut dyn Device, op: &Op, prepared: &Prepared, weights: &super::Weights) -> Io {
    let inputs: Vec<Buf> = prepared.inputs.iter().map(|input| d.buffer("input", input.shape, input.element)).collect();
    let out = if op.in_place() { inputs[0] } else { d.buffer("output", prepared.out_shape, prepared.out_element) };
    op.call(d, &inputs, weights, out);
    Io { inputs, out }
}

/// The output of [`run`] as numbers, from a device whose activations take `activation` bytes.
pub fn numbers(bytes: &[u8], element: Element, activation: usize) -> Vec<f32> {
    match element {
        Element::Activation if activation == 2 => {
            bytemuck::pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f16::to_f32).collect()
        }
        Element::U8 => bytes.iter().copied().map(f32::from).collect(),
        Element::U16 => bytemuck::pod_collect_to_vec::<u8, u16>(bytes).into_iter().map(f32::from).collect(),
        Element::U32 => bytemuck::pod_collect_to_vec::<u8, u32>(bytes).into_iter().map(|n| n as f32).collect(),
        _ => bytemuck::pod_collect_to_vec(bytes),
    }
}
