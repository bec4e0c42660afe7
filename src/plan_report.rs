//! What a frame takes, told without computing it: the `plan` device's record in words and numbers.

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::device::cuda::{GpuLimits, Launch};
use crate::device::{DeviceChoice, cpu, cuda};
use crate::error::Result;
use crate::memory;
use crate::model::config::Config;
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Outputs};
use crate::ops::{Element, Step};
use crate::pixels::Format;
use crate::plan::{self, Plan, Planned};

/// Operations, buffers and memory of one frame (mask only).
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    #[serde(rename = "operations")]
    pub ops: Vec<PlanOp>,
    /// On a GPU that was named: whether a kernel may begin before the one before it has ended, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<&'static str>,
    /// On a GPU that was named: which kernels its products run on, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub products: Option<&'static str>,
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
    /// On a GPU that was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<PlanLaunch>,
}

/// How a product or convolution is cut; of other operations nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cut {
    /// Rows and columns of a block's part, and in how many parts the depth is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tile: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// Of a cluster, blocks that share columns, and parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<[usize; 2]>,
}

/// A launch of a kernel, as it is compiled for a GPU that need not be here.
#[derive(Clone, Debug, Serialize)]
pub struct PlanLaunch {
    pub kernel: &'static str,
    #[serde(flatten)]
    pub cut: Cut,
    pub grid: [u32; 3],
    /// How often the GPU's multiprocessors must be filled with its blocks.
    pub waves: f64,
    /// Clocks by the model that chose the tile: a prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_clocks: Option<f64>,
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

/// Plans one photo of the network's size, for a number of labels, on the CPU or on a GPU; where that is named by its limits, down to
/// its kernels. Reads no weights and needs no GPU.
///
/// # Errors
/// An operation that the GPU does not compute.
pub fn plan(
    checkpoint: &Checkpoint,
    config: &Config,
    (height, width): (usize, usize),
    labels: usize,
    device: DeviceChoice,
    gpu: Option<GpuLimits>,
) -> Result<PlanReport> {
    let is_gpu = gpu.is_some() || matches!(device, DeviceChoice::Cuda(_));
    let value_bytes = if is_gpu { 2 } else { 4 };
    let mut loader = Loader::shapes(checkpoint);
    let model = Model::load(config, &mut loader)?;
    let shape = FrameShape {
        batch: 1,
        photo: (height, width),
        format: Format::Rgb8,
        network: (height, width),
        normalisation: None,
    };
    let bank = model.head.bank_shape(labels);
    let (plan, _) = plan::record(value_bytes, &[], |d| model.forward(d, shape, Some(&bank), Outputs::MASK));
    report(&loader, plan, is_gpu, gpu)
}

/// A plan of that model's, in words and numbers.
///
/// # Errors
/// As [`plan`].
pub(crate) fn report(loader: &Loader<'_>, plan: Plan, is_gpu: bool, gpu: Option<GpuLimits>) -> Result<PlanReport> {
    let value_bytes = if is_gpu { 2 } else { 4 };
    let weights = loader.weights();
    let weight_bytes = if is_gpu { cuda::weight_bytes(weights) } else { cpu::weight_bytes(weights) };
    let pass = if is_gpu { cuda::pass_need(&plan) } else { cpu::pass_need(&plan, None) };
    let loading = loader.need(0);
    let mut ops: Vec<PlanOp> = plan.steps.iter().map(|step| PlanOp::of(step, value_bytes)).collect();
    if let Some(gpu) = gpu {
        let launches = cuda::compile(&plan, cuda::Target::absent(gpu))?;
        for (i, op) in ops.iter_mut().enumerate() {
            op.launches = launches.of_step(i).iter().map(|launch| PlanLaunch::of(launch, gpu)).collect();
        }
    }
    Ok(PlanReport {
        ops,
        overlap: gpu.map(GpuLimits::overlap),
        products: gpu.map(GpuLimits::products),
        buffers: plan.buffers.iter().map(|planned| buffer(planned, value_bytes)).collect(),
        arena_bytes: plan.arena_bytes,
        weight_bytes,
        loading_bytes: loading.total(),
        frame_bytes: memory::of_pass(&plan, pass).total(),
    })
}

impl PlanOp {
    /// Of a device whose activations take so many bytes a value.
    pub(crate) fn of(step: &Step, activation: usize) -> Self {
        let Step { op, scope: (name, index), .. } = step;
        PlanOp {
            scope: format!("{name} {index}"),
            op: op.name(),
            shapes: op.shapes(),
            gflop: op.flop() as f64 / 1e9,
            bytes: op.bytes(activation) as u64,
            launches: Vec::new(),
        }
    }
}

impl Cut {
    pub(crate) fn of(config: Option<cuda::Config>) -> Cut {
        Cut {
            tile: config.map(|config| [config.tile.rows, config.tile.columns]),
            parts: config.map(|config| config.parts),
            cluster: config.and_then(|config| config.tile.cluster()),
        }
    }
}

impl PlanLaunch {
    fn of(launch: &Launch, gpu: GpuLimits) -> Self {
        PlanLaunch {
            kernel: launch.kernel.name,
            cut: Cut::of(launch.config()),
            grid: launch.grid,
            waves: launch.waves(gpu),
            predicted_clocks: launch.tiling.map(|tiling| tiling.clocks(gpu)),
        }
    }
}

fn buffer(buffer: &Planned, value_bytes: usize) -> PlanBuffer {
    PlanBuffer {
        name: buffer.name.to_owned(),
        shape: buffer.shape.map(|n| n.to_string()).join("×"),
        dtype: match buffer.element {
            Element::Activation if value_bytes == 2 => "f16",
            Element::Activation | Element::F32 => "f32",
            Element::F16 => "f16",
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
