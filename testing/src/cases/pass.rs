//! One pass of a forward list.

use lseg_fast::device::{Device, run_once};
use lseg_fast::ops::{Buf, PlanBuilder};
use lseg_fast::plan;

use super::{Values, numbers};

/// The numbers of the output that `forward`, which tells its inputs and its output, makes of the inputs' values.
pub fn pass(
    device: &mut dyn Device,
    values: &[&Values],
    forward: impl FnOnce(&mut PlanBuilder) -> (Vec<Buf>, Buf),
) -> Vec<f32> {
    let activation = device.activation_bytes();
    let (plan, (inputs, out)) = plan::record(activation, &[], |d| {
        let (inputs, out) = forward(d);
        d.output(out);
        (inputs, out)
    });
    assert_eq!(inputs.len(), values.len());
    let bytes = |(buf, values): (&Buf, &&Values)| (plan.placed(*buf), values.bytes(buf.element, activation));
    let out = plan.placed(out);
    // NaN wherever nothing is written later.
    let mut writes = vec![(out, vec![0xff; plan.buffers[out.index].bytes])];
    writes.extend(inputs.iter().zip(values).map(bytes));
    numbers(&run_once(device, plan, &writes, out).unwrap(), out.element, activation)
}
