//! What a frame takes, told without computing it: the `plan` device's record in words and numbers.

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::device::{Element, cpu, cuda, plan};
use crate::engine::DeviceChoice;
use crate::error::Result;
use crate::memory;
use crate::model::config::Config;
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Outputs};

/// Operations, buffers and memory of one frame (mask only).
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    #[serde(rename = "operations")]
    pub ops: Vec<PlanOp>,
    pub buffers: Vec<PlanBuffer>,
    pub arena_bytes: usize,
    /// The weights of image and text side, without the label bank, as the device keeps them, at most.
    pub weight_bytes: u64,
    /// What loading them takes beside that, and keeps of it, in the host's memory.
    pub loading_bytes: u64,
    /// A frame, at most: the arena, each CPU thread's own memory or a GPU's staging, the photo and its results.
    pub frame_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct PlanOp {
    /// "block 3"
    pub scope: String,
    #[serde(rename = "operation")]
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

#[derive(Clone, Debug, Serialize)]
pub struct PlanBuffer {
    pub name: String,
    pub shape: String,
    pub dtype: &'static str,
    pub bytes: usize,
    /// Bytes from the arena's start.
    pub offset: usize,
    /// Numbers of the first and the last operation that use it.
    #[serde(rename = "first_operation")]
    pub first_op: usize,
    #[serde(rename = "last_operation")]
    pub last_op: usize,
}

/// Plans one photo of the network's size, for a number of labels, on the CPU or on a GPU. Reads no weights and needs no GPU.
///
/// # Errors
/// None for a configuration that has been checked.
pub fn plan(
    checkpoint: &Checkpoint,
    config: &Config,
    (height, width): (usize, usize),
    labels: usize,
    device: DeviceChoice,
) -> Result<PlanReport> {
    let is_gpu = matches!(device, DeviceChoice::Cuda(_));
    let value_bytes = if is_gpu { 2 } else { 4 };
    let mut loader = Loader::shapes(checkpoint);
    let model = Model::load(config, &mut loader)?;
    let shape = FrameShape { batch: 1, photo: (height, width), network: (height, width) };
    let outputs = Outputs { mask: true, ..Outputs::default() };
    let bank = model.head.similarity_shape(labels);
    let plan = plan::record(value_bytes, &[], |d| {
        model.forward(d, shape, Some(&bank), outputs);
    });
    let weights = loader.weights();
    let weight_bytes = if is_gpu { cuda::weight_bytes(weights) } else { cpu::weight_bytes(weights) };
    let pass = if is_gpu { cuda::pass_need(&plan) } else { cpu::pass_need(&plan, None) };
    let loading = loader.need(0);
    Ok(PlanReport {
        ops: plan.ops.iter().map(PlanOp::from).collect(),
        buffers: plan.buffers.iter().map(|planned| buffer(planned, value_bytes)).collect(),
        arena_bytes: plan.arena_bytes,
        weight_bytes,
        loading_bytes: loading.total(),
        frame_bytes: memory::of_pass(&plan, pass).total(),
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

fn buffer(buffer: &plan::Planned, value_bytes: usize) -> PlanBuffer {
    PlanBuffer {
        name: buffer.name.to_owned(),
        shape: buffer.shape.map(|n| n.to_string()).join("×"),
        dtype: match buffer.element {
            Element::Activation if value_bytes == 2 => "f16",
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
