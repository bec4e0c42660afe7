//! One case on a device.

use crate::device::{self, Device};
use crate::error::Result;
use crate::ops::cases::{Case, Prepared, Weights};
use crate::plan::{self, Plan};

/// The case's operation alone, for a device whose activations take so many bytes a value and which has these weights.
pub fn plan_of(case: &Case, activation_bytes: usize, weights: &Weights) -> Plan {
    plan::record(activation_bytes, &[], |d| case.record(d, weights)).0
}

/// The case's operation on a device: the output's bytes.
///
/// # Errors
/// As [`Device::compile`] and [`Device::run`].
pub fn run(device: &mut dyn Device, case: &Case, prepared: &Prepared) -> Result<Vec<u8>> {
    let weights = prepared.upload(device)?;
    let activation = device.activation_bytes();
    let plan = plan_of(case, activation, &weights);
    // NaN wherever nothing is written later.
    let mut writes = vec![(case.out, vec![0xff; plan.buffers[case.out.index].bytes])];
    let inputs = case.inputs().iter().zip(&prepared.inputs);
    writes.extend(inputs.map(|(buf, input)| (*buf, input.values.bytes(buf.element, activation))));
    device::run_once(device, plan, &writes, case.out)
}
