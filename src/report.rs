//! What a frame takes, told without computing it: the `plan` device's record in words and numbers.

use crate::device::{Element, plan};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Outputs};

/// Operations, buffers and memory of one frame (mask only) on the CPU device.
#[derive(Clone, Debug)]
pub struct PlanReport {
    pub ops: Vec<PlanOp>,
    pub buffers: Vec<PlanBuffer>,
    pub arena_bytes: usize,
    /// The weights of image and text side, without the label bank.
    pub weight_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct PlanOp {
    /// "block 3"
    pub scope: String,
    pub op: &'static str,
    pub shapes: String,
    pub gflop: f64,
    /// Activations and weights, each read or written once.
    pub bytes: u64,
}

/// An operation of the plan and what it took.
#[derive(Clone, Debug)]
pub struct OpTiming {
    pub op: PlanOp,
    pub seconds: f64,
}

#[derive(Clone, Debug)]
pub struct PlanBuffer {
    pub name: String,
    pub shape: String,
    pub dtype: &'static str,
    pub bytes: usize,
    /// Bytes from the arena's start.
    pub offset: usize,
    /// Numbers of the first and the last operation that use it.
    pub first_op: usize,
    pub last_op: usize,
}

/// Plans one photo of the network's size, for a number of labels. Reads no weights.
///
/// # Errors
/// None for a configuration that has been checked.
pub fn plan(config: &Config, height: usize, width: usize, labels: usize) -> Result<PlanReport> {
    let mut loader = Loader::shapes();
    let model = Model::load(config, &mut loader)?;
    let shape = FrameShape { batch: 1, photo: (height, width), network: (height, width) };
    let outputs = Outputs { mask: true, ..Outputs::default() };
    let bank = model.head.similarity_shape(labels);
    let plan = plan::record(4, &[], |d| {
        model.forward(d, shape, Some(&bank), outputs);
    });
    Ok(PlanReport {
        ops: plan.ops.iter().map(PlanOp::from).collect(),
        buffers: plan.buffers.iter().map(buffer).collect(),
        arena_bytes: plan.arena_bytes,
        weight_bytes: loader.bytes(),
    })
}

impl From<&plan::Op> for PlanOp {
    fn from(op: &plan::Op) -> Self {
        PlanOp {
            scope: format!("{} {}", op.scope.0, op.scope.1),
            op: op.name,
            shapes: op.shapes.clone(),
            gflop: op.flop as f64 / 1e9,
            bytes: op.bytes,
        }
    }
}

fn buffer(buffer: &plan::Planned) -> PlanBuffer {
    PlanBuffer {
        name: buffer.name.to_owned(),
        shape: buffer.shape.map(|n| n.to_string()).join("×"),
        dtype: match buffer.element {
            Element::Activation | Element::F32 => "f32",
            Element::U8 => "u8",
            Element::U16 => "u16",
            Element::U32 => "u32",
        },
        bytes: buffer.bytes,
        offset: buffer.offset,
        first_op: buffer.first,
        last_op: buffer.last,
    }
}
